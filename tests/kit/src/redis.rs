//! Real servers for one test: a standalone Redis, a Cluster, one behind Sentinels, one behind TLS. Channels, leases and
//! lists of nodes belong to a whole deployment, so each test has its own. Whole-server tests include this file by its
//! path, so it must not refer to the crate.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// Time limit for the start of a deployment on a busy machine.
const START: Duration = Duration::from_secs(20);

/// Time limit for an answer of one server.
const PATIENCE: Duration = Duration::from_secs(5);

/// Name of the master in the configuration of the Sentinels.
const SERVICE: &str = "pintalk";

/// Password of the server behind TLS.
const PASSWORD: &str = "a-password-of-tests";

/// Failover timeout of deployments in which no replica takes over by itself.
const NEVER_MS: u32 = 120_000;

/// Failover timeout of deployments in which a replica takes over, in ms.
const TAKEOVER_MS: u32 = 2_000;

/// Number of masters of a Cluster; each has one replica.
const MASTERS: usize = 3;

/// Number of slots of a Cluster.
const SLOTS: usize = 16_384;

/// Kind of deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis7,
    Redis8,
    Valkey8,
    /// Three masters with one replica each.
    Cluster,
    /// A master with two replicas, behind three Sentinels.
    Sentinel,
    /// A standalone server with a password, reachable only over TLS.
    Tls,
}

impl Kind {
    fn program(self) -> &'static str {
        match self {
            Self::Redis8 => "redis8-server",
            Self::Valkey8 => "valkey8-server",
            _ => "redis-server",
        }
    }
}

/// A running deployment. The servers are killed when this value is dropped, or when its process ends.
#[derive(Debug)]
pub(crate) struct Servers {
    kind: Kind,
    /// Whether the servers write an append-only file and replace a failed master by themselves.
    durable: bool,
    /// Data servers, masters first.
    servers: Vec<Server>,
    sentinels: Vec<Server>,
    /// Replicas added to a standalone server.
    attached: Vec<Server>,
    /// Pipes to shells that kill the servers when the pipes close without a line.
    keepers: Vec<ChildStdin>,
    folder: tempfile::TempDir,
}

/// One server process.
#[derive(Debug)]
struct Server {
    process: Child,
    port: u16,
    socket: PathBuf,
    flags: Vec<String>,
}

impl Servers {
    /// Starts a deployment on free ports, and waits until it is complete.
    pub(crate) fn start(kind: Kind) -> Self {
        Self::begin(kind, false)
    }

    /// Starts a deployment with the setup of an operator: the servers write an append-only file, and a replica takes
    /// over two seconds after a master fails.
    pub(crate) fn start_durable(kind: Kind) -> Self {
        Self::begin(kind, true)
    }

    fn begin(kind: Kind, durable: bool) -> Self {
        // Another process may take a free port before the server binds it. The server then exits, and all start again.
        (0..10)
            .find_map(|_| Self::try_start(kind, durable))
            .expect("the servers of a test answer on ports of their own")
    }

    fn try_start(kind: Kind, durable: bool) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder for the servers");
        let mut all = Self {
            kind,
            durable,
            servers: Vec::new(),
            sentinels: Vec::new(),
            attached: Vec::new(),
            keepers: Vec::new(),
            folder,
        };
        match kind {
            Kind::Redis7 | Kind::Redis8 | Kind::Valkey8 => all.add(free_ports(1)[0], &[]),
            Kind::Cluster => all.add_cluster(),
            Kind::Sentinel => all.add_sentinel(),
            Kind::Tls => all.add_tls(),
        }
        let keeper = keep(all.servers.iter().chain(&all.sentinels));
        all.keepers.push(keeper);
        let until = Instant::now() + START;
        while Instant::now() < until && all.run() {
            if all.is_whole().unwrap_or(false) {
                return Some(all);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    fn add(&mut self, port: u16, more: &[&str]) {
        let server = self.spawn(port, more);
        self.servers.push(server);
    }

    fn spawn(&self, port: u16, more: &[&str]) -> Server {
        let folder = self.folder.path().join(port.to_string());
        std::fs::create_dir_all(&folder).expect("a folder for the server");
        let (program, socket) = (self.kind.program(), folder.join("s"));
        let process = Command::new(program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", if self.durable { "yes" } else { "no" }])
            // A master that was replaced without noticing accepts no more writes.
            .args(["--min-replicas-to-write", if self.durable && self.kind == Kind::Sentinel { "1" } else { "0" }])
            // A replica does not wait for others to connect.
            .args(["--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes"])
            .args([Path::new("--dir"), &folder, Path::new("--unixsocket"), &socket])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} must be in the path, as tests/run sees to: {error}"));
        Server { process, port, socket, flags: more.iter().map(|flag| (*flag).to_owned()).collect() }
    }

    fn takeover_ms(&self) -> u32 {
        if self.durable { TAKEOVER_MS } else { NEVER_MS }
    }

    /// Writes the assignment of slots into each node's configuration file, so that the nodes need no introduction.
    fn add_cluster(&mut self) {
        let ports = free_ports(4 * MASTERS);
        let (ports, buses) = ports.split_at(2 * MASTERS);
        let id = |at: usize| format!("{:040x}", 0xa11 + at);
        for me in 0..ports.len() {
            let mut nodes = String::new();
            for (at, (port, bus)) in ports.iter().zip(buses).enumerate() {
                let myself = if at == me { "myself," } else { "" };
                let role = match at.checked_sub(MASTERS) {
                    Some(master) => format!("slave {} 0 0 {} connected", id(master), master + 1),
                    None => {
                        let (from, to) = (SLOTS * at / MASTERS, SLOTS * (at + 1) / MASTERS - 1);
                        format!("master - 0 0 {} connected {from}-{to}", at + 1)
                    }
                };
                writeln!(nodes, "{} 127.0.0.1:{port}@{bus} {myself}{role}", id(at)).expect("text");
            }
            writeln!(nodes, "vars currentEpoch {MASTERS} lastVoteEpoch 0").expect("text");
            let folder = self.folder.path().join(ports[me].to_string());
            std::fs::create_dir_all(&folder).expect("a folder for the server");
            std::fs::write(folder.join("nodes.conf"), nodes).expect("a file for the node");
            let (bus, timeout) = (buses[me].to_string(), self.takeover_ms().to_string());
            let flags = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", &timeout];
            self.add(ports[me], &flags);
        }
    }

    /// Adds Sentinels that know each other and the replicas from the start.
    fn add_sentinel(&mut self) {
        let ports = free_ports(6);
        let (ports, sentinels) = ports.split_at(3);
        let master = ports[0].to_string();
        self.add(ports[0], &[]);
        for replica in &ports[1..] {
            self.add(*replica, &["--replicaof", "127.0.0.1", &master]);
        }
        let id = |at: usize| format!("{:040x}", 0x5e7 + at);
        for me in 0..sentinels.len() {
            let folder = self.folder.path().join(sentinels[me].to_string());
            std::fs::create_dir_all(&folder).expect("a folder for the sentinel");
            let mut config = format!(
                "port {}\nbind 127.0.0.1\ndir {}\nsentinel myid {}\nsentinel monitor {SERVICE} 127.0.0.1 {master} 2\n\
                 sentinel down-after-milliseconds {SERVICE} {}\n",
                sentinels[me],
                folder.display(),
                id(me),
                self.takeover_ms()
            );
            for replica in &ports[1..] {
                writeln!(config, "sentinel known-replica {SERVICE} 127.0.0.1 {replica}").expect("text");
            }
            for (at, port) in sentinels.iter().enumerate().filter(|(at, _)| *at != me) {
                writeln!(config, "sentinel known-sentinel {SERVICE} 127.0.0.1 {port} {}", id(at)).expect("text");
            }
            let file = folder.join("sentinel.conf");
            std::fs::write(&file, config).expect("a file for the sentinel");
            let process = Command::new(self.kind.program())
                .arg(&file)
                .arg("--sentinel")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .expect("a sentinel starts");
            self.sentinels.push(Server { process, port: sentinels[me], socket: PathBuf::new(), flags: Vec::new() });
        }
    }

    fn add_tls(&mut self) {
        make_certificates(self.folder.path());
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let port = free_ports(1)[0];
        let (tls, ca, certificate, key) = (port.to_string(), file("ca.pem"), file("server.pem"), file("server.key"));
        let mut flags = vec!["--port", "0", "--tls-port", &tls, "--tls-ca-cert-file", &ca, "--requirepass", PASSWORD];
        flags.extend(["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-auth-clients", "no"]);
        self.add(port, &flags);
    }

    fn run(&mut self) -> bool {
        self.servers.iter_mut().chain(&mut self.sentinels).all(|server| matches!(server.process.try_wait(), Ok(None)))
    }

    fn is_whole(&self) -> std::io::Result<bool> {
        for (at, server) in self.servers.iter().enumerate() {
            let whole = match self.kind {
                Kind::Cluster if at < MASTERS => {
                    server.ask("CLUSTER INFO")?.contains("cluster_state:ok")
                        && server.ask("INFO replication")?.contains("state=online")
                }
                Kind::Cluster => server.ask("CLUSTER INFO")?.contains("cluster_state:ok"),
                Kind::Sentinel if at == 0 => {
                    server.ask("INFO replication")?.matches("state=online").count() + 1 == self.servers.len()
                }
                Kind::Sentinel => true,
                _ => !server.ask("PING")?.is_empty(),
            };
            if !whole {
                return Ok(false);
            }
        }
        for sentinel in &self.sentinels {
            if !sentinel.ask("INFO sentinel")?.contains("status=ok") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the kind of deployment.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the URL under which a node reaches the deployment.
    pub(crate) fn url(&self) -> String {
        let first = self.servers[0].port;
        let others = |servers: &[Server]| {
            servers.iter().map(|server| format!("node=127.0.0.1:{}", server.port)).collect::<Vec<_>>().join("&")
        };
        match self.kind {
            Kind::Redis7 | Kind::Redis8 | Kind::Valkey8 => format!("redis://127.0.0.1:{first}"),
            Kind::Cluster => format!("redis-cluster://127.0.0.1:{first}?{}", others(&self.servers[1..])),
            Kind::Sentinel => format!(
                "redis-sentinel://127.0.0.1:{}?sentinelServiceName={SERVICE}&{}",
                self.sentinels[0].port,
                others(&self.sentinels[1..])
            ),
            Kind::Tls => format!("rediss://:{PASSWORD}@127.0.0.1:{first}"),
        }
    }

    /// Returns the path of the CA that signed the server's certificate; only for [`Kind::Tls`].
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Pauses all masters at once. No replica takes over.
    pub(crate) fn freeze(&self) {
        self.masters().iter().for_each(|server| server.signal("-STOP"));
    }

    /// Resumes all masters.
    pub(crate) fn thaw(&self) {
        self.masters().iter().for_each(|server| server.signal("-CONT"));
    }

    /// Pauses one server, by its index at the start (masters first).
    pub(crate) fn freeze_one(&self, at: usize) {
        self.servers[at].signal("-STOP");
    }

    /// Resumes one server.
    pub(crate) fn thaw_one(&self, at: usize) {
        self.servers[at].signal("-CONT");
    }

    /// Kills one server without notifying the others.
    pub(crate) fn kill_one(&mut self, at: usize) {
        self.servers[at].end();
    }

    /// Restarts a killed server with its stored data.
    pub(crate) fn restart_one(&mut self, at: usize) {
        let (port, flags) = (self.servers[at].port, self.servers[at].flags.clone());
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.servers[at] = self.spawn(port, &flags);
        self.keepers.push(keep([&self.servers[at]]));
    }

    /// Returns the number of data servers.
    pub(crate) fn len(&self) -> usize {
        self.servers.len()
    }

    /// Sends a command to one server, and returns its answer.
    pub(crate) fn ask_one(&self, at: usize, what: &str) -> std::io::Result<String> {
        self.servers[at].ask(what)
    }

    /// Returns the number of replicas per master.
    pub(crate) fn replicas_of_each(&self) -> usize {
        self.servers.len() / self.masters().len() - 1
    }

    /// Returns the indexes of the current masters.
    pub(crate) fn masters_now(&self) -> Vec<usize> {
        let is_master =
            |at: &usize| self.ask_one(*at, "INFO replication").is_ok_and(|info| info.contains("role:master"));
        (0..self.servers.len()).filter(is_master).collect()
    }

    fn masters(&self) -> &[Server] {
        &self.servers[..if self.kind == Kind::Cluster { MASTERS } else { 1 }]
    }

    /// Pauses all replicas.
    pub(crate) fn stop_replicas(&self) {
        self.servers[self.masters().len()..].iter().for_each(|server| server.signal("-STOP"));
    }

    /// Resumes the replicas, or adds one to a standalone server. Returns whether it added one, which gives the master a
    /// new replication id.
    pub(crate) fn start_replicas(&mut self) -> bool {
        let replicas = &self.servers[self.masters().len()..];
        replicas.iter().for_each(|server| server.signal("-CONT"));
        if !replicas.is_empty() {
            return false;
        }
        let (master, port) = (self.servers[0].port.to_string(), free_ports(1)[0]);
        let mut flags = vec!["--replicaof", "127.0.0.1", &master];
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let (ca, certificate, key) = (file("ca.pem"), file("server.pem"), file("server.key"));
        if self.kind == Kind::Tls {
            flags.extend(["--tls-replication", "yes", "--masterauth", PASSWORD, "--tls-ca-cert-file", &ca]);
            flags.extend(["--tls-cert-file", &certificate, "--tls-key-file", &key]);
        }
        let replica = self.spawn(port, &flags);
        self.keepers.push(keep([&replica]));
        self.attached.push(replica);
        true
    }

    /// Kills the master that has a slot (the only one, behind Sentinels), and promotes a replica.
    pub(crate) fn fail_over(&mut self, slot: u16) {
        let dead = self.owner(slot);
        self.servers[dead].end();
        let (survivor, order) = match self.kind {
            Kind::Cluster => (&self.servers[MASTERS + dead], "CLUSTER FAILOVER TAKEOVER".to_owned()),
            Kind::Sentinel => (&self.sentinels[0], format!("SENTINEL FAILOVER {SERVICE}")),
            _ => panic!("{:?} has nobody to take over", self.kind),
        };
        survivor.obey(&order);
    }

    /// Begins to move a slot of a Cluster to another master. Its keys are not moved yet.
    pub(crate) fn begin_moving(&self, slot: u16) {
        let (from, to) = self.way_of(slot);
        to.obey(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", from.id()));
        from.obey(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", to.id()));
    }

    /// Moves a key of a slot that is being moved.
    pub(crate) fn move_key(&self, slot: u16, key: &str) {
        let (from, to) = self.way_of(slot);
        from.obey(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", to.port));
    }

    /// Completes the move of a slot.
    pub(crate) fn end_moving(&self, slot: u16) {
        let (from, to) = self.way_of(slot);
        for server in [to, from] {
            server.obey(&format!("CLUSTER SETSLOT {slot} NODE {}", to.id()));
        }
    }

    fn way_of(&self, slot: u16) -> (&Server, &Server) {
        let from = self.owner(slot);
        (&self.servers[from], &self.servers[(from + 1) % MASTERS])
    }

    /// Returns the index of the server that had a slot at the start.
    fn owner(&self, slot: u16) -> usize {
        let masters = self.masters().len();
        (0..masters).find(|at| usize::from(slot) < SLOTS * (at + 1) / masters).expect("a master")
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for server in self.servers.iter_mut().chain(&mut self.sentinels).chain(&mut self.attached) {
            server.end();
        }
        for keeper in &mut self.keepers {
            // The servers are already dead; a line lets the shell exit without killing.
            let _ = keeper.write_all(b"\n");
        }
    }
}

/// Starts a shell that kills the servers when its pipe closes, so that they end even if the test process is killed.
fn keep<'a>(servers: impl IntoIterator<Item = &'a Server>) -> ChildStdin {
    let keeper = Command::new("sh")
        .args(["-c", "read -r _ || kill -KILL \"$@\" 2>/dev/null", "keeper"])
        .args(servers.into_iter().map(|server| server.process.id().to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn();
    keeper.expect("a shell").stdin.expect("a pipe")
}

impl Server {
    /// Sends a command over a plain connection, and returns the answer.
    fn ask(&self, what: &str) -> std::io::Result<String> {
        if self.socket.as_os_str().is_empty() {
            let stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            return ask(stream, what);
        }
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        ask(stream, what)
    }

    /// Repeats a command until the server answers OK.
    fn obey(&self, order: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(order).expect("the server answers");
            if answer.starts_with("+OK") {
                return;
            }
            assert!(Instant::now() < until, "{order}: {answer}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns the server's id in the Cluster.
    fn id(&self) -> String {
        self.ask("CLUSTER MYID").expect("the server answers")
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {signal}");
    }

    /// Kills the process. It has no data that would need an orderly shutdown.
    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ask(mut stream: impl Read + Write, what: &str) -> std::io::Result<String> {
    stream.write_all(format!("{what}\r\n").as_bytes())?;
    let (mut stream, mut answer) = (BufReader::new(stream), String::new());
    stream.read_line(&mut answer)?;
    if let Some(length) = answer.strip_prefix('$').and_then(|length| length.trim().parse().ok()) {
        answer.clear();
        stream.take(length).read_to_string(&mut answer)?;
    }
    Ok(answer)
}

/// Finds free ports. All are bound at the same time, so that none is returned twice.
fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    held.iter().map(|free| free.local_addr().expect("an address").port()).collect()
}

/// Creates a CA, and a server certificate signed by it.
fn make_certificates(folder: &Path) {
    let openssl = |args: &str| {
        let output = Command::new("openssl").args(args.split(' ')).current_dir(folder).output();
        let output = output.expect("openssl must be in the path, as tests/run sees to");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(&format!("{new} -subj /CN=authority -keyout ca.key -out ca.pem"));
    openssl(&format!(
        "{new} -subj /CN=server -keyout server.key -out server.pem -CA ca.pem -CAkey ca.key \
         -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
    ));
}
