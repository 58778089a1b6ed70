//! Real MariaDB servers behind a TCP listener: a Galera cluster of two, and a replica that lags.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder};
use portolan::app::App;
use portolan::catalog::model::Health;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::peers::{self, own_ip};
use crate::support::consul::certify;
use crate::support::{Memory, address, load, start_with, until, within};

/// Longer than a server takes to start, to copy its state and to join, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn patiently<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looked = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let looked = tokio::time::timeout(PATIENCE, looked).await;
    looked.unwrap_or_else(|_| panic!("{what}: waited in vain for {PATIENCE:?}"))
}

/// A directory that the servers may use, whoever they run as: root hands over to `mysql`, for a
/// server that copies its state as root is not let into its own files.
struct Place {
    dir: TempDir,
    root: bool,
}

impl Place {
    async fn make() -> Self {
        let place =
            Self { dir: tempfile::tempdir().unwrap(), root: rustix::process::geteuid().is_root() };
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(place.dir.path(), mode).unwrap();
        std::fs::write(place.dir.path().join("password"), "pw\n").unwrap();
        place.own().await;
        let data = place.path("first");
        let data = format!("--datadir={}", data.display());
        let auth = "--auth-root-authentication-method=normal";
        let mut arguments = vec!["--no-defaults", &data, auth, "--skip-test-db"];
        arguments.extend(place.user());
        let told = peers::output("mariadb-install-db", &arguments).await;
        assert!(place.path("first").join("mysql").exists(), "{told}");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn user(&self) -> Option<&'static str> {
        self.root.then_some("--user=mysql")
    }

    async fn own(&self) {
        if self.root {
            let dir = self.dir.path().display().to_string();
            peers::output("chown", &["-R", "mysql:mysql", &dir]).await;
        }
    }

    /// A fresh data directory.
    async fn data(&self, name: &str) {
        let (first, own) = (self.path("first"), self.path(name));
        let (first, own) = (first.display().to_string(), own.display().to_string());
        peers::output("cp", &["-a", &first, &own]).await;
        self.own().await;
    }
}

/// Ports of `ip` that are free, each another one.
fn ports<const N: usize>(ip: IpAddr) -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind((ip, 0)).unwrap());
    held.each_ref().map(|held| held.local_addr().unwrap().port())
}

/// One server with an address of its own.
struct Server {
    name: &'static str,
    at: SocketAddr,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Server {
    async fn new(place: &Place, name: &'static str, more: Vec<String>) -> Self {
        place.data(name).await;
        let ip = own_ip();
        let [port] = ports(ip);
        Self::at(place, name, SocketAddr::new(ip, port), more)
    }

    fn at(place: &Place, name: &'static str, at: SocketAddr, more: Vec<String>) -> Self {
        let file = |what: &str| place.path(&format!("{name}.{what}")).display().to_string();
        let mut arguments = vec![
            "--no-defaults".to_owned(),
            format!("--datadir={}", place.path(name).display()),
            format!("--socket={}", file("sock")),
            format!("--pid-file={}", file("pid")),
            format!("--log-error={}", file("log")),
            format!("--bind-address={}", at.ip()),
            format!("--port={}", at.port()),
            "--innodb-buffer-pool-size=16M".to_owned(),
            "--innodb-flush-log-at-trx-commit=0".to_owned(),
            "--performance-schema=OFF".to_owned(),
            "--binlog-format=ROW".to_owned(),
        ];
        arguments.extend(place.user().map(str::to_owned));
        arguments.extend(more);
        Self { name, at, arguments, log: place.path(&format!("{name}.log")), child: None }
    }

    fn start(&mut self, more: &[&str]) {
        let mut command = Command::new("mariadbd");
        command.args(&self.arguments).args(more);
        // What it starts itself, to copy its state, ends with it.
        command.process_group(0);
        self.child = Some(peers::start(&mut command));
    }

    async fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.start_kill().unwrap();
        child.wait().await.unwrap();
    }

    /// A connection as root.
    async fn root(&self) -> Option<Conn> {
        let socket = self.log.with_extension("sock");
        let options = OptsBuilder::default().socket(Some(socket.display().to_string()));
        let options = options.user(Some("root")).prefer_socket(true);
        let conn = tokio::time::timeout(Duration::from_secs(5), Conn::new(options)).await;
        conn.ok()?.ok()
    }

    async fn run(&self, statement: &str) {
        let connected = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(conn) = self.root().await {
                    return conn;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let Ok(mut conn) = connected.await else {
            panic!("{}: nobody was let in for {PATIENCE:?}: {}", self.name, self.told())
        };
        let run = within(statement, conn.query_drop(statement)).await;
        run.unwrap_or_else(|error| panic!("{}: {statement}: {error}", self.name));
    }

    /// The value of a status variable, when the server answers.
    async fn status(&self, name: &str) -> Option<String> {
        let mut conn = self.root().await?;
        let question = format!("SHOW GLOBAL STATUS LIKE '{name}'");
        let row: Option<(String, String)> = conn.query_first(question).await.ok()?;
        Some(row?.1)
    }

    async fn reaches(&mut self, name: &str, wanted: &str) {
        let looked = tokio::time::timeout(PATIENCE, async {
            while self.status(name).await.as_deref() != Some(wanted) {
                let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
                assert_eq!(ended, None, "{} ended: {}", self.name, self.told());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let reached = looked.await.is_ok();
        assert!(reached, "{}: {name} never became {wanted}: {}", self.name, self.told());
    }

    /// The end of its log.
    fn told(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(8000)..]).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let id = self.child.as_ref().and_then(Child::id).and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
    }
}

/// The name of the server that answers behind `listener`; none when nobody does.
async fn answers(listener: SocketAddr) -> Option<String> {
    let options = OptsBuilder::default()
        .ip_or_hostname(listener.ip().to_string())
        .tcp_port(listener.port())
        .prefer_socket(false)
        .user(Some("watch"))
        .pass(Some("pw"));
    let asked = async {
        let mut conn = Conn::new(options).await.ok()?;
        let name = conn.query_first::<String, _>("SELECT @@server_id").await.ok()?;
        conn.disconnect().await.ok()?;
        name
    };
    tokio::time::timeout(Duration::from_secs(5), asked).await.ok()?
}

/// Who is eligible in `service`, by id, in order.
fn eligible(app: &App, service: &str) -> Vec<String> {
    let tables = app.tables();
    let service = tables.snapshot.service(service);
    let ids = service.map(|service| service.eligible.iter().map(|i| i.id.to_string()).collect());
    ids.unwrap_or_default()
}

/// Returns once exactly these are eligible.
async fn becomes(app: &App, service: &str, wanted: &[SocketAddr]) {
    let mut wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    wanted.sort();
    let mut last = Vec::new();
    let looked = tokio::time::timeout(PATIENCE, async {
        loop {
            last = eligible(app, service);
            last.sort();
            if last == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(looked.await.is_ok(), "{service}: {wanted:?} never became eligible, but {last:?}");
}

/// Who answers thirty connections to the listener, each once: of two that may, neither is missed by
/// chance.
async fn who(listener: SocketAddr) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..30 {
        names.extend(answers(listener).await);
    }
    names.sort();
    names.dedup();
    names
}

fn config(dir: &Path, services: &[(&str, &str)]) -> String {
    let service = |(name, check): &(&str, &str)| {
        format!(
            "[listener.{name}.tcp]\nbind = [\"127.0.0.1:0\"]\nservice = \"{name}\"\n\
             [service.{name}]\ncheck.mysql = {{ user = \"watch\", \
             password_file = \"{}\", interval = \"100ms\", timeout = \"3s\", {check} }}\n",
            dir.join("password").display(),
        )
    };
    "[node]\nworkers = 1\n".to_owned() + &services.iter().map(service).collect::<String>()
}

async fn cluster(place: &Place) -> [Server; 2] {
    let (one, two) = (own_ip(), own_ip());
    let ports = [ports::<4>(one), ports::<4>(two)];
    let gossip = [format!("{one}:{}", ports[0][0]), format!("{two}:{}", ports[1][0])];
    let mut servers = Vec::new();
    for (index, (name, ip)) in [("n1", one), ("n2", two)].into_iter().enumerate() {
        let [_, increments, state, port] = ports[index];
        let provider = format!(
            "--wsrep-provider-options=gmcast.listen_addr=tcp://{};ist.recv_addr={ip}:{increments};\
             pc.ignore_sb=true;gcache.size=8M;evs.keepalive_period=PT0.3S;\
             evs.inactive_check_period=PT0.3S;evs.suspect_timeout=PT2S;evs.inactive_timeout=PT4S",
            gossip[index],
        );
        let more = vec![
            format!("--server-id={}", index + 1),
            "--wsrep-on=ON".to_owned(),
            "--wsrep-provider=/usr/lib/galera/libgalera_smm.so".to_owned(),
            format!("--wsrep-cluster-address=gcomm://{}", gossip.join(",")),
            format!("--wsrep-node-address={ip}"),
            format!("--wsrep-node-name={name}"),
            "--wsrep-sst-method=rsync".to_owned(),
            format!("--wsrep-sst-receive-address={ip}:{state}"),
            "--innodb-autoinc-lock-mode=2".to_owned(),
            provider,
        ];
        place.data(name).await;
        servers.push(Server::at(place, name, SocketAddr::new(ip, port), more));
    }
    let [mut first, mut second] = <[Server; 2]>::try_from(servers).ok().unwrap();
    first.start(&["--wsrep-new-cluster"]);
    first.reaches("wsrep_local_state", "4").await;
    first.run("CREATE USER watch@'%' IDENTIFIED BY 'pw'").await;
    second.start(&[]);
    second.reaches("wsrep_local_state", "4").await;
    [first, second]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_galera_cluster_exactly_one_synced_member_gets_the_writes() {
    let place = Place::make().await;
    let [first, second] = cluster(&place).await;
    let memory = Memory::new("mem");
    let all = [first.at, second.at];
    memory.tell("db", &all);
    memory.tell("read", &all);
    let text =
        config(place.dir.path(), &[("db", "role = \"writer\""), ("read", "role = \"reader\"")]);
    let app = start_with(&text, place.dir.path(), &[&memory]).await;
    let (db, read) = (address(&app, "db").await, address(&app, "read").await);
    let id = |server: &Server| if server.name == "n1" { "1" } else { "2" };

    // The writer is the member that the cluster itself lists first.
    becomes(&app, "read", &all).await;
    let leads = first.status("wsrep_local_index").await.as_deref() == Some("0");
    let (mut writer, mut other) = if leads { (first, second) } else { (second, first) };
    becomes(&app, "db", &[writer.at]).await;
    assert_eq!(who(db).await, [id(&writer)]);
    assert_eq!(who(read).await, ["1", "2"]);

    // A donor is out, and comes back.
    writer.run("SET GLOBAL wsrep_desync = ON").await;
    becomes(&app, "db", &[other.at]).await;
    becomes(&app, "read", &[other.at]).await;
    assert_eq!(
        (who(db).await, who(read).await),
        (vec![id(&other).into()], vec![id(&other).into()])
    );
    writer.run("SET GLOBAL wsrep_desync = OFF").await;
    becomes(&app, "db", &[writer.at]).await;
    becomes(&app, "read", &all).await;

    // The writer is killed: the other one takes the writes, once the cluster has let go of it.
    writer.kill().await;
    becomes(&app, "db", &[other.at]).await;
    becomes(&app, "read", &[other.at]).await;
    other.reaches("wsrep_cluster_size", "1").await;
    assert_eq!(who(db).await, [id(&other)]);
    other.run("CREATE DATABASE since").await;

    // It rejoins: while it takes its state over and the other one gives it, nobody but the other
    // one answers, and when that is done, there is one writer again.
    writer.start(&[]);
    let mut seen = Vec::new();
    patiently("the rejoin", async || {
        seen.extend(answers(db).await);
        (writer.status("wsrep_local_state").await? == "4").then_some(())
    })
    .await;
    other.reaches("wsrep_local_state", "4").await;
    becomes(&app, "read", &all).await;
    let leads = writer.status("wsrep_local_index").await.as_deref() == Some("0");
    let leader = if leads { &writer } else { &other };
    becomes(&app, "db", &[leader.at]).await;
    assert_eq!(who(db).await, [id(leader)]);
    seen.sort();
    seen.dedup();
    assert!(seen.iter().all(|name| name == id(&other) || name == id(leader)), "{seen:?}");
    let copied = patiently("the copy", async || {
        let mut conn = writer.root().await?;
        conn.query_first::<String, _>("SHOW DATABASES LIKE 'since'").await.ok()?
    });
    assert_eq!(copied.await, "since", "what was written meanwhile is there");

    // Without a quorum nobody is fit.
    let health = |app: &App| {
        let tables = app.tables();
        let db = tables.snapshot.service("db").unwrap();
        db.instances.iter().map(|i| (i.health, i.cause.to_string())).collect::<Vec<_>>()
    };
    for server in [&writer, &other] {
        server.run("SET GLOBAL wsrep_desync = ON").await;
    }
    becomes(&app, "db", &[]).await;
    until("both are told to be donors", async || {
        let donors = health(&app).iter().all(|(health, cause)| {
            *health == Health::Unhealthy && cause == "mysql: Galera: Donor/Desynced"
        });
        donors.then_some(())
    })
    .await;
    assert_eq!(who(db).await, [""; 0]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lags_or_stops_gets_no_reads_and_only_the_source_gets_writes() {
    let place = Place::make().await;
    let more = |id: &str| vec![format!("--server-id={id}"), "--log-bin=bin".to_owned()];
    let mut source = Server::new(&place, "source", more("1")).await;
    let mut replica = Server::new(&place, "replica", more("2")).await;
    source.start(&[]);
    replica.start(&["--read-only=ON"]);
    source.run("CREATE USER watch@'%' IDENTIFIED BY 'pw'").await;
    source.run("GRANT REPLICATION SLAVE, REPLICA MONITOR ON *.* TO watch@'%'").await;
    let follow = format!(
        "CHANGE MASTER TO MASTER_HOST = '{}', MASTER_PORT = {}, MASTER_USER = 'watch', \
         MASTER_PASSWORD = 'pw', MASTER_USE_GTID = slave_pos",
        source.at.ip(),
        source.at.port(),
    );
    replica.run(&follow).await;
    replica.run("START SLAVE").await;

    let memory = Memory::new("mem");
    let all = [source.at, replica.at];
    memory.tell("db", &all);
    memory.tell("read", &all);
    let text = config(
        place.dir.path(),
        &[("db", "role = \"writer\""), ("read", "role = \"reader\", max_lag = \"2s\"")],
    );
    let app = start_with(&text, place.dir.path(), &[&memory]).await;
    let (db, read) = (address(&app, "db").await, address(&app, "read").await);
    becomes(&app, "read", &all).await;
    becomes(&app, "db", &[source.at]).await;
    assert_eq!((who(db).await, who(read).await), (vec!["1".into()], vec!["1".into(), "2".into()]));

    // A table that is locked on the replica keeps it from applying what it has received.
    source.run("CREATE TABLE mysql.lagging (a INT)").await;
    let mut lock = patiently("the table", async || {
        let mut conn = replica.root().await?;
        conn.query_drop("LOCK TABLES mysql.lagging WRITE").await.ok().map(|()| conn)
    })
    .await;
    source.run("INSERT INTO mysql.lagging VALUES (1)").await;
    becomes(&app, "read", &[source.at]).await;
    assert_eq!(who(read).await, ["1"]);
    lock.query_drop("UNLOCK TABLES").await.unwrap();
    becomes(&app, "read", &all).await;
    replica.run("STOP SLAVE").await;
    becomes(&app, "read", &[source.at]).await;
    becomes(&app, "db", &[source.at]).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_wants_tls_is_asked_by_tls_and_believed_by_its_certificate() {
    let place = Place::make().await;
    let ip = own_ip();
    certify(place.dir.path(), ip);
    place.own().await;
    let file = |name: &str| place.path(name).display().to_string();
    let more = vec![
        format!("--ssl-cert={}", file("server.pem")),
        format!("--ssl-key={}", file("server.key")),
    ];
    place.data("secure").await;
    let [port] = ports(ip);
    let mut server = Server::at(&place, "secure", SocketAddr::new(ip, port), more);
    server.start(&[]);
    server.run("CREATE USER watch@'%' IDENTIFIED BY 'pw' REQUIRE SSL").await;

    let ca = format!("ca_file = \"{}\"", file("ca.pem"));
    let cases = [
        ("by_address", format!("tls = {{ {ca} }}"), None),
        ("by_name", format!("tls = {{ {ca}, server_name = \"localhost\" }}"), None),
        ("anybody", "tls = { verify = false }".to_owned(), None),
        ("plain", "rise = 1".to_owned(), Some("Access denied")),
        ("unknown", "tls = {}".to_owned(), Some("certificate")),
        ("another", format!("tls = {{ {ca}, server_name = \"other.test\" }}"), Some("certificate")),
    ];
    let memory = Memory::new("mem");
    for (service, ..) in &cases {
        memory.tell(service, &[server.at]);
    }
    let services: Vec<(&str, &str)> = cases.iter().map(|(name, tls, _)| (*name, &**tls)).collect();
    let text = config(place.dir.path(), &services);
    let app = start_with(&text, place.dir.path(), &[&memory]).await;
    for (service, _, why) in &cases {
        let Some(why) = why else {
            becomes(&app, service, &[server.at]).await;
            assert_eq!(who(address(&app, service).await).await, [""; 0], "watch needs TLS");
            continue;
        };
        let cause = patiently(service, async || {
            let tables = app.tables();
            let instance = &tables.snapshot.service(service)?.instances[0];
            (instance.health == Health::Unhealthy && instance.cause.starts_with("mysql: "))
                .then(|| instance.cause.to_string())
        })
        .await;
        assert!(cause.contains(why), "{service}: {cause}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_lives_through_50_reloads_while_instances_come_and_go() {
    const RELOADS: u32 = 50;
    let place = Place::make().await;
    let mut server = Server::new(&place, "one", vec!["--server-id=1".to_owned()]).await;
    server.start(&[]);
    server.run("CREATE USER watch@'%' IDENTIFIED BY 'pw'").await;
    server.run("CREATE DATABASE shop").await;
    server.run("GRANT ALL ON shop.* TO watch@'%'").await;
    let memory = Memory::new("mem");
    memory.tell("db", &[server.at]);
    let text = |reload: u32| {
        let policy = ["p2c", "round-robin", "maglev"][reload as usize % 3];
        format!(
            "[node]\nworkers = 2\n[listener.db.tcp]\nbind = [\"127.0.0.1:0\"]\nservice = \"db\"\n\
             timeouts = {{ idle = \"{}m\" }}\n[service.db]\npolicy = \"{policy}\"\n",
            10 + reload
        )
    };
    let app = start_with(&text(0), place.dir.path(), &[&memory]).await;
    let listener = address(&app, "db").await;
    let options = OptsBuilder::default()
        .ip_or_hostname(listener.ip().to_string())
        .tcp_port(listener.port())
        .prefer_socket(false)
        .user(Some("watch"))
        .pass(Some("pw"));
    let mut conn = within("connect", Conn::new(options)).await.unwrap();
    // What ends with the session: a table, a variable, and a transaction that is not committed.
    for statement in [
        "CREATE TABLE shop.orders (a INT) ENGINE = InnoDB",
        "CREATE TEMPORARY TABLE shop.cart (a INT)",
        "SET @course = 0",
        "START TRANSACTION",
    ] {
        within(statement, conn.query_drop(statement)).await.unwrap();
    }
    let id = conn.id();
    for reload in 1..=RELOADS {
        for statement in [
            "SET @course = @course + 1",
            "INSERT INTO shop.cart VALUES (1)",
            "INSERT INTO shop.orders VALUES (1)",
        ] {
            within(statement, conn.query_drop(statement)).await.unwrap();
        }
        let loaded = load(&text(reload), place.dir.path()).unwrap();
        within("reload", app.reload(loaded)).await.unwrap();
        // Another one comes, and goes.
        let other = SocketAddr::new(server.at.ip(), 1);
        let all = [server.at, other];
        memory.tell("db", &all[..=(reload as usize % 2)]);
    }
    within("commit", conn.query_drop("COMMIT")).await.unwrap();
    let question = "SELECT CONNECTION_ID(), @course, (SELECT COUNT(*) FROM shop.cart), \
                    (SELECT COUNT(*) FROM shop.orders)";
    let row: Option<(u32, u32, u32, u32)> =
        within("the session", conn.query_first(question)).await.unwrap();
    assert_eq!(row, Some((id, RELOADS, RELOADS, RELOADS)));
    within("goodbye", conn.disconnect()).await.unwrap();
    app.stop().await;
}
