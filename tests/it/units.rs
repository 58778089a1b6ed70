//! Files by which others start us: units of systemd, the container's.

use std::path::Path;

use crate::child::PORTOLAN;
use crate::clients::tool_with;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[tokio::test]
async fn systemd_finds_nothing_in_the_units() {
    let installed = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join("systemd-analyze").is_file())
    });
    if !installed {
        println!("systemd is not installed; the units are not looked at");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for name in ["portolan.service", "portolan.socket"] {
        // It looks whether the program is there.
        let text = read(&format!("config/systemd/{name}")).replace("/usr/bin/portolan", PORTOLAN);
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (service, socket) = (path("portolan.service"), path("portolan.socket"));
    let ended = tool_with("systemd-analyze", &["verify", "--man=no", &service, &socket], "").await;
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    let about_us: Vec<&str> = told.lines().filter(|line| line.contains("portolan")).collect();
    assert!(ended.status.success() && about_us.is_empty(), "{told}");
}

#[test]
fn the_container_runs_as_a_user_read_only_and_without_rights() {
    let image = read("docker/Dockerfile");
    let user = image.lines().find_map(|line| line.strip_prefix("USER ")).unwrap();
    assert!(user.split(':').all(|id| id.parse::<u32>().unwrap() >= 1000), "{user}");
    let compose: serde_json::Value = serde_saphyr::from_str(&read("docker/compose.yaml")).unwrap();
    let ours = &compose["services"]["portolan"];
    assert_eq!(ours["read_only"], true);
    assert_eq!(ours["user"], user);
    assert_eq!(ours["cap_drop"], serde_json::json!(["ALL"]));
    assert_eq!(ours["security_opt"], serde_json::json!(["no-new-privileges:true"]));
    assert!(ours.get("cap_add").is_none() && ours.get("privileged").is_none());
    // What it writes is a volume; what it reads cannot be written.
    let volumes: Vec<&str> =
        ours["volumes"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert!(volumes.iter().all(|v| v.ends_with(":ro") || v.ends_with(":/var/lib/portolan")));
    for port in ours["ports"].as_array().unwrap() {
        let inside = port.as_str().unwrap().rsplit(':').next().unwrap();
        let number: u16 = inside.split('/').next().unwrap().parse().unwrap();
        assert!(number >= 1024, "{inside} takes a capability");
    }
}
