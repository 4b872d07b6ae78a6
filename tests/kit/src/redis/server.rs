//! A Redis server process, and the shell that kills servers when the test process ends.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// Maximum time for one server to respond.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Process of one Redis server or Sentinel.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) process: Child,
    pub(super) port: u16,
    pub(super) socket: PathBuf,
    pub(super) flags: Vec<String>,
}

/// Starts a shell that kills the servers when its standard input is closed. The servers thus end even if the test
/// process is killed.
pub(super) fn keep<'a>(servers: impl IntoIterator<Item = &'a Server>) -> ChildStdin {
    let keeper = Command::new("sh")
        .args(["-c", "read -r _ || kill -KILL \"$@\" 2>/dev/null", "keeper"])
        .args(servers.into_iter().map(|server| server.process.id().to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn();
    keeper.expect("a shell").stdin.expect("a pipe")
}

impl Server {
    /// Sends a command over a connection without TLS and returns the response.
    pub(super) fn ask(&self, what: &str) -> std::io::Result<String> {
        if self.socket.as_os_str().is_empty() {
            let stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            return ask(stream, what);
        }
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        ask(stream, what)
    }

    /// Repeats a command until the server responds with `OK`.
    pub(super) fn repeat_until_ok(&self, order: &str) {
        let until = Instant::now() + TIMEOUT;
        loop {
            let answer = self.ask(order).expect("the server answers");
            if answer.starts_with("+OK") {
                return;
            }
            assert!(Instant::now() < until, "{order}: {answer}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns the id of the server in its Cluster.
    pub(super) fn id(&self) -> String {
        self.ask("CLUSTER MYID").expect("the server answers")
    }

    pub(super) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {signal}");
    }

    /// Kills the process with SIGKILL and waits until it has ended.
    pub(super) fn end(&mut self) {
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

/// Returns free ports. All of them are bound at the same time, so that no port is returned twice.
pub(super) fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    held.iter().map(|free| free.local_addr().expect("an address").port()).collect()
}
