//! Client of the measured node. It runs on a separate thread, whose allocations and instructions are not counted.

use std::sync::mpsc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use pintalk_kit::database_server::Root;
use sea_orm::sqlx::{AssertSqlSafe, Executor as _, Row as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::installation::Installation;
use crate::limits::Path;

const SHOP: &str = "https://shop.example";

/// Maximum time until a frame arrives, even under callgrind on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Number of rooms whose messages are sent one at a time.
const ROOMS: usize = 16;

/// Number of sockets in the room whose deliveries are measured.
const AUDIENCE: usize = 64;

/// Number of messages that a joining socket receives.
const HISTORY: usize = 50;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Channels between the client and the node's thread.
pub(crate) struct Signals {
    /// Sent when the rooms and sockets of the path are open.
    pub(crate) prepared: oneshot::Sender<()>,
    /// Received when the thread of the node has started to count.
    pub(crate) start: mpsc::Receiver<()>,
    /// Sent when the path has run.
    pub(crate) done: oneshot::Sender<()>,
}

/// Rooms and sockets of a path. The sockets of a room are adjacent, and the first one sends.
struct Prepared {
    rooms: Vec<String>,
    sockets: Vec<Socket>,
}

/// Client that runs one path.
pub(crate) struct Client<'a> {
    installation: &'a Installation,
    http: reqwest::Client,
    root: Root,
    /// Number of messages that all clients have sent so far.
    sent: i64,
}

impl<'a> Client<'a> {
    pub(crate) async fn connect(installation: &'a Installation) -> Self {
        let mut root = Root::connect(&installation.database_url).await;
        let sent = number(&mut root, "SELECT COUNT(*) FROM chat_message").await;
        let http = reqwest::Client::builder().timeout(TIMEOUT).build().expect("a client");
        Self { installation, http, root, sent }
    }

    /// Runs a path and returns the numbers of Redis commands and SQL statements.
    pub(crate) async fn run(mut self, path: Path, signals: Signals) -> (u64, u64) {
        let mut prepared = self.prepare(path).await;
        let before = (self.commands(), self.statements().await);
        signals.prepared.send(()).expect("the node runs");
        signals.start.recv().expect("the node runs");
        self.perform(path, &mut prepared).await;
        let after = (self.commands(), self.statements().await);
        signals.done.send(()).expect("the node runs");
        (after.0 - before.0, after.1 - before.1)
    }

    async fn prepare(&mut self, path: Path) -> Prepared {
        let (rooms, sockets_of_each) = match path {
            Path::Message => (ROOMS, 2),
            Path::Burst => (1, 1),
            Path::Delivery => (1, AUDIENCE),
            // Creating this room also opens the HTTP connection, which is therefore not measured.
            Path::FirstVisit | Path::Rejoin => (1, 1),
        };
        let mut prepared = Prepared { rooms: Vec::new(), sockets: Vec::new() };
        for _ in 0..rooms {
            let room = self.open_room().await;
            for _ in 0..sockets_of_each {
                prepared.sockets.push(self.join(&room).await.0);
            }
            // The first message of a room costs more than later ones, so it is sent before the measurement.
            self.send(&mut prepared.sockets[prepared.rooms.len() * sockets_of_each..], 1).await;
            prepared.rooms.push(room);
        }
        if path == Path::Rejoin {
            self.send(&mut prepared.sockets, HISTORY).await;
        }
        self.archived().await;
        prepared
    }

    async fn perform(&mut self, path: Path, prepared: &mut Prepared) {
        match path {
            Path::Message => {
                for number in 0..path.operations() {
                    let first = number % ROOMS * 2;
                    self.send(&mut prepared.sockets[first..first + 2], 1).await;
                    self.archived().await;
                }
            }
            Path::Burst => self.send(&mut prepared.sockets, path.operations()).await,
            Path::Delivery => self.send(&mut prepared.sockets, path.operations() / AUDIENCE).await,
            Path::FirstVisit => {
                for _ in 0..path.operations() {
                    let room = self.open_room().await;
                    prepared.sockets.push(self.join(&room).await.0);
                }
            }
            Path::Rejoin => {
                for _ in 0..path.operations() {
                    let (socket, frames) = self.join(&prepared.rooms[0]).await;
                    assert_eq!(frames, 1, "a history");
                    prepared.sockets.push(socket);
                }
            }
        }
        self.archived().await;
    }

    async fn open_room(&self) -> String {
        let Installation { address, host, .. } = self.installation;
        let request = self.http.post(format!("http://{address}/api/chat/")).header("Origin", SHOP);
        let request =
            request.header("X-PinTalk-Access-Key", &host.access_key).header("X-PinTalk-Secret-Key", &host.secret_key);
        let response = request.send().await.expect("a response");
        assert_eq!(response.status(), 201);
        let room: Value = response.json().await.expect("JSON");
        room["name"].as_str().expect("a name").to_owned()
    }

    /// Opens a guest's socket and waits until it is admitted. Returns the socket and the number of text frames that it
    /// received before its admission.
    async fn join(&self, room: &str) -> (Socket, usize) {
        let url = format!("ws://{}/ws/chat/{room}/", self.installation.address);
        let mut request = url.into_client_request().expect("a request");
        request.headers_mut().insert("Origin", SHOP.parse().expect("a header"));
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("an upgrade");
        socket.send(Message::Ping("admitted".into())).await.expect("an open socket");
        let mut frames = 0;
        loop {
            match receive(&mut socket).await {
                Message::Pong(_) => return (socket, frames),
                Message::Text(_) => frames += 1,
                other => panic!("expected a pong, got {other:?}"),
            }
        }
    }

    /// Sends messages through the first socket without waiting between them, and receives them on every socket.
    async fn send(&mut self, sockets: &mut [Socket], count: usize) {
        let message = json!({"type": "chat_message", "is_host": false, "message": "hello",
            "datetime": "2023-03-23T08:15:07.123"});
        for _ in 0..count {
            sockets[0].feed(Message::text(message.to_string())).await.expect("an open socket");
        }
        sockets[0].flush().await.expect("an open socket");
        for socket in sockets {
            for _ in 0..count {
                let frame = receive(socket).await;
                assert!(frame.to_text().is_ok_and(|text| text.contains("hello")), "{frame:?}");
            }
        }
        self.sent += count as i64;
    }

    /// Waits until all messages are in the database.
    async fn archived(&mut self) {
        let until = tokio::time::Instant::now() + TIMEOUT;
        while number(&mut self.root, "SELECT COUNT(*) FROM chat_message").await < self.sent {
            assert!(tokio::time::Instant::now() < until, "messages are not archived");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns the number of commands that Redis has executed.
    fn commands(&self) -> u64 {
        let stats = self.installation.redis.ask_one(0, "INFO commandstats").expect("redis answers");
        let calls = stats.split(":calls=").skip(1).map(|line| line.split(',').next().unwrap_or_default());
        calls.map(|calls| calls.parse::<u64>().expect("a number")).sum()
    }

    /// Returns the number of statements that the node's database user has executed.
    async fn statements(&mut self) -> u64 {
        let select = "SELECT CAST(select_commands + update_commands + other_commands AS SIGNED) \
            FROM information_schema.user_statistics";
        let statements = number(&mut self.root, &format!("{select} WHERE user = '{}'", self.installation.user)).await;
        statements.try_into().expect("a count")
    }
}

async fn number(root: &mut Root, select: &str) -> i64 {
    root.0.fetch_one(AssertSqlSafe(select.to_owned())).await.expect("the database answers").get(0)
}

/// Receives the next message that is not a ping.
async fn receive(socket: &mut Socket) -> Message {
    loop {
        let message = tokio::time::timeout(TIMEOUT, socket.next()).await.expect("a frame in time");
        match message.expect("an open socket").expect("a frame") {
            Message::Ping(_) => {}
            message => return message,
        }
    }
}
