//! Tests that an invalid frame closes its sender's socket with a close code, that an invalid handshake receives an HTTP
//! error, and that other clients are not affected (SPEC 4).

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;

use crate::on_both;
use crate::support::{Client, Room, SHOP};

on_both! {
    async fn invalid_frame_closes_only_the_socket_of_its_sender(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let (mut good, mut host_socket) = (room.join(a).await, host.join(b, &room).await);
        let nested = format!(r#"{{"type":"chat_message","message":{}"#, "[".repeat(8_000));
        let frames: Vec<(Message, u16)> = [
            "", "hi", "null", "[]", "{}", "{\"type\":\"chat_message\"}", "{\"type\":\"nonsense\"}", &nested,
            r#"{"type":"chat_message","message":"","datetime":"2023-03-23T08:15:07"}"#,
            r#"{"type":"chat_message","message":"hi","datetime":"yesterday"}"#,
            r#"{"type":"chat_message","message":"hi","datetime":"2023-03-23T08:15:07","id":"a b"}"#,
        ]
        .into_iter()
        .map(|text| (Message::text(text), 4000))
        .chain([
            (Message::binary(vec![1, 2, 3]), 4000),
            (Message::text("x".repeat(1024 * 1024)), 1009),
            (Message::text(format!("\"{}\"", "x".repeat(32 * 1024))), 1009),
        ])
        .collect();
        for (frame, code) in frames {
            let mut bad = room.join(a).await;
            let shown = frame.to_string().chars().take(60).collect::<String>();
            bad.try_send(frame).await;
            assert_eq!(bad.close_code().await, code, "{shown}");
        }
        assert_eq!(good.send_text("all fine here").await["seq"], 1);
        assert_eq!(host_socket.frame().await["seq"], 1);
    }

    async fn lone_surrogate_is_replaced(app) {
        let (a, _) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let mut guest = room.join(a).await;
        let cut = r#"{"type":"chat_message","message":"hi \ud83d","datetime":"2023-03-23T08:15:07"}"#;
        guest.send_raw(Message::text(cut)).await;
        assert_eq!(guest.frame().await["message"], "hi \u{fffd}");
    }

    async fn invalid_utf8_is_rejected(app) {
        let (a, _) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let mut stream = upgraded(a.address, &format!("/ws/chat/{}/", room.name)).await;
        // This is a masked text frame with a mask of 0. Its payload is the byte 0xff, which is not valid UTF-8.
        stream.write_all(&[0x81, 0x81, 0, 0, 0, 0, 0xff]).await.expect("written");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("read");
        assert_eq!(&answer[..1], [0x88]);
        assert_eq!(u16::from_be_bytes([answer[2], answer[3]]), 1007);
    }

    async fn invalid_handshake_receives_an_http_error(app) {
        let (a, _) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let path = format!("/ws/chat/{}/", room.name);
        let plain = app.http.get(a.url(&path)).send().await.expect("an answer");
        assert_eq!(plain.status(), 400);
        let body: serde_json::Value = plain.json().await.expect("JSON");
        assert_eq!(body["code"], 400);
        let old = app.http.get(a.url(&path)).header("Upgrade", "websocket").header("Connection", "Upgrade");
        let old = old.header("Sec-WebSocket-Version", "8").header("Sec-WebSocket-Key", "x").send().await.expect("an answer");
        assert_eq!(old.status(), 426);
        assert_eq!(app.http.get(a.url("/ws/nowhere/")).send().await.expect("an answer").status(), 404);
        // A client that has sent only part of its handshake does not delay other clients.
        let mut half = tokio::net::TcpStream::connect(a.address).await.expect("a connection");
        half.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n").as_bytes()).await.expect("written");
        room.join(a).await.send_text("hi").await;
    }

    async fn vanished_peer_does_not_affect_others(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let mut good = room.join(b).await;
        for _ in 0..5 {
            let vanishing = room.join(a).await;
            drop(vanishing);
            good.send_text("still here").await;
        }
        let path = format!("/ws/chat/{}/", room.name);
        // These clients disconnect before the node has responded to their handshakes.
        for _ in 0..5 {
            let mut hasty = tokio::net::TcpStream::connect(a.address).await.expect("a connection");
            hasty.write_all(handshake(&path).as_bytes()).await.expect("written");
            drop(hasty);
        }
        good.send_text("and here").await;
        Client::open(a, &path, Some(SHOP)).await.frame().await;
    }
}

fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nOrigin: {SHOP}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Opens a TCP connection and completes the WebSocket handshake.
async fn upgraded(address: std::net::SocketAddr, path: &str) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    stream.write_all(handshake(path).as_bytes()).await.expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    let head = String::from_utf8(head).expect("text");
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    stream
}
