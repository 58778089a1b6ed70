//! A real ZooKeeper beside a test, and candidates that stand for election in it.

use std::net::SocketAddr;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::within;
use crate::peers;

/// Length of one beat; sessions last two of them at least, twenty at most.
const TICK_MS: u32 = 200;
/// What candidates ask for.
const SESSION_MS: i32 = 600;

/// Time for the answer to a greeting.
const ANSWER: std::time::Duration = std::time::Duration::from_millis(500);

const CREATE: i32 = 1;
const PERSISTENT: i32 = 0;
const EPHEMERAL: i32 = 1;
const EPHEMERAL_SEQUENTIAL: i32 = 3;

/// One server on a port of its own. Dropping it kills it.
pub(crate) struct ZooKeeper {
    directory: TempDir,
    pub(crate) address: SocketAddr,
    child: Option<Child>,
}

impl ZooKeeper {
    /// Starts one that knows nothing.
    pub(crate) async fn start() -> Self {
        let mut zookeeper = Self {
            directory: tempfile::tempdir().unwrap(),
            address: peers::own_address(),
            child: None,
        };
        zookeeper.run().await;
        zookeeper
    }

    /// Starts it again, with what it knew.
    pub(crate) async fn run(&mut self) {
        let at = self.directory.path();
        let config = format!(
            "tickTime={TICK_MS}\ndataDir={}\nclientPort={}\nclientPortAddress={}\n\
             admin.enableServer=false\n",
            at.join("data").display(),
            self.address.port(),
            self.address.ip(),
        );
        std::fs::write(at.join("zoo.cfg"), config).unwrap();
        let mut java = Command::new("java");
        java.args(["-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args(["-cp", "/usr/share/java/zookeeper.jar"])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(at.join("zoo.cfg"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = peers::start(&mut java);
        peers::serving(&mut child, self.address).await;
        self.child = Some(child);
    }

    /// Kills it; its connections break.
    pub(crate) async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.unwrap();
        }
    }

    /// Forgets all that it knew; it must be down.
    pub(crate) fn wipe(&self) {
        assert!(self.child.is_none(), "it runs");
        std::fs::remove_dir_all(self.directory.path().join("data")).unwrap();
    }

    /// A candidate as Curator makes them, below `/marathon`.
    pub(crate) async fn stand(&self, who: SocketAddr) -> Candidate {
        let mut candidate = Candidate::connect(self.address).await;
        candidate.create("/marathon", "", PERSISTENT).await;
        candidate.create("/marathon/leader-curator", "", PERSISTENT).await;
        let path = "/marathon/leader-curator/_c_0a1b2c3d-latch-";
        candidate.create(path, &who.to_string(), EPHEMERAL_SEQUENTIAL).await;
        candidate
    }

    /// A candidate as Marathon before 0.14 had them.
    pub(crate) async fn stand_as_of_old(&self, who: SocketAddr) -> Candidate {
        let mut candidate = Candidate::connect(self.address).await;
        candidate.create("/marathon", "", PERSISTENT).await;
        candidate.create("/marathon/leader", "", PERSISTENT).await;
        candidate.create("/marathon/leader/member_0000000007", &who.to_string(), EPHEMERAL).await;
        candidate
    }
}

/// A session with a node of its own; dropped, it ends when its time is over.
pub(crate) struct Candidate {
    stream: TcpStream,
}

impl Candidate {
    async fn connect(address: SocketAddr) -> Self {
        within("a session", async {
            loop {
                // A server that has just started accepts before it serves.
                if let Ok(stream) = TcpStream::connect(address).await {
                    let mut candidate = Self { stream };
                    let mut hello = Vec::new();
                    hello.extend(0_i32.to_be_bytes());
                    hello.extend(0_i64.to_be_bytes());
                    hello.extend(SESSION_MS.to_be_bytes());
                    hello.extend(0_i64.to_be_bytes());
                    hello.extend(16_i32.to_be_bytes());
                    hello.extend([0; 16]);
                    hello.push(0);
                    // One that was asked while it starts may never answer that.
                    let asked = tokio::time::timeout(ANSWER, candidate.ask(&hello)).await;
                    if asked.is_ok_and(|answer| answer.is_ok()) {
                        return candidate;
                    }
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await
    }

    async fn create(&mut self, path: &str, data: &str, flags: i32) {
        let mut request = Vec::new();
        request.extend(1_i32.to_be_bytes());
        request.extend(CREATE.to_be_bytes());
        for text in [path, data] {
            request.extend((text.len() as i32).to_be_bytes());
            request.extend(text.as_bytes());
        }
        // Everybody may do everything.
        request.extend(1_i32.to_be_bytes());
        request.extend(31_i32.to_be_bytes());
        for text in ["world", "anyone"] {
            request.extend((text.len() as i32).to_be_bytes());
            request.extend(text.as_bytes());
        }
        request.extend(flags.to_be_bytes());
        let answer = self.ask(&request).await.unwrap();
        let error = i32::from_be_bytes(answer[12..16].try_into().unwrap());
        let there = flags == PERSISTENT && error == -110;
        assert!(error == 0 || there, "{path}: {error}");
    }

    async fn ask(&mut self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut packet = (request.len() as u32).to_be_bytes().to_vec();
        packet.extend(request);
        self.stream.write_all(&packet).await?;
        let length = self.stream.read_u32().await?;
        let mut answer = vec![0; length as usize];
        self.stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    /// Stays in the session for as long as this runs.
    pub(crate) async fn live(mut self) {
        loop {
            let mut ping = (-2_i32).to_be_bytes().to_vec();
            ping.extend(11_i32.to_be_bytes());
            if self.ask(&ping).await.is_err() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}
