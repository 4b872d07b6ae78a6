//! Tests a node to which more clients connect concurrently than it can process (DESIGN "Bounds").

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::support::{Node, Room, SHOP, TIMEOUT, TestApp, eventually};
use crate::with_topology;

/// Number of concurrent sockets. It is larger than [`PLACES`].
const SOCKETS: usize = 400;

/// Maximum number of joins that a node accepts at a time: 256 running, 64 slow and 8 waiting.
const PLACES: usize = 256 + 64 + 8;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(node: &Node, room: &Room) -> Socket {
    let mut request = format!("ws://{}/ws/chat/{}/", node.address, room.name).into_client_request().expect("a request");
    request.headers_mut().insert("Origin", SHOP.parse().expect("a header"));
    tokio_tungstenite::connect_async(request).await.expect("an upgrade").0
}

/// Outcome of a join.
#[derive(Debug)]
enum Outcome {
    /// The node answered a ping.
    Joined,
    /// The node closed the socket with this code and reason, this long after the upgrade.
    Refused(u16, String, Duration),
    /// The socket ended without a close code.
    Lost(String),
}

async fn outcome(mut socket: Socket) -> Outcome {
    use futures_util::SinkExt as _;
    let began = Instant::now();
    // An error is ignored: if the node has closed the socket, the loop below reads its close frame.
    let _ = socket.send(Message::Ping("joined".into())).await;
    loop {
        match tokio::time::timeout(TIMEOUT, socket.next()).await.expect("a decision in time") {
            Some(Ok(Message::Pong(_))) => return Outcome::Joined,
            Some(Ok(Message::Close(Some(close)))) => {
                return Outcome::Refused(close.code.into(), close.reason.to_string(), began.elapsed());
            }
            Some(Ok(_)) => {}
            ended => return Outcome::Lost(format!("{ended:?}")),
        }
    }
}

async fn handshakes(app: &TestApp, node: &Node, result: &str) -> f64 {
    let text = app.http.get(node.url("/metrics")).send().await.expect("metrics").text().await.expect("text");
    let series = format!("pintalk_handshakes_total{{kind=\"chat\",result=\"{result}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).expect("a count")
}

with_topology! {
    #[clusters]
    async fn joins_above_the_bound_are_rejected_at_once_and_others_complete_when_the_store_answers(topology) {
        let flags = ["--limit-joins-waiting", "8", "--limit-handshakes-per-minute", "off", "--limit-sockets-per-room", "off"];
        let app = TestApp::start_with(topology, &flags).await;
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let (talking, wanted) = (Room::open(&app, a, &host).await, Room::open(&app, a, &host).await);
        let (mut guest, mut answering) = (talking.join(b).await, host.join(b, &talking).await);
        guest.send_text("before").await;
        answering.frame().await;
        let before = handshakes(&app, b, "overloaded").await;

        // Node b must read this room from the database, because neither the node nor Redis has it. The lock blocks this
        // query.
        app.redis.as_ref().expect("a cluster").remove_room(&wanted.name).await;
        let lock = app.store.connection().begin().await.expect("a transaction");
        lock.execute_unprepared("LOCK TABLES chatroom WRITE").await.expect("a lock");
        let (sender, mut outcomes) = mpsc::unbounded_channel();
        // Each socket is read from its upgrade on, because the node resets a socket that does not answer a close frame.
        join_all((0..SOCKETS).map(async |_| {
            let (socket, sender) = (connect(b, &wanted).await, sender.clone());
            tokio::spawn(async move { sender.send(outcome(socket).await) });
        }))
        .await;
        let mut next = async || {
            tokio::time::timeout(TIMEOUT, outcomes.recv()).await.expect("in time").expect("an outcome")
        };
        let mut refused = Vec::new();
        while refused.len() < SOCKETS - PLACES {
            match next().await {
                Outcome::Refused(code, reason, after) => refused.push((code, reason, after)),
                other => panic!("{other:?} although the database does not answer"),
            }
        }
        let began = Instant::now();
        guest.send_text("meanwhile").await;
        assert_eq!(answering.frame().await["message"], "meanwhile");
        let talked = began.elapsed();
        lock.execute_unprepared("UNLOCK TABLES").await.expect("unlocked");
        lock.rollback().await.expect("an end");

        let mut joined = 0;
        while refused.len() + joined < SOCKETS {
            match next().await {
                Outcome::Refused(code, reason, after) => refused.push((code, reason, after)),
                Outcome::Joined => joined += 1,
                Outcome::Lost(why) => panic!("a socket ended without a close code: {why}"),
            }
        }
        assert!(joined >= 256 + 8, "{joined}");
        assert!(talked < Duration::from_secs(1), "{talked:?}");
        let mut hints = BTreeSet::new();
        for (code, reason, after) in &refused {
            assert_eq!(*code, 1013, "{reason}");
            let hint = reason.strip_prefix("retry in ").and_then(|rest| rest.strip_suffix(" ms")).expect("a hint");
            let hint: u64 = hint.parse().expect("a number");
            assert!((1_000..=45_000).contains(&hint) && *after < Duration::from_secs(2), "{hint} after {after:?}");
            hints.insert(hint);
        }
        assert!(hints.len() > refused.len() / 2, "{hints:?}");
        assert!(handshakes(&app, b, "overloaded").await - before >= refused.len() as f64);
        eventually("a guest joins at once", async || wanted.join(b).await.is_admitted().await.then_some(())).await;
        drop((guest, answering));
        app.stop().await;
    }
}
