//! haproxy as the load balancer in front of nodes.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// haproxy process that is stopped on drop.
pub struct Haproxy {
    process: Child,
    pub address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Haproxy {
    pub fn before(nodes: &[SocketAddr]) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let folder = tempfile::tempdir().expect("a folder");
        let servers: String = nodes
            .iter()
            .enumerate()
            .map(|(at, node)| format!("    server node{at} {node} check inter 500ms\n"))
            .collect();
        // `on-marked-down shutdown-sessions` is not set, because it would disconnect the clients of a draining node.
        let whole = format!(
            "defaults\n    mode http\n    timeout connect 2s\n    timeout client 120s\n    timeout server 120s\n    \
             timeout tunnel 1h\n    option redispatch\n    retries 3\n    retry-on conn-failure empty-response 503\n    \
             option forwardfor\nfrontend world\n    bind {address}\n    default_backend nodes\nbackend nodes\n    \
             balance leastconn\n    option httpchk GET /health/ready\n{servers}"
        );
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, whole).expect("a configuration");
        let mut haproxy = Command::new("haproxy");
        haproxy.arg("-db").arg("-q").arg("-f").arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
        let process = haproxy.spawn().expect("haproxy is installed: see tests/run");
        let haproxy = Self { process, address, _folder: folder };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "haproxy does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        haproxy
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ended = self.process.kill().and_then(|()| self.process.wait());
    }
}
