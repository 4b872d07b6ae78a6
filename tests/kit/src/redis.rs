//! Redis servers for one test: a standalone server, a Cluster, a master behind Sentinels, or a server behind TLS.
//! Channels, leases and node lists exist once per deployment, so each test starts its own deployment.

mod failover;
mod layout;
mod server;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use server::{Server, free_ports, keep};

/// Maximum time for a deployment to start, even on a busy machine.
const START: Duration = Duration::from_secs(20);

/// Name of the master in the configuration of the Sentinels.
const SERVICE: &str = "pintalk";

/// Password of the server behind TLS.
const PASSWORD: &str = "a-password-of-tests";

/// Failover timeout, in milliseconds, of deployments in which no replica is promoted automatically.
const NEVER_MS: u32 = 120_000;

/// Failover timeout, in milliseconds, of deployments in which a replica is promoted automatically.
const TAKEOVER_MS: u32 = 2_000;

/// Number of masters of a Cluster. Each master has one replica.
const MASTERS: usize = 3;

/// Number of hash slots of a Cluster.
const SLOTS: usize = 16_384;

/// Kind of deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Redis7,
    Redis8,
    Valkey8,
    /// Cluster of three masters with one replica each.
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

/// Running deployment. The servers are killed when this value is dropped or the test process ends.
#[derive(Debug)]
pub struct Servers {
    kind: Kind,
    /// Whether the servers write an append-only file and a replica is promoted automatically when a master fails.
    durable: bool,
    /// Data servers. The masters come first.
    servers: Vec<Server>,
    sentinels: Vec<Server>,
    /// Replicas that were added to a standalone server.
    attached: Vec<Server>,
    /// Pipes to shells. A shell kills the servers if its pipe is closed before it has received a line.
    keepers: Vec<ChildStdin>,
    folder: tempfile::TempDir,
}

impl Servers {
    /// Starts a deployment on free ports and waits until it is ready.
    pub fn start(kind: Kind) -> Self {
        Self::begin(kind, false)
    }

    /// Starts a deployment as used in production: the servers write an append-only file, and a replica is promoted if
    /// its master is unreachable for two seconds.
    pub fn start_durable(kind: Kind) -> Self {
        Self::begin(kind, true)
    }

    fn begin(kind: Kind, durable: bool) -> Self {
        // Another process may bind a free port before the server does, and the server then exits. In this case all
        // servers are started again.
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
            if all.are_promoted().unwrap_or(false) && all.is_whole().unwrap_or(false) {
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
            // A paused master is replaced by one of its replicas. When it resumes, it has no replicas, and this setting
            // makes it reject writes.
            .args(["--min-replicas-to-write", if self.durable && self.kind == Kind::Sentinel { "1" } else { "0" }])
            // The master starts replication immediately instead of waiting for further replicas.
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

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the URL with which a node connects to the deployment.
    pub fn url(&self) -> String {
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

    /// Returns the path of the CA certificate. The file exists only for [`Kind::Tls`].
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Pauses the processes of all masters. No replica is promoted unless the deployment is durable.
    pub fn freeze(&self) {
        self.masters().iter().for_each(|server| server.signal("-STOP"));
    }

    /// Resumes the processes of all masters.
    pub fn thaw(&self) {
        self.masters().iter().for_each(|server| server.signal("-CONT"));
    }

    /// Pauses the process of one server. `at` is its index among the data servers.
    pub fn freeze_one(&self, at: usize) {
        self.servers[at].signal("-STOP");
    }

    /// Resumes the process of one server.
    pub fn thaw_one(&self, at: usize) {
        self.servers[at].signal("-CONT");
    }

    /// Kills one server. The other servers are not notified.
    pub fn kill_one(&mut self, at: usize) {
        self.servers[at].end();
    }

    /// Restarts a killed server on its port with the data that it stored.
    pub fn restart_one(&mut self, at: usize) {
        let (port, flags) = (self.servers[at].port, self.servers[at].flags.clone());
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.servers[at] = self.spawn(port, &flags);
        self.keepers.push(keep([&self.servers[at]]));
    }

    /// Returns the number of data servers.
    #[allow(clippy::len_without_is_empty, reason = "a deployment has at least one server")]
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Sends a command to one server and returns the response.
    pub fn ask_one(&self, at: usize, what: &str) -> std::io::Result<String> {
        self.servers[at].ask(what)
    }

    /// Returns the number of replicas of each master.
    pub fn replicas_of_each(&self) -> usize {
        self.servers.len() / self.masters().len() - 1
    }

    /// Returns the indexes of the servers that are masters now.
    pub fn masters_now(&self) -> Vec<usize> {
        let is_master =
            |at: &usize| self.ask_one(*at, "INFO replication").is_ok_and(|info| info.contains("role:master"));
        (0..self.servers.len()).filter(is_master).collect()
    }

    fn masters(&self) -> &[Server] {
        &self.servers[..if self.kind == Kind::Cluster { MASTERS } else { 1 }]
    }

    /// Pauses the processes of all replicas.
    pub fn stop_replicas(&self) {
        self.servers[self.masters().len()..].iter().for_each(|server| server.signal("-STOP"));
    }

    /// Resumes all replicas, or adds a replica to a standalone server. Returns whether it added a replica. In this case
    /// the master has a new replication id.
    pub fn start_replicas(&mut self) -> bool {
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
}

impl Drop for Servers {
    fn drop(&mut self) {
        for server in self.servers.iter_mut().chain(&mut self.sentinels).chain(&mut self.attached) {
            server.end();
        }
        for keeper in &mut self.keepers {
            // The servers have already been killed. The line makes the shell exit without killing any process.
            let _ = keeper.write_all(b"\n");
        }
    }
}
