use std::process::Stdio;
use std::sync::Arc;

use super::*;

fn action(text: &str) -> Action {
    let text = format!("source = \"a.j2\"\ndestination = \"a\"\n{text}");
    let config: ResourceConfig = toml::from_str(&text).unwrap();
    Action::of(&config, Path::new("/out/a b"), Path::new("/etc/portolan")).unwrap()
}

#[test]
fn equal_ways_to_tell_are_one_and_others_are_not() {
    let ways = [
        "reload = \"nginx -s reload\"",
        "reload = [\"nginx\", \"-s\", \"reload\"]",
        "reload = [\"nginx\", \"-s reload\"]",
        "reload = \"cat {{.dest}}\"",
        "reload_signal = { pid_file = \"/run/a.pid\" }",
        "reload_signal = { pid_file = \"/run/a.pid\", signal = \"USR1\" }",
        "reload_signal = { pid_file = \"a.pid\" }",
        "reload_http = { post = \"http://a/reload\" }",
        "reload_http = { put = \"http://a/reload\" }",
        "reload_http = { post = \"http://a/reload\", headers = { token = \"x\" } }",
        "reload_http = { post = \"http://a/reload\", body = \"x\" }",
    ];
    let identities: std::collections::BTreeSet<_> =
        ways.iter().map(|way| action(way).identity()).collect();
    assert_eq!(identities.len(), ways.len());
    assert_eq!(
        action(ways[4]).identity(),
        action("reload_signal = { pid_file = \"/run/a.pid\", signal = \"SIGHUP\" }").identity()
    );
    assert_eq!(action(ways[3]), Action::Command("cat '/out/a b'".into()));
    assert_eq!(action(ways[6]).to_string(), "HUP by /etc/portolan/a.pid");
    assert_eq!(action(ways[9]).to_string(), "POST to a", "no header, no path");
}

#[tokio::test]
async fn a_signal_goes_to_the_process_of_the_file_and_failures_name_it() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("a.pid");
    let action = Action::Signal { pid_file: pid_file.clone(), signal: "TERM".parse().unwrap() };
    let limit = Duration::from_secs(20);
    let error = action.run(None, limit).await.unwrap_err();
    assert!(error.contains("cannot read") && error.ends_with("does the reader run?"), "{error}");
    for (text, told) in [
        ("none\n", "finds no number"),
        ("0", "finds no number"),
        ("-1", "finds no number"),
        ("4999999\n", "finds no process 4999999"),
    ] {
        std::fs::write(&pid_file, text).unwrap();
        let error = action.run(None, limit).await.unwrap_err();
        assert!(error.contains(told), "{text:?}: {error}");
    }
    let mut reader = tokio::process::Command::new("sleep")
        .arg("600")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    std::fs::write(&pid_file, format!("{}\n", reader.id().unwrap())).unwrap();
    action.run(None, limit).await.unwrap();
    assert!(!reader.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_request_is_sent_as_stated_and_only_success_is_one() {
    use axum::http::{HeaderMap, StatusCode, Uri};

    let answer = |method: Method, uri: Uri, headers: HeaderMap, body: String| async move {
        let token = headers.get("token").and_then(|value| value.to_str().ok()).unwrap_or("none");
        match uri.path() {
            "/hang" => std::future::pending().await,
            "/moved" => (StatusCode::FOUND, String::new()),
            _ => {
                let said = format!("{method} {uri} {token} {body}");
                let fine = said == "PUT /reload?now=1 secret please";
                (if fine { StatusCode::NO_CONTENT } else { StatusCode::CONFLICT }, said)
            }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = axum::Router::new().fallback(answer);
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let tell = |way: &str, limit: Duration| {
        let action = Arc::new(action(
            &format!("reload_http = {{ {way} }}").replace("PORT", &port.to_string()),
        ));
        async move { action.run(action.client().as_ref(), limit).await }
    };
    let long = Duration::from_secs(20);
    let fine = "put = \"http://127.0.0.1:PORT/reload?now=1\", body = \"please\", headers = { token = \"secret\" }";
    assert_eq!(tell(fine, long).await, Ok(()));
    let error = tell("post = \"http://127.0.0.1:PORT/x\"", long).await.unwrap_err();
    let told = format!("was answered with 409 Conflict by 127.0.0.1:{port}: POST /x none");
    assert_eq!(error, told);
    let error = tell("get = \"http://127.0.0.1:PORT/moved\"", long).await.unwrap_err();
    assert!(error.contains("302 Found"), "{error}");
    let error = tell("get = \"http://127.0.0.1:PORT/hang\"", Duration::from_millis(200)).await;
    assert!(error.unwrap_err().contains("200ms"));
    server.abort();
    let _ = server.await;
    let error = tell("get = \"http://127.0.0.1:PORT/\"", long).await.unwrap_err();
    assert!(error.starts_with("could not ask 127.0.0.1:"), "{error}");
}
