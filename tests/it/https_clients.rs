//! Clients of others over TLS: OpenSSL, curl, testssl.sh.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::origin::{OK, Origin};
use crate::peers::output;
use crate::rig::{Rig, within};
use crate::secure::Authority;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

async fn rig(more: &str) -> (Authority, Origin, Rig) {
    let authority = Authority::new();
    authority.server("a", &["a.example"]);
    let origin = Origin::answering(OK).await;
    let rig = authority.rig(&["a"], more, &[origin.address]).await;
    (authority, origin, rig)
}

/// What `openssl s_client` prints that says `input` to `at` and waits for its end.
async fn s_client(at: SocketAddr, more: &[&str], input: &str) -> String {
    // Without this, a line that begins with `R` is the wish to negotiate anew.
    let to_the_end = if input.starts_with('R') { &[][..] } else { &["-ign_eof"] };
    let mut child = Command::new("openssl")
        .arg("s_client")
        .args(to_the_end)
        .args(["-servername", "a.example", "-connect", &at.to_string()])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may have given up before.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = within("openssl", child.wait_with_output()).await.unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn openssl_resumes_sessions_of_both_versions_and_sends_no_early_data() {
    let (authority, origin, rig) = rig("").await;
    let at = rig.address("web").await;
    let early = authority.path("early");
    std::fs::write(&early, "POST /early HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    for (version, number) in [("-tls1_2", "1.2"), ("-tls1_3", "1.3")] {
        let session = authority.path(version).display().to_string();
        let first = s_client(at, &[version, "-sess_out", &session], REQUEST).await;
        assert!(first.contains("New, TLSv") && first.contains("200 OK"), "{version}: {first}");
        let second = s_client(at, &[version, "-sess_in", &session], REQUEST).await;
        assert!(
            second.contains("Reused, TLSv") && second.contains("200 OK"),
            "{version}: {second}"
        );
        let resumed = format!(
            "portolan_tls_sessions_total{{listener=\"web\",resumed=\"true\",version=\"{number}\"}}"
        );
        rig.metric_is(&resumed, 1.0).await;
    }
    let session = authority.path("-tls1_3").display().to_string();
    let early = early.display().to_string();
    let arguments = ["-tls1_3", "-sess_in", &session, "-early_data", &early];
    let told = s_client(at, &arguments, REQUEST).await;
    assert!(told.contains("Early data was not sent"), "{told}");
    assert!(!origin.text().contains("/early"));
}

#[tokio::test]
async fn nobody_negotiates_anew() {
    let (_authority, _origin, rig) = rig("").await;
    let told = s_client(rig.address("web").await, &["-tls1_2"], "R\n").await;
    assert!(told.contains("RENEGOTIATING"), "{told}");
    assert!(told.contains("no renegotiation") || told.contains("error"), "{told}");
    assert!(!told.contains("200 OK"), "{told}");
}

#[tokio::test]
async fn curl_verifies_and_asks() {
    let (authority, _origin, rig) = rig("").await;
    let at = rig.address("web").await;
    let (ca, port) = (authority.path("ca.pem").display().to_string(), at.port());
    let resolve = format!("a.example:{port}:{}", at.ip());
    let url = format!("https://a.example:{port}/");
    for version in ["1.2", "1.3"] {
        for (flag, protocol) in [("--http2", "2"), ("--http1.1", "1.1")] {
            let told = " by %{http_version}";
            let known = ["-sS", "--cacert", &ca, "--resolve", &resolve, "--tls-max", version];
            let arguments = [&known[..], &[flag, "-w", told, &url]].concat();
            let answer = output("curl", &arguments).await;
            assert_eq!(answer, format!("ok by {protocol}"), "{version}");
        }
    }
}

/// What testssl.sh has found in `file`, from LOW on, and how many findings there are.
fn findings(file: &Path) -> (Vec<String>, usize) {
    let found: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let found = found.as_array().unwrap();
    let word = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let bad = found.iter().filter(|finding| {
        ["LOW", "MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL"]
            .contains(&&*word(finding, "severity"))
    });
    let told = |finding: &Value| {
        let [severity, id, text] = ["severity", "id", "finding"].map(|key| word(finding, key));
        format!("{severity} {id}: {text}")
    };
    (bad.map(told).collect(), found.len())
}

/// Takes a minute or two, so that `make soak` runs it.
#[tokio::test]
#[ignore = "takes minutes; make soak runs it"]
async fn testssl_finds_nothing_of_medium_or_above() {
    // It looks at headers too, which are the application's to set.
    let headers = "[route.all.response_headers.set]\n\
                   Strict-Transport-Security = \"max-age=31536000\"\nX-Frame-Options = \"DENY\"\n\
                   X-Content-Type-Options = \"nosniff\"\n\
                   Content-Security-Policy = \"default-src 'none'\"\n";
    let (authority, _origin, rig) = rig(headers).await;
    let at = rig.address("web").await;
    let (ca, json) = (authority.path("ca.pem"), authority.path("testssl.json"));
    let mut command = Command::new("testssl");
    command
        .args(["--quiet", "--warnings", "off", "--color", "0", "--nodns", "none"])
        .args(["--add-ca", &ca.display().to_string(), "--jsonfile", &json.display().to_string()])
        .args(["--ip", &at.ip().to_string(), &format!("a.example:{}", at.port())])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ran = tokio::time::timeout(std::time::Duration::from_secs(900), command.output()).await;
    let ran = ran.expect("testssl.sh takes a few minutes").expect("scripts/install-peers --debian");
    let printed = String::from_utf8_lossy(&ran.stdout);
    let (found, all) = findings(&json);
    println!("{printed}\n{all} findings, from LOW on: {found:#?}");
    assert!(all > 100, "{printed}");
    // WARN: something that it could not look at.
    let harmless = |finding: &&String| !finding.starts_with("LOW") && !finding.starts_with("WARN");
    let bad = found.iter().filter(harmless);
    assert_eq!(bad.collect::<Vec<_>>(), [""; 0]);
}
