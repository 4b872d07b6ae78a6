//! A node that runs as a separate process.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::eventually;

/// Maximum time for a node to become ready.
const TIMEOUT: Duration = Duration::from_secs(30);

pub struct Node {
    pub address: SocketAddr,
    process: Child,
    flags: Vec<String>,
    /// Path of the log file without port and extension.
    folder: PathBuf,
    log: PathBuf,
    level: &'static str,
    program: PathBuf,
    /// File that contains the offset of the node's wall clock. `None` if the clock is correct.
    clock: Option<PathBuf>,
}

/// Default log level of a node.
pub const LEVEL: &str = "pintalk=debug,warn";

impl Node {
    /// Starts a node on a free port.
    pub fn start(program: &Path, flags: &[String], folder: &Path, level: &'static str) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let log = folder.with_extension(format!("{}.log", address.port()));
        let process = spawn(program, address, flags, &log, level, None);
        let (flags, folder, program) = (flags.to_vec(), folder.to_owned(), program.to_owned());
        Self { address, process, flags, folder, log, level, program, clock: None }
    }

    /// Starts another node with the same flags. Its standard output and standard error are redirected as given.
    pub fn start_another_onto(&self, stdout: Stdio, stderr: Stdio) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let mut command = command(&self.program, address, &self.flags, self.level);
        let process = command.stdout(stdout).stderr(stderr).spawn().expect("the program starts");
        let (flags, folder, log) = (self.flags.clone(), self.folder.clone(), PathBuf::new());
        Self { address, process, flags, folder, log, level: self.level, program: self.program.clone(), clock: None }
    }

    /// Starts another node with the same flags and a wall clock that is off by `offset`, such as `+8d`. Its monotonic
    /// clock is correct.
    pub fn start_another_at(&self, offset: &str) -> Self {
        let mut node = self.start_another(&[]);
        node.kill();
        let clock = node.log.with_extension("clock");
        std::fs::write(&clock, offset).expect("a file");
        node.clock = Some(clock);
        node.start_again();
        node
    }

    /// Changes the wall clock offset of a node that was started by [`start_another_at`](Self::start_another_at).
    pub fn step_clock(&self, offset: &str) {
        std::fs::write(self.clock.as_ref().expect("a clock"), offset).expect("a file");
    }

    /// Starts another node with the same flags, except that the flags in `but_for` have the given values.
    pub fn start_another(&self, but_for: &[(&str, &str)]) -> Self {
        let mut flags: Vec<String> = Vec::new();
        for pair in self.flags.chunks(2).filter(|pair| but_for.iter().all(|(name, _)| pair[0] != *name)) {
            flags.extend_from_slice(pair);
        }
        flags.extend(but_for.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]));
        Self::start(&self.program, &flags, &self.folder, self.level)
    }

    /// Starts another node with the same flags from another executable.
    pub fn start_another_as(&self, program: &Path) -> Self {
        Self::start(program, &self.flags, &self.folder, self.level)
    }

    /// Returns the content of the log file.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }

    /// Starts the node again after it has ended, at the same address.
    pub fn start_again(&mut self) {
        assert!(self.process.try_wait().expect("a process").is_some(), "it still runs");
        let clock = self.clock.as_deref();
        self.process = spawn(&self.program, self.address, &self.flags, &self.log, self.level, clock);
    }

    /// Starts the node again after it has ended, from another executable.
    pub fn start_again_as(&mut self, program: &Path) {
        self.program = program.to_owned();
        self.start_again();
    }

    /// Returns the path of the executable that the process runs.
    pub fn runs(&self) -> PathBuf {
        std::fs::read_link(format!("/proc/{}/exe", self.process.id())).expect("a process")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the status and the body of the readiness check, or `None` if the node does not respond within one
    /// second.
    pub async fn readiness(&self, http: &reqwest::Client) -> Option<(u16, String)> {
        let asked = http.get(self.url("/health/ready")).timeout(Duration::from_secs(1)).send().await.ok()?;
        Some((asked.status().as_u16(), asked.text().await.ok()?))
    }

    pub async fn is_ready(&self, http: &reqwest::Client) -> bool {
        self.readiness(http).await.is_some_and(|(status, _)| status == 200)
    }

    pub async fn ready(&self, http: &reqwest::Client) {
        eventually("the node is ready", TIMEOUT, async || self.is_ready(http).await.then_some(())).await;
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {signal}");
    }

    pub fn kill(&mut self) {
        self.process.kill().expect("a process");
        self.process.wait().expect("a process");
    }

    /// Returns the exit code of the process, or `None` while it runs. The inner value is `None` if a signal ended it.
    pub fn has_ended(&mut self) -> Option<Option<i32>> {
        Some(self.process.try_wait().expect("a process")?.code())
    }

    /// Returns the resident memory of the process in KiB.
    pub fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.split_ascii_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// Returns the value of a counter or gauge of `/metrics`, summed over all labels.
    pub async fn metric(&self, http: &reqwest::Client, name: &str) -> f64 {
        let text = http.get(self.url("/metrics")).send().await.expect("metrics").text().await.expect("text");
        let lines =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Node {
    /// Returns the value of one sample of `/metrics`, or 0 if the sample is missing. `sample` is its name with labels,
    /// exactly as in the response.
    pub async fn sample(&self, http: &reqwest::Client, sample: &str) -> f64 {
        let text = http.get(self.url("/metrics")).send().await.expect("metrics").text().await.expect("text");
        let values = text.lines().filter_map(|line| line.strip_prefix(sample)?.trim().parse::<f64>().ok());
        values.sum()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ended = self.process.kill().and_then(|()| self.process.wait());
    }
}

/// Returns the path of the library that the package `faketime` installs.
fn faketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").expect("a folder").filter_map(|entry| Some(entry.ok()?.path()));
    let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.exists()).expect("faketime is installed: see tests/run")
}

/// Shifts the wall clock of a command by the offset in the file `clock`, which the command reads every second. The
/// monotonic clock is not shifted.
pub fn fake_clock(command: &mut Command, clock: &Path) {
    command.env("LD_PRELOAD", faketime()).env("FAKETIME_TIMESTAMP_FILE", clock);
    command.envs([("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("FAKETIME_CACHE_DURATION", "1"), ("NO_FAKE_STAT", "1")]);
}

fn spawn(
    program: &Path,
    address: SocketAddr,
    flags: &[String],
    log: &Path,
    level: &str,
    clock: Option<&Path>,
) -> Child {
    let log = File::options().create(true).append(true).open(log).expect("a log");
    let mut command = command(program, address, flags, level);
    if let Some(clock) = clock {
        fake_clock(&mut command, clock);
    }
    command.stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("the program starts")
}

fn command(program: &Path, address: SocketAddr, flags: &[String], level: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["serve", "--listen", &address.to_string()]).args(flags);
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PINTALK_")) {
        command.env_remove(variable);
    }
    command.env("RUST_LOG", level).stdin(Stdio::null());
    command
}
