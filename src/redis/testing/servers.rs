//! Real servers for one test: a Redis alone, a Cluster, one behind sentinels, one behind TLS. Channels, leases and lists of
//! nodes belong to a whole deployment, so tests do not share one. A whole-server test includes this file by its path: it
//! names nothing of the crate.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a deployment may take to start on a busy machine.
const START: Duration = Duration::from_secs(20);

/// How long one of them may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the sentinels call the master.
const SERVICE: &str = "pintalk";

/// Of the server that is reached over TLS.
const PASSWORD: &str = "a-password-of-tests";

/// Nobody takes over for a master that hangs: a test that wants it says so itself.
const NEVER_MS: u32 = 120_000;

/// After how long a replica takes over where one is to.
const TAKEOVER_MS: u32 = 2_000;

/// Masters of a Cluster; each has one replica.
const MASTERS: usize = 3;

/// Slots of a Cluster.
const SLOTS: usize = 16_384;

/// What a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis7,
    Redis8,
    Valkey8,
    /// Three masters with a replica each.
    Cluster,
    /// A master with two replicas, behind three sentinels.
    Sentinel,
    /// With a password, over TLS alone.
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

/// Servers that end with this value, or with the process that has it.
#[derive(Debug)]
pub(crate) struct Servers {
    kind: Kind,
    /// Whether they keep what they have on disk, and replace a master that is gone by themselves.
    durable: bool,
    /// Those that keep something, masters first.
    servers: Vec<Server>,
    sentinels: Vec<Server>,
    /// Its replicas, of a server that stands alone.
    attached: Vec<Server>,
    /// Shells that end them all when these pipes close unasked.
    keepers: Vec<ChildStdin>,
    folder: tempfile::TempDir,
}

/// One process.
#[derive(Debug)]
struct Server {
    process: Child,
    port: u16,
    socket: PathBuf,
    flags: Vec<String>,
}

impl Servers {
    /// Starts a deployment on free ports, and waits until it is whole.
    pub(crate) fn start(kind: Kind) -> Self {
        Self::begin(kind, false)
    }

    /// As [`start`](Self::start), set up as an operator would: they keep an append-only file, and a replica takes over for a
    /// master that has been gone for two seconds.
    pub(crate) fn start_durable(kind: Kind) -> Self {
        Self::begin(kind, true)
    }

    fn begin(kind: Kind, durable: bool) -> Self {
        // Somebody else may take a port that was free: then that server ends, and all begins again.
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
            // A master that was replaced without knowing it takes nothing more.
            .args(["--min-replicas-to-write", if self.durable && self.kind == Kind::Sentinel { "1" } else { "0" }])
            // A replica need not wait for others to come.
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

    /// Who has which slots is written into each node's file, so that nobody needs to be introduced.
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

    /// The sentinels know each other and the replicas from the start.
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

    /// Which deployment it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// How a node is told to reach it.
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

    /// Who vouches for the server's certificate; of [`Kind::Tls`] only.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Stops all masters in the middle of whatever they do; nobody is told, and nobody takes over.
    pub(crate) fn freeze(&self) {
        self.masters().iter().for_each(|server| server.signal("-STOP"));
    }

    /// Lets them go on.
    pub(crate) fn thaw(&self) {
        self.masters().iter().for_each(|server| server.signal("-CONT"));
    }

    /// Stops one server, as it was numbered at the start (masters first).
    pub(crate) fn freeze_one(&self, at: usize) {
        self.servers[at].signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw_one(&self, at: usize) {
        self.servers[at].signal("-CONT");
    }

    /// Kills one server, and tells nobody.
    pub(crate) fn kill_one(&mut self, at: usize) {
        self.servers[at].end();
    }

    /// Starts a server that was killed on what it had kept.
    pub(crate) fn restart_one(&mut self, at: usize) {
        let (port, flags) = (self.servers[at].port, self.servers[at].flags.clone());
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.servers[at] = self.spawn(port, &flags);
        self.keepers.push(keep([&self.servers[at]]));
    }

    /// How many servers keep something.
    pub(crate) fn len(&self) -> usize {
        self.servers.len()
    }

    /// What a server answers.
    pub(crate) fn ask_one(&self, at: usize, what: &str) -> std::io::Result<String> {
        self.servers[at].ask(what)
    }

    /// How many replicas a master has.
    pub(crate) fn replicas_of_each(&self) -> usize {
        self.servers.len() / self.masters().len() - 1
    }

    /// Which servers are masters now.
    pub(crate) fn masters_now(&self) -> Vec<usize> {
        let is_master =
            |at: &usize| self.ask_one(*at, "INFO replication").is_ok_and(|info| info.contains("role:master"));
        (0..self.servers.len()).filter(is_master).collect()
    }

    fn masters(&self) -> &[Server] {
        &self.servers[..if self.kind == Kind::Cluster { MASTERS } else { 1 }]
    }

    /// Sees that nobody replicates: those who do are stopped.
    pub(crate) fn stop_replicas(&self) {
        self.servers[self.masters().len()..].iter().for_each(|server| server.signal("-STOP"));
    }

    /// Sees that somebody replicates. Returns whether he is the first, who gives his master a new replication id.
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

    /// Kills the master that has a slot (the only one, behind sentinels), and has a replica take over.
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

    /// Begins to move a slot of a Cluster to another master; its keys stay where they are.
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

    /// Says that all of a slot has been moved.
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

    /// Which of the servers began with a slot.
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
            // Its work is done.
            let _ = keeper.write_all(b"\n");
        }
    }
}

/// Ends servers also when nobody is left to do it: then the pipe closes.
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
    /// Asks by itself, without a client; returns the answer.
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

    /// Asks until it does as told.
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

    /// What the Cluster calls it.
    fn id(&self) -> String {
        self.ask("CLUSTER MYID").expect("the server answers")
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {signal}");
    }

    /// It keeps nothing that is worth an orderly end.
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

/// All at once, so that none is given out twice.
fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    held.iter().map(|free| free.local_addr().expect("an address").port()).collect()
}

/// An authority of its own, and a server's certificate that it vouches for.
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
