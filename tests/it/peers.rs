//! Real programs beside us: tools that ask, and servers that answer or are compared with.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::rig::within;

/// What `program` prints when it is run with `arguments`; it may fail in its own way.
pub(crate) async fn output(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    match within(program, command.output()).await {
        Ok(output) => {
            String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr)
        }
        Err(error) => panic!("{}", missing(program, &error)),
    }
}

/// A child that ends when it is dropped.
pub(crate) fn start(command: &mut Command) -> Child {
    match command.stdin(Stdio::null()).kill_on_drop(true).spawn() {
        Ok(child) => child,
        Err(error) => panic!("{}", missing(&format!("{command:?}"), &error)),
    }
}

fn missing(program: &str, error: &std::io::Error) -> String {
    format!("cannot run {program}: {error}; `scripts/install-peers --debian` installs it")
}

/// A loopback address of this process alone: a port that is free there stays free, so that a
/// server that can't tell which port it got may be given one.
pub(crate) fn own_ip() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let next = NEXT.fetch_add(1, Ordering::Relaxed) as u8;
    Ipv4Addr::new(127, 100 + next % 100, high, low.max(1)).into()
}

/// A free port at [`own_ip`].
pub(crate) fn own_address() -> SocketAddr {
    TcpListener::bind((own_ip(), 0)).unwrap().local_addr().unwrap()
}

/// Returns once `server` accepts connections at `address`; fails when it ends instead.
pub(crate) async fn serving(server: &mut Child, address: SocketAddr) {
    within(&format!("a server at {address}"), async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if let Some(status) = server.try_wait().unwrap() {
                panic!("the server for {address} ended with {status}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
