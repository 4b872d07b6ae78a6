//! Environment of a test: nodes and their stores, a host account, and a shop that has a different origin.

use std::path::Path;
use std::process::{Command, Stdio};

use futures_util::{SinkExt as _, StreamExt as _};
use pintalk_kit::database::{Database, TestDatabase};
use pintalk_kit::node::{LEVEL, Node};
use pintalk_kit::redis::{Kind, Servers};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::BUILT;
use crate::shop::{Shop, tag};

pub const EMAIL: &str = "host@shop.example";
pub const PASSWORD: &str = "correct horse battery";
const JWT_SECRET: &str = "a-secret-of-the-tests-that-is-long-enough";

pub struct Site {
    pub nodes: Vec<Node>,
    pub redis: Option<Servers>,
    pub shop: Shop,
    pub access_key: String,
    pub secret_key: String,
    database: Option<TestDatabase>,
    data: tempfile::TempDir,
}

impl Site {
    /// Starts one embedded node.
    pub async fn embedded() -> Self {
        Self::build(false, &[]).await
    }

    /// Starts one embedded node with additional flags.
    pub async fn embedded_with(flags: &[&str]) -> Self {
        Self::build(false, flags).await
    }

    /// Starts two nodes with MySQL and a Redis that persists its data.
    pub async fn cluster() -> Self {
        Self::build(true, &[]).await
    }

    async fn build(is_cluster: bool, more: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let shop = Shop::open().await;
        let mut stores = vec!["--data-dir".to_owned(), data.path().display().to_string()];
        let (mut redis, mut database) = (None, None);
        let mut flags = vec!["--jwt-secret".to_owned(), JWT_SECRET.to_owned()];
        if is_cluster {
            let fresh = TestDatabase::create(Database::MySql).await;
            stores.extend(["--database-url".to_owned(), fresh.url.clone()]);
            let servers = tokio::task::spawn_blocking(|| Servers::start_durable(Kind::Redis7));
            let servers = servers.await.expect("redis starts");
            flags.extend(["--redis-url".to_owned(), servers.url(), "--trusted-proxies".to_owned(), "none".to_owned()]);
            (redis, database) = (Some(servers), Some(fresh));
        }
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        operate(&["migrate", "up"], &stores);
        let domain = shop.domains();
        let account = ["--email", EMAIL, "--password", PASSWORD, "--service-name", "Shop", "--service-domain", &domain];
        let host = operate(&[&["user", "create", "--json"], &account[..]].concat(), &stores);
        let host: Value = serde_json::from_str(&host).expect("the account as JSON");
        flags.extend(stores);
        let http = reqwest::Client::new();
        let log = data.path().join("node");
        let nodes: Vec<Node> =
            (0..if is_cluster { 2 } else { 1 }).map(|_| Node::start(BUILT.as_ref(), &flags, &log, LEVEL)).collect();
        for node in &nodes {
            node.ready(&http).await;
        }
        let text = |name: &str| host[name].as_str().expect("a key").to_owned();
        let (access_key, secret_key) = (text("accessKey"), text("secretKey"));
        shop.show(&nodes[0].url("/widget.js"), &access_key, &secret_key);
        Self { nodes, redis, shop, access_key, secret_key, database, data }
    }

    /// Creates `rooms` rooms. The first room is pinned and has `messages` messages of its guest: `message 1`, `message
    /// 2` and so on. The other rooms have no messages.
    ///
    /// Only the first message is sent over a socket. The node then stops, and the other rows are inserted as copies.
    pub async fn add_rooms(&mut self, rooms: usize, messages: usize) {
        let room = self.open_room(&reqwest::Client::new()).await;
        self.write(&room, 1).await;
        self.nodes[0].kill();
        let numbers = |from: usize, to: usize| {
            format!("WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to})")
        };
        let url = format!("sqlite://{}", self.data.path().join("pintalk.sqlite").display());
        let connection = sea_orm::Database::connect(url).await.expect("its database");
        for rows in [
            format!(
                "{} INSERT INTO chat_message (chatroom_id, seq, is_host, message, datetime, message_id, accepted_at) \
                 SELECT chatroom_id, i, is_host, 'message ' || i, datetime, 'id-' || i, accepted_at FROM chat_message, n",
                numbers(2, messages)
            ),
            format!(
                "UPDATE chatroom SET last_seq = {messages}, message_count = {messages}, unread_count = {messages}, \
                 counted_through = {messages}, latest_msg = 'message {messages}', is_fixed = TRUE, fixed_at = updated_at"
            ),
            format!(
                "{} INSERT INTO chatroom (host_id, guest, name, created_at, updated_at) \
                 SELECT host_id, 'guest ' || i, printf('%022d', i), created_at, created_at FROM chatroom, n",
                numbers(2, rooms)
            ),
        ] {
            connection.execute_unprepared(&rows).await.expect("rows");
        }
        connection.close().await.expect("the database is closed");
        self.nodes[0].start_again();
        self.nodes[0].ready(&reqwest::Client::new()).await;
    }

    /// Returns the last node. In a cluster, this is the second node.
    pub fn other(&self) -> &Node {
        self.nodes.last().expect("a node")
    }

    /// Creates a room with an HTTP request and returns its name.
    pub async fn open_room(&self, http: &reqwest::Client) -> String {
        let request = http.post(self.nodes[0].url("/api/chat/"));
        let keys =
            request.header("X-PinTalk-Access-Key", &self.access_key).header("X-PinTalk-Secret-Key", &self.secret_key);
        let room: Value = keys.send().await.expect("an answer").json().await.expect("JSON");
        room["name"].as_str().expect("a name").to_owned()
    }

    /// Sends `message 1`, `message 2` and so on in a room, without waiting between them.
    pub async fn write(&self, room: &str, count: usize) {
        let texts: Vec<String> = (1..=count).map(|number| format!("message {number}")).collect();
        self.send_text(room, &texts).await;
    }

    /// Sends texts in a room, without waiting between them.
    pub async fn send_text<T: AsRef<str>>(&self, room: &str, texts: &[T]) {
        let mut request =
            format!("ws://{}/ws/chat/{room}/", self.nodes[0].address).into_client_request().expect("a request");
        request.headers_mut().insert("Origin", self.shop.url().trim_end_matches('/').parse().expect("a header"));
        let (socket, _) = tokio_tungstenite::connect_async(request).await.expect("an upgrade");
        let (mut writes, mut reads) = socket.split();
        let last = format!("last-{room}");
        let saying = async {
            for (at, text) in texts.iter().enumerate() {
                let id = if at + 1 == texts.len() { last.clone() } else { format!("{at}-{room}") };
                let frame = json!({
                    "type": "chat_message", "id": id, "message": text.as_ref(), "datetime": "2023-03-23T08:15:07",
                });
                writes.send(Message::text(frame.to_string())).await.expect("the socket takes a frame");
            }
        };
        let hearing = async {
            while !reads.next().await.expect("the socket is open").expect("a frame").to_string().contains(&last) {}
        };
        tokio::join!(saying, hearing);
    }

    /// Returns the script tag of the widget with this host's keys. The script is loaded from `base`.
    pub fn tag(&self, base: &str) -> String {
        tag(&format!("{base}/widget.js"), &self.access_key, &self.secret_key)
    }

    /// Returns the number of open sockets of all nodes.
    pub async fn open_sockets(&self) -> f64 {
        let http = reqwest::Client::new();
        let mut open = 0.0;
        for node in &self.nodes {
            open += node.metric(&http, "pintalk_connections").await;
        }
        open
    }

    pub async fn close(mut self) {
        self.nodes.clear();
        if let Some(database) = self.database.take() {
            database.drop_it().await;
        }
    }
}

/// Returns the two tags that the README shows: the script tag and the element.
pub fn readme_tags(access_key: &str, secret_key: &str) -> [String; 2] {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("a README");
    let mut tags = readme.split("```html\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let mut next = || tags.next().expect("a tag").replacen('…', access_key, 1).replacen('…', secret_key, 1);
    [next(), next()]
}

/// Runs an administrative command of the program and returns its output.
fn operate(command: &[&str], flags: &[String]) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_pintalk"));
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PINTALK_")) {
        program.env_remove(variable);
    }
    let done = program.args(command).args(flags).stdin(Stdio::null()).output().expect("the program");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("text")
}

/// Stores a screenshot in `target/screenshots`, where developers can inspect it.
pub async fn keep_picture(page: &crate::browser::Page, name: &str) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../screenshots");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join(format!("{name}.png")), page.picture().await).expect("a file");
}
