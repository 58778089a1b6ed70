use std::path::Path;
use std::sync::Arc;

use super::PROTOCOLS;
use crate::config::parse;

/// Writes a certificate for `a.example` as `a.crt` and `a.key`.
fn certificate(dir: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    std::fs::write(dir.join("a.crt"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("a.key"), made.signing_key.serialize_pem()).unwrap();
}

const CERTIFICATE: &str = "[certificate.a]\ncert_file = \"a.crt\"\nkey_file = \"a.key\"\n";
const TCP: &str = "[listener.x.tcp]\nbind = [\"127.0.0.1:1\"]\nservice = \"a\"\n";
const TLS: &str = "[listener.x.tls]\nbind = [\"127.0.0.1:1\"]\n";
const ROUTE: &str = "[route.r]\nlistener = \"x\"\nservice = \"a\"\n";
const HTTPS: &str = "[listener.x.https]\nbind = [\"127.0.0.1:1\"]\n";

#[test]
fn what_cannot_be_about_tls_is_told_at_its_key() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path());
    for (case, text, want) in [
        ("fine", format!("{CERTIFICATE}{HTTPS}"), None),
        (
            "fine, with everything",
            format!(
                "{CERTIFICATE}{HTTPS}certificates = [\"a\"]\nunknown_name = \"refuse\"\n\
             protocols = [\"http/1.1\"]\n[listener.x.https.tls]\nmin = \"1.3\"\n\
             client_certificate = \"optional\"\nclient_ca_file = \"a.crt\"\nclient_headers = true\n"
            ),
            None,
        ),
        (
            "no certificate at all",
            HTTPS.to_owned(),
            Some(
                "p.toml:1:13: there is no certificate to show; add [certificate.NAME] with cert_file and \
             key_file",
            ),
        ),
        (
            "an unknown one",
            format!("{CERTIFICATE}{HTTPS}certificates = [\"b\"]\n"),
            Some("p.toml:6:1: there is no [certificate.b]; there are: a"),
        ),
        (
            "none of them",
            format!("{CERTIFICATE}{HTTPS}certificates = []\n"),
            Some(
                "p.toml:6:1: `certificates` is empty; name at least one, or leave it out for all of them",
            ),
        ),
        (
            "no protocol",
            format!("{CERTIFICATE}{HTTPS}protocols = []\n"),
            Some("p.toml:6:1: `protocols` is empty; name at least one, or leave it out"),
        ),
        (
            "a file that is gone",
            "[certificate.a]\ncert_file = \"no.crt\"\nkey_file = \"a.key\"\n".into(),
            Some("p.toml:2:1: cannot use cert_file "),
        ),
        (
            "tls keys of an http listener",
            "[listener.x.http]\nbind = [\"127.0.0.1:1\"]\ntls = {}\n".into(),
            Some(
                "p.toml:3:1: `tls` is about TLS, which an http listener does not speak; take it away, or \
             call the table [listener.x.https]",
            ),
        ),
        (
            "nobody to verify",
            format!("{CERTIFICATE}{HTTPS}tls = {{ client_certificate = \"required\" }}\n"),
            Some("p.toml:6:9: clients' certificates are verified by `client_ca_file`; add it"),
        ),
        (
            "nobody asked",
            format!("{CERTIFICATE}{HTTPS}tls = {{ client_ca_file = \"a.crt\" }}\n"),
            Some(
                "p.toml:6:9: nobody is asked for a certificate; add client_certificate = \"required\" or \
             \"optional\"",
            ),
        ),
        (
            "no authority",
            format!(
                "{CERTIFICATE}{HTTPS}tls = {{ client_ca_file = \"no\", client_certificate = \"required\" }}\n"
            ),
            Some("p.toml:6:9: cannot use client_ca_file "),
        ),
        (
            "nothing to tell",
            format!("{CERTIFICATE}{HTTPS}tls = {{ client_headers = true }}\n"),
            Some(
                "p.toml:6:9: there is no client's certificate to tell of; add client_certificate = \
             \"required\" or \"optional\"",
            ),
        ),
        (
            "no time",
            format!("{CERTIFICATE}{HTTPS}tls = {{ handshake_timeout = \"0\" }}\n"),
            Some("p.toml:6:9: no client shakes hands in no time; raise it"),
        ),
        (
            "nobody",
            format!("{CERTIFICATE}{HTTPS}tls = {{ handshakes_max = 0 }}\n"),
            Some("p.toml:6:9: 0 would let nobody in; raise it"),
        ),
        (
            "an old version",
            format!("{CERTIFICATE}{HTTPS}tls = {{ min = \"SSL\" }}\n"),
            Some(
                "p.toml:6:15: unknown value `SSL` for `min` in [listener.x.https.tls]; known values: 1.2, \
             1.3",
            ),
        ),
        (
            "two kinds",
            format!("{CERTIFICATE}{HTTPS}[listener.x.http]\nbind = [\"127.0.0.1:2\"]\n"),
            Some(
                "p.toml:4:11: has exactly one kind: [listener.NAME.http], [listener.NAME.https], \
             [listener.NAME.tcp], [listener.NAME.tls] or [listener.NAME.udp]",
            ),
        ),
        ("bytes inside", format!("{CERTIFICATE}{TCP}protocols = [\"imap\"]\ntls = {{}}\n"), None),
        (
            "bytes inside, and no certificate",
            format!("{TCP}tls = {{}}\n"),
            Some(
                "p.toml:1:13: there is no certificate to show; add [certificate.NAME] with cert_file and \
             key_file",
            ),
        ),
        (
            "bytes have no headers",
            format!(
                "{CERTIFICATE}{TCP}[listener.x.tcp.tls]\nclient_certificate = \"optional\"\n\
                     client_ca_file = \"a.crt\"\nclient_headers = true\n"
            ),
            Some("p.toml:10:1: there are no headers in what is carried here; take it away"),
        ),
        ("passed on", format!("{TLS}{ROUTE}"), None),
        ("ended here", format!("{CERTIFICATE}{TLS}{ROUTE}terminate = true\n"), None),
        (
            "ended here, and no certificate",
            format!("{TLS}{ROUTE}terminate = true\n"),
            Some(
                "p.toml:1:13: there is no certificate to show; add [certificate.NAME] with cert_file and \
             key_file",
            ),
        ),
        (
            "nobody is shown it",
            format!("{CERTIFICATE}{TLS}certificates = [\"a\"]\n{ROUTE}"),
            Some(
                "p.toml:6:1: `certificates` is for routes with terminate = true, of which this listener \
             has none; take it away",
            ),
        ),
        (
            "a cookie",
            format!("{TLS}{ROUTE}sticky = {{ cookie = \"a\" }}\n"),
            Some("p.toml:6:1: `cookie` needs HTTP"),
        ),
        (
            "a large hello",
            format!("{TLS}hello_max = \"65KiB\"\n"),
            Some("p.toml:1:11: hello_max = \"65KiB\" is not between 512 and 64KiB"),
        ),
        (
            "a route about requests",
            format!("{TLS}{ROUTE}path = \"/a\"\n"),
            Some("p.toml:6:1: `path` is about requests, and a tls listener sees none"),
        ),
    ] {
        let told = match parse("p.toml", &text, dir.path(), &|_| None) {
            Ok(_) => None,
            Err(problems) => Some(problems.iter().map(ToString::to_string).collect::<String>()),
        };
        let fits = match (&told, want) {
            (Some(told), Some(want)) => told.starts_with(want),
            (told, want) => told.is_none() && want.is_none(),
        };
        assert!(fits, "{case}: {told:?}\nwanted {want:?}");
    }
}

#[test]
fn a_listener_takes_every_certificate_and_both_protocols_unless_told() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path());
    let second = CERTIFICATE.replace("[certificate.a]", "[certificate.b]");
    let text = format!("{CERTIFICATE}{second}{HTTPS}");
    let loaded = parse("p.toml", &text, dir.path(), &|_| None).unwrap();
    let listener = &loaded.prepared.tls.listeners[0];
    assert_eq!(listener.certificates, [Arc::from("a"), Arc::from("b")]);
    assert_eq!(listener.protocols, PROTOCOLS.map(|protocol| protocol.id().to_vec()));
    assert_eq!(loaded.prepared.tls.certificates.len(), 2);
}
