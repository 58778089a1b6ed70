//! Names asked by what really asks: the stubs of two C libraries, and a balancer that learns its
//! servers from SRV records.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use portolan::catalog::SourceService;
use portolan::catalog::model::Port;
use tokio::process::Command;

use crate::clients::get;
use crate::peers::{output, own_address, own_ip, serving, start};
use crate::rig::{Rig, instance, service, within};
use crate::support::{backend, until};

/// Why a test that needs a private `/etc/resolv.conf` cannot run here; none: it can.
///
/// The resolvers of C libraries ask port 53 and nothing else, so that this port is needed as well.
pub(crate) async fn forbidden(ip: IpAddr) -> Option<String> {
    if let Err(error) = std::net::UdpSocket::bind((ip, 53)) {
        return Some(format!("port 53 of {ip} cannot be had: {error}"));
    }
    let probe = output("unshare", &["--mount", "true"]).await;
    (!probe.is_empty()).then(|| format!("no mount namespace can be made: {}", probe.trim()))
}

/// What `program` says where `server` is the only resolver there is: in a mount namespace with a
/// `resolv.conf` of its own, whose last line is `options`.
async fn where_asked(
    directory: &Path,
    (server, options): (IpAddr, &str),
    program: &[&str],
) -> Output {
    let write = |name: &str, text: String| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let resolv = write("resolv.conf", format!("nameserver {server}\noptions {options}\n"));
    let switch = write("nsswitch.conf", "hosts: dns\n".into());
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-ec"])
        .arg("mount --bind \"$0\" /etc/resolv.conf; mount --bind \"$1\" /etc/nsswitch.conf; shift; exec \"$@\"")
        .args([&resolv, &switch])
        .args(program)
        .kill_on_drop(true);
    within(program[0], command.output()).await.unwrap()
}

/// The C program that prints what the library of `compiler` finds.
async fn built(compiler: &str, directory: &Path) -> String {
    let program = directory.join(format!("addresses-{compiler}")).display().to_string();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/addresses.c");
    let said = output(compiler, &["-std=gnu11", "-o", &program, source]).await;
    assert!(Path::new(&program).exists(), "{compiler}: {said}");
    program
}

#[tokio::test]
async fn the_stubs_of_glibc_and_musl_find_the_addresses_of_a_name_with_four_hundred() {
    let ip = own_ip();
    if let Some(why) = forbidden(ip).await {
        println!("left out: {why}");
        return;
    }
    let many: Vec<SocketAddr> =
        (0..400u16).map(|n| ([10, 1, (n >> 8) as u8, n as u8], 80).into()).collect();
    let config = format!("[dns]\nlisten = [\"{ip}:53\"]\n[dns.zone.svc]\n");
    let few = service("few", &["10.2.0.1:80".parse().unwrap(), "[fd00::2]:80".parse().unwrap()]);
    let _rig = Rig::start(&config, vec![service("many", &many), few]).await;
    let directory = tempfile::tempdir().unwrap();
    let all: BTreeSet<String> = many.iter().map(|at| at.ip().to_string()).collect();
    for compiler in ["cc", "musl-gcc"] {
        let program = built(compiler, directory.path()).await;
        // By UDP of 512 bytes, by EDNS, and by TCP alone: musl knows none of these options.
        for options in ["attempts:1", "attempts:1 edns0", "attempts:1 use-vc"] {
            let ask = async |name: &str| -> (bool, BTreeSet<String>) {
                let resolver = (ip, options);
                let output = where_asked(directory.path(), resolver, &[&program, name]).await;
                let text = String::from_utf8(output.stdout).unwrap();
                (output.status.success(), text.lines().map(str::to_owned).collect())
            };
            let (found, addresses) = ask("many.svc").await;
            assert!(found && addresses.is_subset(&all), "{compiler}, {options}: {addresses:?}");
            println!("{compiler}, {options}: {} of {} addresses", addresses.len(), all.len());
            if compiler == "cc" {
                assert_eq!(addresses.len(), all.len(), "{compiler}, {options}");
            } else {
                // It keeps 48 at most, and before 1.2.4 does not ask by TCP: what fits into a
                // datagram of 512 bytes then.
                assert!(addresses.len() >= 28, "{compiler}, {options}: {addresses:?}");
            }
            let both = (true, BTreeSet::from(["10.2.0.1".to_owned(), "fd00::2".to_owned()]));
            assert_eq!(ask("few.svc").await, both, "{compiler}, {options}");
            let (found, said) = ask("nobody.svc").await;
            assert!(!found, "{compiler}, {options}: {said:?}");
        }
    }
    let options = (ip, "attempts:1");
    let told = where_asked(directory.path(), options, &["getent", "ahostsv4", "many.svc"]).await;
    let told = String::from_utf8(told.stdout).unwrap();
    let told: BTreeSet<&str> = told.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(told.len(), all.len(), "getent");
}

/// `web` at these addresses, each with its port under the name `http`.
fn web(addresses: &[SocketAddr]) -> SourceService {
    let mut web = service("web", &[]);
    for (number, at) in addresses.iter().enumerate() {
        let mut own = instance(&format!("i{number}"), *at);
        let named = Port { name: "http".into(), number: at.port() };
        own.ports = [own.ports.to_vec(), vec![named]].concat().into();
        web.instances.push(Arc::new(own));
    }
    web
}

#[tokio::test]
async fn a_server_template_of_haproxy_follows_the_srv_records_of_both_dialects() {
    let [one, two, three] =
        [backend("one", 2).await, backend("two", 3).await, backend("three", 4).await];
    let rig = Rig::start(
        "[dns]\nlisten = [\"127.0.0.1:0\"]\n[dns.zone.svc]\n\
         [dns.zone.consul]\ndialect = \"consul\"\n",
        vec![web(&[one, two])],
    )
    .await;
    let dns = rig.address("dns").await;
    let directory = tempfile::tempdir().unwrap();
    let fronts = [own_address(), own_address(), own_address()];
    let names = ["_http._tcp.web.svc", "_web._tcp.service.consul", "_web._tcp.service.dc1.consul"];
    let mut config = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n\
         resolvers us\n nameserver one {dns}\n accepted_payload_size 8192\n timeout resolve 50ms\n \
         timeout retry 500ms\n hold valid 50ms\n hold obsolete 0s\n hold nx 0s\n"
    );
    for (front, name) in fronts.iter().zip(names) {
        let _ = writeln!(
            config,
            "listen {name}\n bind {front}\n balance roundrobin\n \
             server-template web 5 {name} resolvers us resolve-prefer ipv4 init-addr none"
        );
    }
    let file = directory.path().join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-q").arg("-f").arg(&file);
    let mut haproxy = start(&mut command);
    for front in fronts {
        serving(&mut haproxy, front).await;
    }
    for (case, told, wanted) in [
        ("at the start", None, ["one", "two"].as_slice()),
        ("one more", Some(vec![one, two, three]), &["one", "three", "two"]),
        ("two less", Some(vec![three]), &["three"]),
        ("another one", Some(vec![two]), &["two"]),
    ] {
        if let Some(addresses) = told {
            rig.tell(vec![web(&addresses)]).await;
        }
        let wanted: BTreeSet<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        for (front, name) in fronts.iter().zip(names) {
            until(&format!("{name}, {case}"), async || {
                // Three servers take turns: nine answers show all of them.
                let mut told = BTreeSet::new();
                for _ in 0..9 {
                    told.insert(get(*front, "/").await.body);
                }
                (told == wanted).then_some(())
            })
            .await;
        }
    }
    haproxy.start_kill().unwrap();
    within("the end of haproxy", haproxy.wait()).await.unwrap();
}
