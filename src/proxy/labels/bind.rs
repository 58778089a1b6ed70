//! `HAPROXY_{n}_BIND_OPTIONS`: what stands behind the address of a `bind` line.

use super::extras::Cost;
use super::wish::cut;

/// Options about TLS, which the https listener decides here, with how many words follow each.
const TLS: [(&str, usize); 22] = [
    ("alpn", 1),
    ("npn", 1),
    ("ciphers", 1),
    ("ciphersuites", 1),
    ("curves", 1),
    ("ecdhe", 1),
    ("crt", 1),
    ("crt-list", 1),
    ("ssl-min-ver", 1),
    ("ssl-max-ver", 1),
    ("force-sslv3", 0),
    ("force-tlsv10", 0),
    ("force-tlsv11", 0),
    ("force-tlsv12", 0),
    ("force-tlsv13", 0),
    ("no-sslv3", 0),
    ("no-tlsv10", 0),
    ("no-tlsv11", 0),
    ("no-tlsv12", 0),
    ("no-tlsv13", 0),
    ("no-tls-tickets", 0),
    ("prefer-client-ciphers", 0),
];

/// Options that say nothing that differs here.
const PLAIN: [(&str, usize); 15] = [
    ("backlog", 1),
    ("defer-accept", 0),
    ("id", 1),
    ("level", 1),
    ("mss", 1),
    ("name", 1),
    ("nice", 1),
    ("process", 1),
    ("shards", 1),
    ("tcp-ut", 1),
    ("tfo", 0),
    ("thread", 1),
    ("transparent", 0),
    ("v4v6", 0),
    ("v6only", 0),
];

/// Reads options. Whether clients speak TLS by them.
pub(super) fn options(text: &str, https: bool, tell: &mut dyn FnMut(Cost, String)) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (mut ssl, mut about_tls) = (false, None);
    let mut left = words.as_slice();
    while let [option, rest @ ..] = left {
        let of = |table: &[(&str, usize)]| {
            table.iter().find(|(known, _)| known == option).map(|(_, taken)| *taken)
        };
        let mut taken = 0;
        match *option {
            "ssl" => ssl = true,
            "accept-proxy" | "accept-netscaler-cip" => tell(
                Cost::Port,
                format!(
                    "{option:?}: a port of an app can't say who may tell of clients; write a \
                     [listener] with proxy_protocol"
                ),
            ),
            "verify" if rest.first() == Some(&"none") => taken = 1,
            "verify" | "ca-file" | "ca-verify-file" | "crl-file" | "strict-sni" => tell(
                Cost::Port,
                format!(
                    "{option:?}: who shows which certificate is said by `tls` of the listener that \
                     `https` in [labels.marathon-lb] names"
                ),
            ),
            "interface" | "namespace" | "maxconn" => {
                taken = 1;
                tell(
                    if *option == "maxconn" { Cost::Told } else { Cost::Port },
                    format!("{option:?} has no counterpart for ports of apps"),
                );
            }
            _ => match (of(&TLS), of(&PLAIN)) {
                (Some(own), _) => {
                    taken = own;
                    about_tls.get_or_insert(*option);
                }
                (None, Some(own)) => taken = own,
                (None, None) => {
                    tell(Cost::Told, format!("{:?} is not understood", cut(option)));
                }
            },
        }
        left = rest.get(taken..).unwrap_or_default();
    }
    if let Some(option) = about_tls {
        let what = "TLS is as the listener has it that `https` in [labels.marathon-lb] names";
        tell(Cost::Told, format!("{option:?} is passed over: {what}"));
    }
    if ssl && !https {
        let what = "\"ssl\" needs `https` in [labels.marathon-lb]: a listener whose certificates are \
                    shown";
        tell(Cost::Port, what.into());
    }
    ssl
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_understood_passed_over_or_refused_with_the_port() {
        for (text, https, ssl, want) in [
            ("", false, false, &[][..]),
            ("ssl crt /etc/ssl/a.pem", true, true, &[(Cost::Told, "\"crt\" is passed over")][..]),
            ("ssl", false, true, &[(Cost::Port, "needs `https`")]),
            (
                "ciphers AES128+EECDH:AES128+EDH force-tlsv12 no-sslv3 no-tlsv10",
                true,
                false,
                &[(Cost::Told, "\"ciphers\" is passed over")],
            ),
            ("accept-proxy", true, false, &[(Cost::Port, "proxy_protocol")]),
            ("verify none", true, false, &[]),
            (
                "verify required",
                true,
                false,
                &[(Cost::Port, "certificate"), (Cost::Told, "required")],
            ),
            ("defer-accept name x tfo", true, false, &[]),
            ("interface eth0", true, false, &[(Cost::Port, "interface")]),
            ("maxconn 100", true, false, &[(Cost::Told, "maxconn")]),
            ("whatever", true, false, &[(Cost::Told, "not understood")]),
            ("alpn", true, false, &[(Cost::Told, "alpn")]),
        ] {
            let mut told = Vec::new();
            let got = options(text, https, &mut |cost, what| told.push((cost, what)));
            assert_eq!(got, ssl, "{text}");
            assert_eq!(told.len(), want.len(), "{text}: {told:?}");
            for ((cost, what), (want, part)) in told.iter().zip(want) {
                assert!(cost == want && what.contains(part), "{text}: {told:?}");
            }
        }
    }
}
