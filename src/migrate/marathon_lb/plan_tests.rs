use super::*;

fn made(arguments: &str, variables: &[(&str, &str)], directory: &Path) -> Result<Plan, String> {
    let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
    let variable = |name: &str| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    plan(Input { arguments: &arguments, variable: &variable, directory })
        .map_err(|refused| refused.to_string())
}

#[test]
fn the_usual_command_line_comes_to_listeners_labels_and_a_registry() {
    let directory = tempfile::tempdir().unwrap();
    let plan = made(
        "sse --marathon http://m1:8080/ http://m2:8080 --group external --haproxy-map \
         --ssl-certs /etc/ssl/a.pem,/etc/ssl/b.pem --health-check",
        &[("PORTS", "80,443,9090"), ("FRAMEWORK_NAME", "marathon-lb")],
        directory.path(),
    )
    .unwrap();
    assert_eq!(plan.text, "\
[registry.marathon.marathon]
urls = [\"http://m1:8080\", \"http://m2:8080\"]

[labels.marathon-lb]
group = [\"external\"]
http = \"marathon_http_in\"
https = \"marathon_https_in\"
app_id = \"marathon_http_appid_in\"
except = [\"/marathon-lb\"]
http_timeouts = { request_head = \"15s\", read = \"30s\", idle = \"1s\", connect = \"3s\", tunnel = \"1h\" }

[listener.marathon_http_in.http]
bind = [\"0.0.0.0:80\"]
timeouts = { request_head = \"15s\", read = \"30s\", idle = \"1s\", connect = \"3s\", tunnel = \"1h\" }

[listener.marathon_https_in.https]
bind = [\"0.0.0.0:443\"]
certificates = [\"a\", \"b\"]
timeouts = { request_head = \"15s\", read = \"30s\", idle = \"1s\", connect = \"3s\", tunnel = \"1h\" }

[certificate.a]
cert_file = \"/etc/ssl/a.pem\"
key_file = \"/etc/ssl/a.pem\"

[certificate.b]
cert_file = \"/etc/ssl/b.pem\"
key_file = \"/etc/ssl/b.pem\"

[listener.marathon_http_appid_in.http]
bind = [\"0.0.0.0:9091\"]
timeouts = { request_head = \"15s\", read = \"30s\", idle = \"1s\", connect = \"3s\", tunnel = \"1h\" }

[haproxy]
listen = \"0.0.0.0:9090\"
signals = true

[health]
from_registry = true

[limits]
connections = 50000
");
    let told: Vec<&str> = plan.notices.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(told, ["--haproxy-map", "PORTS"]);
    assert_eq!(plan.differences.len(), 2, "{:#?}", plan.differences);
}

#[test]
fn every_flag_is_a_line_a_difference_or_a_notice() {
    let directory = tempfile::tempdir().unwrap();
    let usual = made("--group a --ssl-certs a.pem", &[], directory.path()).unwrap();
    for (flag, line, difference, notice) in [
        ("--strict-mode", "strict = true", "", ""),
        ("--marathon https://m", "urls = [\"https://m\"]", "verify = false", ""),
        ("--marathon https://m --marathon-ca-cert ca.pem", "/ca.pem\"", "", ""),
        ("--dcos-auth-credentials x", "", "token_file", ""),
        (
            "--min-serv-port-ip-per-task 20000 --max-serv-port-ip-per-task 20100",
            "assigned = [\"20000-20100\"]",
            "",
            "",
        ),
        ("--min-serv-port-ip-per-task 0 --max-serv-port-ip-per-task 0", "assigned = []", "", ""),
        ("--dont-bind-http-https", "bind = [\"127.0.0.1:8443\"]", "take it away", ""),
        ("--group-https-by-vhost", "", "among those of [listener.marathon_https_in.https]", ""),
        ("--group b", "group = [\"a\", \"b\"]", "", ""),
        ("--sse", "", "", ""),
        ("--health-check", "", "", ""),
        ("--dry", "", "", "--dry"),
        ("--haproxy-config /a", "", "", "--haproxy-config"),
        ("-c reload", "", "", "--command"),
        ("--max-reload-retries 1", "", "", "--max-reload-retries"),
        ("--reload-interval 1", "", "", "--reload-interval"),
        ("--archive-versions 1", "", "", "--archive-versions"),
        ("--lru-cache-capacity 1", "", "", "apps_max"),
        ("--skip-validation", "", "", "--skip-validation"),
        ("--skip-config-cleanup", "", "", "--skip-config-cleanup"),
        ("--max-backoff 1", "", "", "backoff_max"),
        ("--syslog-socket /dev/null", "", "", "--syslog-socket"),
        ("--log-format x", "", "", "--log-format"),
        ("--log-level debug", "", "", "--log-level"),
        ("-l :8080", "", "", "--listening"),
        ("-u http://a", "", "", "--callback-url"),
    ] {
        let plan =
            made(&format!("--group a --ssl-certs a.pem {flag}"), &[], directory.path()).unwrap();
        assert!(plan.text.contains(line), "{flag}: {}", plan.text);
        let new = |all: &[String], before: &[String]| -> Vec<String> {
            all.iter().filter(|line| !before.contains(line)).cloned().collect()
        };
        let differences = new(&plan.differences, &usual.differences);
        assert_eq!(
            differences.len(),
            usize::from(!difference.is_empty()),
            "{flag}: {differences:?}"
        );
        assert!(
            differences.iter().all(|line| line.contains(difference)),
            "{flag}: {differences:?}"
        );
        assert_eq!(
            plan.notices.len(),
            usize::from(!notice.is_empty()),
            "{flag}: {:?}",
            plan.notices
        );
        assert!(
            plan.notices.iter().all(|line| line.contains(notice)),
            "{flag}: {:?}",
            plan.notices
        );
    }
    for (arguments, want) in [
        ("", "needs --group"),
        ("sse", "needs --group"),
        ("--group a --max-serv-port-ip-per-task 1", "refuses"),
        ("--group a --min-serv-port-ip-per-task x", "is no port"),
    ] {
        let told = made(arguments, &[], directory.path()).unwrap_err();
        assert!(told.contains(want), "{arguments}: {told}");
    }
}

#[test]
fn secrets_stay_where_they_are_and_templates_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("credentials"), "ada:S3cret\n").unwrap();
    fs::create_dir_all(path.join("templates")).unwrap();
    fs::create_dir_all(path.join("sandbox/templates")).unwrap();
    fs::write(path.join("templates/HAPROXY_HEAD"), "global\n  secret S3cret").unwrap();
    fs::write(path.join("sandbox/templates/HAPROXY_BACKEND_HEAD"), "").unwrap();
    fs::write(path.join("templates/other"), "").unwrap();
    let plan = made(
        "sse --group external --marathon-auth-credential-file credentials",
        &[
            ("HAPROXY_SSL_CERT", "-----BEGIN S3cret"),
            ("HAPROXY_SSL_CERT3", "-----BEGIN S3cret"),
            ("MESOS_SANDBOX", "sandbox"),
        ],
        path,
    )
    .unwrap();
    let text = format!("{plan:?}");
    assert!(!text.contains("S3cret"), "{text}");
    assert!(
        plan.text.contains("username = \"ada\"") && plan.text.contains("credentials.password\"")
    );
    assert!(plan.text.contains("certificates = [\"cert\", \"cert3\"]"), "{}", plan.text);
    for want in [
        "write the value of HAPROXY_SSL_CERT3 to /etc/ssl/cert3.pem",
        "cut -d: -f2-",
        "templates/HAPROXY_HEAD is not read: what it says of timeouts",
        "HAPROXY_BACKEND_HEAD is not read: it is for all apps",
    ] {
        assert!(
            plan.differences.iter().any(|line| line.contains(want)),
            "{want}: {:#?}",
            plan.differences
        );
    }
    let gone = made("--group a --marathon-auth-credential-file gone", &[], path).unwrap();
    assert!(
        gone.differences.iter().any(|line| line.contains("could not be read as user:password"))
    );
}
