//! Tests clients that send more than they read, or more than the limits permit (DESIGN "Bounds" and "Limits").

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Client, Node, Room, SHOP, TIMEOUT, TestApp, message};
use crate::with_topology;

const HELLO: &str = r#"{"type":"notice","is_host":false,"message":"online","datetime":"2023-03-23T08:15:07"}"#;

/// Size of the text of a long message in bytes.
const TEXT: usize = 5_700;

fn long() -> Value {
    message(&"가".repeat(TEXT / 3))
}

/// Maximum size, in bytes, of the kernel's buffers for a connection whose client does not read.
const KERNEL: usize = 16 * 1024 * 1024;

/// Maximum number of bytes to send. A server that buffered a response to each frame would exceed the permitted memory.
const FLOOD: usize = 16 * 1024 * 1024;

/// Opens a socket with the origin [`SHOP`]. The client reads only the status line of the response.
async fn raw(node: &Node, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let mut stream = socket.connect(node.address).await.expect("a connection");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nOrigin: {SHOP}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        node.address
    );
    stream.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 101");
    stream
}

/// Returns a frame as a client sends it, with a mask of 0.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

async fn metric(app: &TestApp, node: &Node, series: &str) -> f64 {
    let text = app.http.get(node.url("/metrics")).send().await.expect("metrics").text().await.expect("text");
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or(0.0)
}

/// Writes `bytes` repeatedly until [`FLOOD`] bytes are written or one repetition takes more than two seconds. Returns
/// the number of bytes in the complete repetitions.
async fn write_until_stuck(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < FLOOD
        && let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(2), stream.write_all(bytes)).await
    {
        written += bytes.len();
    }
    written
}

/// Returns the resident memory of this process, which includes the server, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

with_topology! {
    #[embedded]
    async fn unread_pongs_use_no_memory(topology) {
        let app = TestApp::start_with(topology, &["--limits", "off"]).await;
        let (node, _) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(&app, node, &host).await;
        let mut guests = Vec::new();
        let before = resident_kib();
        for payload in [&b""[..], &[b'a'; 125]] {
            let mut guest = raw(node, &format!("/ws/chat/{}/", room.name)).await;
            let pings = masked(0x9, payload).repeat(10_000);
            // The server sends one pong per 16 KiB that it reads. The pongs for several MB of pings therefore fit into
            // the kernel's buffers.
            let written = write_until_stuck(&mut guest, &pings).await;
            assert!(written > 1_000_000, "{written}");
            guests.push(guest);
        }
        let grown = resident_kib().saturating_sub(before);
        assert!(grown < 16 * 1_024, "{grown} KiB");
        room.join(node).await.send_text("others are served").await;
        app.stop().await;
    }
}

with_topology! {
    #[embedded]
    async fn newest_ping_of_a_reading_peer_is_answered(topology) {
        let app = TestApp::start_with(topology, &["--limits", "off"]).await;
        let (node, _) = app.two();
        let host = app.host("host@shop.example").await;
        let mut guest = Room::open(&app, node, &host).await.join(node).await;
        for number in 0..1_000 {
            guest.send_raw(Message::Ping(number.to_string().into_bytes().into())).await;
        }
        guest.send_text("still here").await;
        app.stop().await;
    }
}

with_topology! {
    #[embedded]
    #[clusters]
    async fn unread_pages_use_at_most_one_outbox(topology) {
        let app = TestApp::start_with(topology, &["--limits", "off"]).await;
        let (node, _) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(&app, node, &host).await;
        let mut writer = room.join(node).await;
        for _ in 0..60 {
            writer.send_text(&"가".repeat(1_000)).await;
        }
        let mut guest = raw(node, &format!("/ws/chat/{}/", room.name)).await;
        let request = masked(0x1, br#"{"type":"request","before":60}"#);
        let mut most: f64 = 0.0;
        let began = Instant::now();
        let written = write_until_stuck(&mut guest, &request.repeat(1_000)).await;
        assert!(written < KERNEL, "{written} bytes of requests were read");
        while metric(&app, node, "pintalk_closes_total{code=\"1013\"}").await < 1.0 {
            most = most.max(metric(&app, node, "pintalk_outbox_bytes").await);
            assert!(began.elapsed() < TIMEOUT * 2, "the socket is open");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(most > 0.0 && most <= 256.0 * 1_024.0, "{most} bytes waited");
        writer.send_text("still here").await;
        app.stop().await;
    }
}

/// Sends `count` long messages without waiting between them, and then waits until all of them are acknowledged.
async fn send_all(guest: &mut Client, count: usize) {
    for _ in 0..count {
        guest.send(&long()).await;
    }
    for _ in 0..count {
        guest.frame().await;
    }
}

with_topology! {
    #[embedded]
    #[clusters]
    async fn socket_above_its_byte_rate_is_throttled_and_loses_nothing(topology) {
        let flags = [
            "--limit-socket-bytes-per-second", "65536", "--limit-socket-burst-bytes", "65536",
            "--limit-messages-per-second", "off",
        ];
        let app = TestApp::start_with(topology, &flags).await;
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let (mut fast, mut other) = (Room::open(&app, a, &host).await.join(b).await, Room::open(&app, a, &host).await.join(b).await);
        let began = Instant::now();
        tokio::join!(send_all(&mut fast, 60), async {
            // Other clients are served while the messages of `fast` are delayed.
            other.send_text("hello").await;
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        });
        // The messages have 340 KiB in total. After a first burst, the limit delays the rest for more than three
        // seconds.
        assert!((3..10).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        app.stop().await;
    }
}

with_topology! {
    #[embedded]
    async fn sockets_of_one_address_share_its_byte_rate(topology) {
        let flags = [
            "--limit-address-bytes-per-second", "65536", "--limit-socket-bytes-per-second", "off",
            "--limit-messages-per-second", "off",
        ];
        let app = TestApp::start_with(topology, &flags).await;
        let (node, _) = app.two();
        let host = app.host("host@shop.example").await;
        let mut guests = Vec::new();
        for _ in 0..4 {
            guests.push(Room::open(&app, node, &host).await.join(node).await);
        }
        let began = Instant::now();
        futures_util::future::join_all(guests.iter_mut().map(|guest| send_all(guest, 15))).await;
        assert!((3..10).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        app.stop().await;
    }
}

with_topology! {
    #[embedded]
    #[clusters]
    async fn host_above_the_daily_byte_limit_is_rejected_with_1013_and_others_are_not(topology) {
        let flags = [
            "--limit-host-mib-per-day", "1", "--limit-socket-bytes-per-second", "off",
            "--limit-address-bytes-per-second", "off", "--limit-messages-per-second", "off",
        ];
        let app = TestApp::start_with(topology, &flags).await;
        let (a, b) = app.two();
        let (host, other) = (app.host("host@shop.example").await, app.host("other@shop.example").await);
        let (room, elsewhere) = (Room::open(&app, a, &host).await, Room::open(&app, a, &other).await);
        let mut bytes = 0;
        let refusing = 'all: loop {
            for node in [a, b] {
                let mut guest = Room::open(&app, a, &host).await.join(node).await;
                for _ in 0..8 {
                    guest.send(&long()).await;
                    match guest.next().await {
                        Message::Text(_) => bytes += TEXT,
                        Message::Close(Some(close)) => {
                            assert_eq!(u16::from(close.code), 1013);
                            assert!(close.reason.starts_with("retry in "), "{}", close.reason);
                            break 'all node;
                        }
                        unexpected => panic!("{unexpected:?}"),
                    }
                }
            }
            assert!(bytes < 2 * 1_048_576, "nothing is refused");
        };
        // Each node takes 1/64 of the limit at a time, so the number of accepted bytes may deviate from the limit.
        assert!((900_000..1_300_000).contains(&bytes), "{bytes}");
        // The limit on guests' bytes does not affect the host, and clients above the limit may still read.
        host.join(refusing, &room).await.send_text("from the host").await;
        let mut guest = room.join(refusing).await;
        guest.frame().await;
        guest.send(&message("from a guest")).await;
        assert_eq!(guest.close_code().await, 1013);
        let refused = async |node| metric(&app, node, "pintalk_messages_total{result=\"over_budget\"}").await;
        assert!(refused(a).await + refused(b).await >= 1.0);
        elsewhere.join(b).await.send_text("another host's").await;
        assert!(room.join(a).await.is_admitted().await);
        app.stop().await;
    }
}

with_topology! {
    #[embedded]
    #[clusters]
    async fn guests_that_flood_a_status_do_not_close_or_delay_it(topology) {
        let app = TestApp::start_with(topology, &["--limits", "off"]).await;
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let mut unread = raw(a, &format!("/ws/chat/{}/status/?token={}", host.account.uuid, host.token)).await;
        let mut reading = host.open_status(a).await;
        let mut guests = Vec::new();
        for at in 0..60 {
            guests.push(host.open_guest_status(if at % 2 == 0 { a } else { b }).await);
        }
        let began = Instant::now();
        for guest in &mut guests {
            for _ in 0..20 {
                guest.send_raw(Message::text(HELLO)).await;
            }
        }
        let mut guest = Room::open(&app, b, &host).await.join(b).await;
        guest.send_text("after the flood").await;
        let mut online = 0;
        loop {
            let frame: Value = reading.frame().await;
            if frame["message"] == "chat_message" {
                assert_eq!(frame["preview"], json!("after the flood"));
                break;
            }
            online += 1;
        }
        // Each node sends the first notice immediately and then one per second.
        let most = 2 * (2 + began.elapsed().as_secs());
        assert!((1..=most).contains(&online), "{online} notices in {:?}", began.elapsed());
        assert!(reading.is_admitted().await);
        // The client that has not read until now also receives the notice of the message.
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("after the flood") {
            let mut more = [0; 4_096];
            let read = tokio::time::timeout(TIMEOUT, unread.read(&mut more)).await.expect("a frame").expect("bytes");
            assert!(read > 0, "the socket was closed");
            seen.extend_from_slice(&more[..read]);
        }
        app.stop().await;
    }
}
