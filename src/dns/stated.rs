//! Records as the configuration states them: `"A 10.0.0.1"`.

use std::net::IpAddr;

use super::node::{Data, Srv};
use super::wire::Name;

/// The name that `text` means below `apex`: `@` is the apex itself.
pub(super) fn owner_of(apex: &Name, text: &str) -> Result<Name, String> {
    if text == "@" { Ok(apex.clone()) } else { apex.under(text) }
}

/// A record as it is written: its type, then its data.
///
/// # Errors
/// Names the text and the forms that there are.
pub(super) fn record(text: &str) -> Result<Data, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let name = |text: &str| Name::parse(text);
    let number = |text: &str| {
        text.parse::<u16>().map_err(|_| format!("{text:?} is no number from 0 to 65535"))
    };
    let of = |family: fn(&IpAddr) -> bool, ip: &str| {
        let ip = ip.parse::<IpAddr>().ok().filter(family);
        ip.map(Data::address).ok_or_else(|| "that is no such address".to_owned())
    };
    let read = match words[..] {
        ["A", ip] => of(IpAddr::is_ipv4, ip),
        ["AAAA", ip] => of(IpAddr::is_ipv6, ip),
        ["CNAME", target] => name(target).map(Data::Cname),
        ["NS", target] => name(target).map(Data::Ns),
        ["PTR", target] => name(target).map(Data::Ptr),
        ["MX", preference, target] => {
            number(preference).and_then(|number| Ok(Data::Mx(number, name(target)?)))
        }
        ["SRV", priority, weight, port, target] => number(priority).and_then(|priority| {
            let (weight, port, target) = (number(weight)?, number(port)?, name(target)?);
            Ok(Data::Srv(Srv { target, port, priority, weight, glue: None }))
        }),
        ["TXT", ..] => Ok(Data::text(text.trim_start()["TXT".len()..].trim())),
        _ => {
            Err("there are A, AAAA, CNAME, MX, NS, PTR, SRV and TXT, each with its data".to_owned())
        }
    };
    read.map_err(|error| format!("{text:?}: {error}; write it as \"A 10.0.0.1\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_its_type_and_its_data_and_anything_else_is_told() {
        for (text, want) in [
            ("A 10.0.0.1", Ok("A 10.0.0.1")),
            ("AAAA fd00::1", Ok("AAAA fd00::1")),
            ("CNAME Web.Example", Ok("CNAME web.example.")),
            ("MX 10 mail.example", Ok("MX 10 mail.example.")),
            ("SRV 1 2 80 h.example", Ok("SRV 1 2 80 h.example.")),
            ("TXT", Ok("TXT \"\\0\"")),
            ("A fd00::1", Err("no such address")),
            ("SRV 1 2 70000 h", Err("\"70000\" is no number")),
            ("SPF x", Err("there are A, AAAA")),
            ("", Err("there are A, AAAA")),
        ] {
            match (record(text), want) {
                (Ok(data), Ok(want)) => assert_eq!(data.to_string(), want, "{text}"),
                (Err(error), Err(want)) => assert!(error.contains(want), "{text}: {error}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }
}
