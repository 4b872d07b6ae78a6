//! Tests clients that do not read, and rooms that have long histories.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::client::Manner;
use crate::ledger::{self, Record};
use crate::setup::{Plan, Setup};
use crate::socket::{Event, SHOP, Socket};
use crate::{eventually, span};

/// Maximum memory per socket that is not read, in KiB.
const KIB_EACH: u64 = 300;

/// Maximum number of letters in a message.
const LETTERS: usize = 2_000;

/// Opens a socket and waits until it is admitted. The client does not read any further from it.
async fn open_unread(address: SocketAddr, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let mut stream = socket.connect(address).await.expect("a connection");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nOrigin: {SHOP}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 101");
    stream
}

fn p99(setup: &Setup, from: Instant, to: Instant) -> Duration {
    ledger::p99(&setup.ledger.waits(from..to))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_never_read_cost_little_and_do_not_affect_others() {
    let sleepers = span(150, 300).as_secs() as usize;
    let flags = vec!["--limit-sockets-per-room".to_owned(), "200".to_owned()];
    let plan = Plan { nodes: 2, rooms: 3, flags, ..Plan::default() };
    let mut setup = Setup::set("sockets_that_never_read", plan).await;
    // These clients exchange long messages during the whole test case.
    for room in 0..3 {
        for writer in 0..3 {
            let every = Some(Duration::from_millis(100));
            let manner = Manner { every, letters: LETTERS, ..Manner::default() };
            setup.add_late(room, &format!("long{room}_{writer}"), false, manner);
        }
    }
    let began = Instant::now();
    tokio::time::sleep(span(8, 30)).await;
    let (quiet, before) = (p99(&setup, began, Instant::now()), memory(&setup));
    let mut asleep = Vec::new();
    for at in 0..sleepers {
        asleep.push(open_unread(setup.nodes[at % 2].address, &setup.guest_path(at % 3)).await);
    }
    let began = Instant::now();
    let (mut most, mut in_kernel) = (before, 0);
    let closed = async || {
        let mut closed = 0.0;
        for node in &setup.nodes {
            closed += node.metric(&setup.http, "pintalk_slow_closes_total").await;
        }
        closed as usize
    };
    while closed().await < sleepers {
        most = most.max(memory(&setup));
        in_kernel = in_kernel.max(unsent_kib(&setup));
        assert!(began.elapsed() < Duration::from_secs(60), "only {} of {sleepers} were closed", closed().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (disturbed, each) = (p99(&setup, began, Instant::now()), most.saturating_sub(before) / sleepers as u64);
    println!("{sleepers} closed within {:?}; p99 {quiet:?} and {disturbed:?}; {each} KiB each", began.elapsed());
    let each = each + in_kernel / sleepers as u64;
    assert!(each <= KIB_EACH, "{each} KiB a socket that does not read");
    // The node has closed these sockets. It must not hold memory for them, although the clients keep their connections
    // open.
    eventually("the kernel has freed the unread data", Duration::from_secs(10), async || {
        (unsent_kib(&setup) < 256).then_some(())
    })
    .await;
    // Both values are a few milliseconds. The margin covers delays of the scheduler.
    assert!(disturbed <= quiet * 2 + Duration::from_millis(50), "p99 {quiet:?} became {disturbed:?}");
    assert_eq!(setup.ledger.closes(1013) + setup.ledger.closes(1006), 0, "a client that reads was disconnected");
    drop(asleep);
    setup
        .finish(|_, figures| {
            figures.note("asleep", sleepers);
            figures.note("KiB each", each);
            figures.note("p99 ms before", quiet.as_millis());
            figures.note("p99 ms with them", disturbed.as_millis());
        })
        .await;
}

/// Returns the size, in KiB, of the kernel buffers with data that the nodes have sent and the clients have not read.
fn unsent_kib(setup: &Setup) -> u64 {
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    let unsent = sockets.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let port = u16::from_str_radix(fields.next()?.rsplit(':').next()?, 16).ok()?;
        let queues = fields.nth(2)?;
        let is_a_node = setup.nodes.iter().any(|node| node.address.port() == port);
        is_a_node.then(|| u64::from_str_radix(queues.split(':').next()?, 16).ok())?
    });
    unsent.sum::<u64>() / 1_024
}

fn memory(setup: &Setup) -> u64 {
    setup.nodes.iter().map(pintalk_kit::node::Node::memory_kib).sum()
}

/// Adds clients that send messages in a room as fast as the limits permit. Waits until all messages are acknowledged.
async fn write(setup: &mut Setup, room: usize, writers: usize, each: usize, letters: usize) {
    let manner = Manner { every: Some(Duration::from_millis(1)), letters, most: each, ..Manner::default() };
    for writer in 0..writers {
        // All clients except the first join a room with messages, so they may receive only the newest of these
        // messages.
        setup.add_late(room, &format!("writer{room}_{writer}"), false, manner);
    }
    let ledger = setup.ledger.clone();
    let written = async || {
        let acknowledged = |record: &Record| if record.room == room { record.acknowledged.len() } else { 0 };
        (ledger.sum(acknowledged) == writers * each).then_some(())
    };
    eventually("all is written", Duration::from_secs(90), written).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_messages_and_long_histories_are_read_completely() {
    let flags = vec!["--limits".to_owned(), "off".to_owned()];
    let plan = Plan { nodes: 2, flags, ..Plan::default() };
    let mut setup = Setup::set_empty("long_messages_and_histories", &plan).await;
    let (long, much) = (setup.open_room().await, setup.open_room().await);
    write(&mut setup, long, 1, 50, LETTERS).await;
    let mut guest = Socket::open(setup.nodes[1].address, &setup.guest_path(long), Some(SHOP)).await.expect("a socket");
    // A page of the history has at most 240 KiB. The guest requests the remaining messages page by page.
    let mut read: Vec<u64> = Vec::new();
    while read.last() != Some(&1) {
        let Event::Frame(history) = guest.receive().await else { panic!("the guest was disconnected") };
        assert!(history.to_string().len() <= 240 * 1024);
        let page = history["data"].as_array().expect("a history").iter();
        let mut page: Vec<u64> = page.map(|entry| entry["seq"].as_u64().expect("a number")).collect();
        page.sort_unstable_by(|a, b| b.cmp(a));
        read.extend(page);
        let oldest = read.last().expect("a message");
        guest.send(&format!(r#"{{"type":"request","before":{oldest}}}"#)).await;
    }
    assert_eq!(read, (1..=50).rev().collect::<Vec<u64>>());
    drop(guest);

    let many = 20_000;
    let began = Instant::now();
    write(&mut setup, much, 8, many / 8, 10).await;
    let wrote = began.elapsed();
    let began = Instant::now();
    let path = format!("{}?after=0", setup.guest_path(much));
    let mut guest = Socket::open(setup.nodes[1].address, &path, Some(SHOP)).await.expect("a socket");
    let (mut last, mut frames) = (0, 0);
    while last < many as u64 {
        let Event::Frame(frame) = guest.receive().await else { panic!("the guest was sent away at {last}") };
        frames += 1;
        for entry in frame["data"].as_array().expect("a history") {
            let seq = entry["seq"].as_u64().expect("a number");
            assert_eq!(seq, last + 1);
            last = seq;
        }
        assert_eq!(frame["more"] == true, last < many as u64);
    }
    let read = began.elapsed();
    eventually("all is in SQL", Duration::from_secs(60), async || (setup.queued() == 0).then_some(())).await;
    setup
        .finish(|_, figures| {
            figures.note("written s", format!("{:.1}", wrote.as_secs_f64()));
            figures.note("read again s", format!("{:.1}", read.as_secs_f64()));
            figures.note("frames", frames);
        })
        .await;
}
