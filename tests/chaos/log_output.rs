//! Tests that a node remains available when writing to standard error fails or blocks. The reader of the log has
//! stopped or ended, or the disk is full.

use std::fs::File;
use std::io::{BufRead as _, BufReader, PipeReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pintalk_kit::node::Node;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::BUILT;
use crate::setup::{Plan, Setup};
use crate::{eventually, span};

/// Maximum response time of a node, regardless of how long its log has been blocked.
const PROMPT: Duration = Duration::from_secs(2);

/// Maximum memory of the log in KiB. It has two buffers of the same size: one is filled while the other is written.
const LOG_KIB: u64 = 2 * 1024;

/// Creates a pipe that is full and has no active reader. It is used as the standard error of a process.
fn blocked_pipe() -> (PipeReader, Stdio) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&[b'\n'; 64 * 1024]).expect("as much as a pipe holds");
    (reader, writer.into())
}

/// Starts another node with the given outputs. All clients connect to this node from now on.
async fn join_through(setup: &mut Setup, plan: &Plan, stdout: Stdio, stderr: Stdio) {
    let node = setup.nodes[0].start_another_onto(stdout, stderr);
    node.ready(&setup.http).await;
    *setup.open_nodes.lock() = vec![node.address];
    setup.nodes.push(node);
    setup.fill(2, plan).await;
}

/// Opens connections that send an invalid request. The node logs one line at level debug for each of them.
async fn log_debug_lines(node: &Node, count: usize) {
    let broken = async |each: usize| {
        for _ in 0..each {
            let mut stream = TcpStream::connect(node.address).await.expect("a connection");
            stream.write_all(b"no request\r\n\r\n").await.expect("a request");
            let mut answer = Vec::new();
            // A read error is ignored, because the node may reset the connection instead of closing it.
            let _end = stream.read_to_end(&mut answer).await;
        }
    };
    futures_util::future::join_all((0..8).map(|_| broken(count / 8))).await;
}

async fn dropped(setup: &Setup) -> f64 {
    setup.nodes[1].metric(&setup.http, "pintalk_log_lines_dropped_total").await
}

async fn answers_promptly(setup: &Setup) {
    let asked = setup.http.get(setup.nodes[1].url("/health/live")).timeout(PROMPT).send().await;
    assert_eq!(asked.expect("an answer in time").status(), 200);
}

/// Stops the node with a drain and checks its exit code. The time limit includes the time to flush the log.
async fn ends_in_order(setup: &mut Setup) {
    setup.nodes[1].signal("-TERM");
    let began = Instant::now();
    loop {
        if let Some(code) = setup.nodes[1].has_ended() {
            assert_eq!(code, Some(0));
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "the node does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn plan() -> Plan {
    let flags = ["--drain-delay", "0s", "--drain", "1s"].map(str::to_owned).to_vec();
    Plan { nodes: 1, flags, ..Plan::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_whose_log_is_not_read_continues_and_logs_again_when_it_is() {
    let plan = plan();
    let mut setup = Setup::set_empty("node_whose_log_is_not_read", &plan).await;
    let (reader, stderr) = blocked_pipe();
    join_through(&mut setup, &plan, Stdio::null(), stderr).await;
    let began = Instant::now();
    while dropped(&setup).await == 0.0 {
        log_debug_lines(&setup.nodes[1], 2_000).await;
        answers_promptly(&setup).await;
        assert!(began.elapsed() < Duration::from_secs(60), "no line was dropped");
    }
    let (held, before) = (setup.nodes[1].memory_kib(), dropped(&setup).await);
    log_debug_lines(&setup.nodes[1], 4_000).await;
    assert!(dropped(&setup).await >= before + 4_000.0);
    let grown = setup.nodes[1].memory_kib().saturating_sub(held);
    assert!(grown < LOG_KIB, "{grown} KiB more");
    tokio::time::sleep(span(3, 45)).await;
    answers_promptly(&setup).await;
    let acknowledged = setup.all_acknowledged_since(Instant::now(), PROMPT).await;

    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let mut reported = 0.0;
    let report = |line: &str| line.contains("log lines dropped").then(|| line.rsplit('=').next()?.parse::<f64>().ok());
    let since = Instant::now();
    while reported < before {
        assert!(since.elapsed() < Duration::from_secs(20), "no report");
        reported = match lines.recv_timeout(Duration::from_secs(20)) {
            Ok(line) => report(&line).flatten().unwrap_or(reported),
            Err(error) => panic!("no report: {error}"),
        };
    }
    assert_eq!(reported, dropped(&setup).await, "one report of all dropped lines");
    log_debug_lines(&setup.nodes[1], 8).await;
    let later = lines.recv_timeout(Duration::from_secs(20)).expect("a line");
    assert!(later.contains("pintalk"), "{later}");
    setup
        .finish(|_, figures| {
            figures.note("lines dropped", reported);
            figures.note("acknowledged after ms", acknowledged.as_millis());
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_whose_output_is_blocked_shuts_down_cleanly() {
    let plan = plan();
    let mut setup = Setup::set_empty("node_whose_output_is_blocked_shuts_down_cleanly", &plan).await;
    let ((_stdout_reader, stdout), (_stderr_reader, stderr)) = (blocked_pipe(), blocked_pipe());
    join_through(&mut setup, &plan, stdout, stderr).await;
    *setup.open_nodes.lock() = vec![setup.nodes[0].address];
    ends_in_order(&mut setup).await;
    setup.finish(|_, _| {}).await;
}

async fn rejected(case: &str, stdout: Stdio, stderr: Stdio) {
    let plan = plan();
    let mut setup = Setup::set_empty(case, &plan).await;
    join_through(&mut setup, &plan, stdout, stderr).await;
    log_debug_lines(&setup.nodes[1], 80).await;
    eventually("lines are counted", Duration::from_secs(10), async || (dropped(&setup).await >= 80.0).then_some(()))
        .await;
    answers_promptly(&setup).await;
    setup.all_acknowledged_since(Instant::now(), PROMPT).await;
    *setup.open_nodes.lock() = vec![setup.nodes[0].address];
    ends_in_order(&mut setup).await;
    setup.finish(|_, _| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_whose_log_reader_has_ended_continues() {
    let ends = || {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        Stdio::from(writer)
    };
    rejected("node_whose_log_reader_has_ended_continues", ends(), ends()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_whose_log_is_on_a_full_disk_continues() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").expect("a device"));
    rejected("node_whose_log_is_on_a_full_disk_continues", full(), full()).await;
}

#[test]
fn command_whose_standard_error_is_blocked_ends_with_its_exit_code() {
    for (code, args) in [(64, vec!["serve", "--drain", "soon"]), (1, vec!["serve", "--listen", "192.0.2.1:1"])] {
        let folder = tempfile::tempdir().expect("a folder");
        let (_reader, stderr) = blocked_pipe();
        let mut command = Command::new(BUILT);
        command.args(args).env("PINTALK_DATA_DIR", folder.path()).stdout(Stdio::null()).stderr(stderr);
        let (mut process, began) = (command.spawn().expect("the program starts"), Instant::now());
        let ended = loop {
            if let Some(status) = process.try_wait().expect("a process") {
                break status;
            }
            if began.elapsed() > Duration::from_secs(10) {
                process.kill().expect("a process");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(ended.code(), Some(code));
    }
}

#[test]
fn command_whose_output_is_rejected_does_not_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |args: &[&str], stdout: Stdio| {
        let mut command = Command::new(BUILT);
        command.args(args).env("PINTALK_DATA_DIR", folder.path());
        let output = command.stdout(stdout).stderr(Stdio::piped()).output().expect("the program runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for args in [["migrate", "up"].as_slice(), &["migrate", "status"], &["check"], &["cleanup"]] {
        let (reader, ended) = std::io::pipe().expect("a pipe");
        drop(reader);
        assert_eq!(run(args, ended.into()).0, Some(0), "{args:?}: a reader that has ended needs no more");
        let full = File::options().write(true).open("/dev/full").expect("a device");
        let (code, stderr) = run(args, full.into());
        assert!(code == Some(1) && stderr.starts_with("error: ") && stderr.contains("space"), "{args:?}: {stderr}");
    }
}
