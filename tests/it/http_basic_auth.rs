//! Name and password as a route asks for them, beside nginx's `auth_basic` with the same file.

use std::fs;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::process::Command;

use crate::origin::{OK, Origin};
use crate::peers::{own_address, serving, start};
use crate::rig::{Answer, Client, Rig, service};

/// Users of the password `secret`, each by another kind of hash.
const USERS: &str = "\
bcrypt:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW
sha256:$5$saltstring$C3o4O1TC6aRHF4FI.QSZMXtHbaj2gSXr4sUc/3NcUi.
sha512:$6$saltstring$AIsRs/Ee56G/tC8MEHhvReZTfx8u3rXXMl6eYrjCG9ibix19DxoMBLogdTET5Ukw9Sf7eZTITsuk0Ry5qulYz.
apr1:$apr1$saltsalt$LrttParrLPdxvgutaSXWJ0
md5:$1$saltsalt$9xy1btjgzLYfb7hivXtC//
sha1:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=
plain:{PLAIN}secret
remark:{PLAIN}secret:of the night shift
";

async fn ask(at: SocketAddr, line: &str) -> Answer {
    let mut client = Client::connect(at).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n")).await;
    client.answer().await
}

fn line(pair: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(pair))
}

const ROUTE: &str = "[node]\nworkers = 1\n[listener.web.http]\nbind = [\"127.0.0.1:0\"]\n\
                     [route.all]\nlistener = \"web\"\nservice = \"web\"\n";

#[tokio::test]
async fn who_is_let_in_is_let_in_by_nginx_too() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::start(ROUTE, vec![service("web", &[origin.address])]).await;
    fs::write(rig.directory().join("users"), USERS).unwrap();
    rig.reload(&format!(
        "{ROUTE}basic_auth = {{ realm = \"the office\", users_file = \"users\" }}\n"
    ))
    .await;
    let at = own_address();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("users"), USERS).unwrap();
    let config = format!(
        "daemon off;\nmaster_process off;\nerror_log stderr crit;\npid nginx.pid;\nevents {{}}\n\
         http {{\naccess_log off;\nclient_body_temp_path body;\nproxy_temp_path proxy;\n\
         fastcgi_temp_path fastcgi;\nuwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n\
         server {{ listen {at}; auth_basic \"the office\";\n\
         auth_basic_user_file {};\nlocation / {{ proxy_pass http://{}; }} }} }}\n",
        directory.path().join("users").display(),
        origin.address
    );
    let file = directory.path().join("nginx.conf");
    fs::write(&file, config).unwrap();
    let mut nginx =
        start(Command::new("nginx").arg("-p").arg(directory.path()).arg("-c").arg(file));
    serving(&mut nginx, at).await;

    let mut lines = vec![
        String::new(),
        line("nobody:secret"),
        line(":secret"),
        line("plain"),
        "Authorization: Basic %%%\r\n".to_owned(),
        "Authorization: Bearer abc\r\n".to_owned(),
        format!("Authorization: bAsIc {}\r\n", STANDARD.encode("plain:secret")),
    ];
    for user in USERS.lines().filter_map(|line| line.split(':').next()) {
        for password in ["secret", "Secret", "secret ", ""] {
            lines.push(line(&format!("{user}:{password}")));
        }
    }
    let web = rig.address("web").await;
    for line in &lines {
        // Once to be verified, and once to be remembered.
        for _ in 0..2 {
            let (ours, theirs) = (ask(web, line).await, ask(at, line).await);
            let told = |answer: &Answer| {
                (answer.status, answer.header("www-authenticate").map(str::to_owned))
            };
            assert_eq!(told(&ours), told(&theirs), "{line:?}");
        }
    }
    nginx.kill().await.unwrap();
}

#[tokio::test]
async fn what_endpoints_see_of_it_and_what_a_reload_changes() {
    let origin = Origin::answering(OK).await;
    let rig = Rig::start(ROUTE, vec![service("web", &[origin.address])]).await;
    let web = rig.address("web").await;
    let told = |hash: &str, more: &str| {
        format!("{ROUTE}basic_auth = {{ realm = \"a\", users = {{ ada = \"{hash}\" }}{more} }}\n")
    };
    rig.reload(&told("{PLAIN}one", "")).await;
    assert_eq!(ask(web, &line("ada:one")).await.status, 200);
    assert!(!origin.text().to_lowercase().contains("authorization"), "{}", origin.text());
    assert_eq!(ask(web, &line("ada:two")).await.status, 401);
    rig.metric_is("portolan_proxy_auth_total{result=\"wrong\"}", 1.0).await;

    rig.reload(&told("{PLAIN}two", ", forward = true")).await;
    assert_eq!(
        ask(web, &line("ada:one")).await.status,
        401,
        "what was remembered is worth nothing"
    );
    assert_eq!(ask(web, &line("ada:two")).await.status, 200);
    assert!(origin.text().contains(line("ada:two").trim_end()), "{}", origin.text());

    // Nothing of it is in the answers, nor is a refusal an end of the connection.
    let mut client = Client::connect(web).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", line("ada:no"))).await;
    let refused = client.answer().await;
    assert_eq!(
        (refused.status, refused.header("www-authenticate")),
        (401, Some("Basic realm=\"a\""))
    );
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", line("ada:two"))).await;
    assert_eq!(client.answer().await.status, 200);
}
