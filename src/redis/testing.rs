//! A Redis of its own for each test: channels, leases and lists of nodes belong to a whole server, so tests do not share one.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fred::prelude::*;

use super::Redis;
use crate::clock::Chance;
use crate::domain::NodeId;

/// How long a server may take to start on a busy machine.
const START: Duration = Duration::from_secs(10);

/// A server that ends with this value.
#[derive(Debug)]
pub(crate) struct RedisServer {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl RedisServer {
    /// Starts a server on a free port. Needs `redis-server` in the path.
    pub(crate) async fn start() -> Self {
        tokio::task::spawn_blocking(|| {
            // Somebody else may take the port that was free: then the server ends, and another port is tried.
            (0..10).find_map(|_| Self::try_start()).expect("a redis-server answers on a port of its own")
        })
        .await
        .expect("the server is started")
    }

    fn try_start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let folder = tempfile::tempdir().expect("a folder for the server");
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            // A replica need not wait for others to come.
            .args(["--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("these tests need redis-server (7 or newer) in the path");
        let mut server = Self { process, port, _folder: folder };
        let until = Instant::now() + START;
        while Instant::now() < until && server.process.try_wait().ok()?.is_none() {
            if server.answers().unwrap_or(false) {
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Whether it is this very process that answers on the port.
    fn answers(&self) -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"INFO server\r\n")?;
        let (mut answer, mut part) = (Vec::new(), [0; 4_096]);
        let me = format!("\r\nprocess_id:{}\r\n", self.process.id());
        loop {
            match stream.read(&mut part)? {
                0 => return Ok(false),
                read => answer.extend_from_slice(&part[..read]),
            }
            let text = String::from_utf8_lossy(&answer);
            if text.contains("\r\nprocess_id:") && text.contains("\r\nexecutable:") {
                return Ok(text.contains(&me));
            }
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> (&'static str, u16) {
        ("127.0.0.1", self.port)
    }

    /// The same, as a URL.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Stops the server in the middle of whatever it does; nobody is told.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {signal}");
    }

    /// The clients of a new node that is connected and counts as alive.
    pub(crate) async fn node(&self) -> Redis {
        let node = NodeId::from_random(Chance::from_entropy().bytes());
        let redis = Redis::new(&self.url(), node).expect("an URL");
        redis.client().wait_for_connect().await.expect("redis answers");
        redis.subscriber().wait_for_connect().await.expect("redis answers");
        redis.heartbeat().await.expect("redis answers");
        redis
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It keeps nothing that is worth an orderly end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Redis {
    /// Any command at all.
    pub(crate) async fn raw<T: FromValue>(&self, command: &'static str, args: &[&str]) -> T {
        let command = fred::types::CustomCommand::new_static(command, None, false);
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        self.client().custom(command, args).await.expect("redis does as told")
    }

    /// The keys whose names hold a part, in order.
    pub(crate) async fn keys(&self, part: &str) -> Vec<String> {
        let mut keys: Vec<String> = self.raw("KEYS", &[&format!("*{part}*")]).await;
        keys.sort();
        keys
    }
}
