//! Layouts of deployments that have several servers or use TLS.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::server::{Server, free_ports};
use super::{Kind, MASTERS, PASSWORD, SERVICE, SLOTS, Servers};
use crate::certificates;

impl Servers {
    /// Writes the nodes and the assignment of slots into the configuration file of each node. The nodes therefore need
    /// no `CLUSTER MEET`.
    ///
    /// A server that starts as a master rejects writes for two seconds, but a promoted replica accepts them
    /// immediately. Each master therefore starts as a replica, and [`are_promoted`](Self::are_promoted) swaps the
    /// roles. In a durable deployment the nodes start in their final roles, because an election requires that every
    /// node knows all replicas.
    pub(super) fn add_cluster(&mut self) {
        let ports = free_ports(4 * MASTERS);
        let (ports, buses) = ports.split_at(2 * MASTERS);
        let durable = self.durable;
        let starts_as_master = |at: usize| (at < MASTERS) == durable;
        for me in 0..ports.len() {
            let mut nodes = String::new();
            for (at, (port, bus)) in ports.iter().zip(buses).enumerate() {
                let myself = if at == me { "myself," } else { "" };
                let shard = at % MASTERS;
                let role = if starts_as_master(at) {
                    let (from, to) = (SLOTS * shard / MASTERS, SLOTS * (shard + 1) / MASTERS - 1);
                    format!("master - 0 0 {} connected {from}-{to}", shard + 1)
                } else {
                    let master = (at + MASTERS) % (2 * MASTERS);
                    format!("slave {} 0 0 {} connected", node_id(master), shard + 1)
                };
                writeln!(nodes, "{} 127.0.0.1:{port}@{bus} {myself}{role}", node_id(at)).expect("text");
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

    /// Promotes the masters of a Cluster, which started as replicas. Returns whether all nodes know the final roles and
    /// all replicas are connected to their masters.
    pub(super) fn are_promoted(&self) -> std::io::Result<bool> {
        if self.kind != Kind::Cluster || self.durable {
            return Ok(true);
        }
        let mut done = true;
        for master in &self.servers[..MASTERS] {
            if !master.ask("INFO replication")?.contains("role:master") {
                master.ask("CLUSTER FAILOVER TAKEOVER")?;
                done = false;
            }
        }
        for server in &self.servers {
            let nodes = server.ask("CLUSTER NODES")?;
            let has_slots = |at: usize| {
                let line = nodes.lines().find(|line| line.starts_with(&node_id(at)));
                line.is_some_and(|line| line.contains("master") && !line.ends_with("connected"))
            };
            done &= (0..MASTERS).all(has_slots);
        }
        for replica in &self.servers[MASTERS..] {
            done &= replica.ask("INFO replication")?.contains("master_link_status:up");
        }
        Ok(done)
    }

    /// Adds a master, two replicas and three Sentinels. The configuration of each Sentinel lists the replicas and the
    /// other Sentinels.
    pub(super) fn add_sentinel(&mut self) {
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

    pub(super) fn add_tls(&mut self) {
        certificates::create(self.folder.path());
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let port = free_ports(1)[0];
        let (tls, ca, certificate, key) = (port.to_string(), file("ca.pem"), file("server.pem"), file("server.key"));
        let mut flags = vec!["--port", "0", "--tls-port", &tls, "--tls-ca-cert-file", &ca, "--requirepass", PASSWORD];
        flags.extend(["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-auth-clients", "no"]);
        self.add(port, &flags);
    }
}

/// Returns the id of a Cluster node by its index.
fn node_id(at: usize) -> String {
    format!("{:040x}", 0xa11 + at)
}
