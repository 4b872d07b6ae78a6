//! Tests that the clocks of database and Redis may differ. While they differ, no job runs and users are not affected.
//! Jobs resume after the clocks have been corrected.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use migration::{Migrator, MigratorTrait as _};
use pintalk::store::Store;
use pintalk_kit::node::{LEVEL, Node, fake_clock};
use pintalk_kit::redis::{Kind, Servers};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::BUILT;
use crate::eventually;
use crate::figures::folder;
use crate::setup::{EMAIL, JWT_SECRET, PASSWORD, sign_up};
use crate::socket::{Event, SHOP, Socket};

const CASE: &str = "the_clock_of_sql_steps";

const TIMEOUT: Duration = Duration::from_secs(40);

/// Time that exceeds the interval of every job that deletes data.
const JOBS: Duration = Duration::from_secs(12);

/// MariaDB server whose clock the test can step.
struct Database {
    process: Child,
    clock: PathBuf,
    address: SocketAddr,
}

impl Database {
    fn start(folder: &Path) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let (clock, data) = (folder.join("sql.clock"), folder.join("sql"));
        std::fs::create_dir(&data).expect("a folder");
        std::fs::write(&clock, "+0s").expect("a file");
        let mut command = mariadb(&data, address);
        fake_clock(&mut command, &clock);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { process: command.spawn().expect("the server starts"), clock, address }
    }

    fn step(&self, offset: &str) {
        std::fs::write(&self.clock, offset).expect("a file");
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _gone = self.process.kill().and_then(|()| self.process.wait());
    }
}

fn mariadb(data: &Path, address: SocketAddr) -> Command {
    let is_root = |command: &mut Command| {
        command.args(["--no-defaults", "--user=root"]).arg(format!("--datadir={}", data.join("data").display()));
    };
    let mut install = Command::new("mariadb-install-db");
    is_root(&mut install);
    install.args(["--skip-test-db", "--auth-root-authentication-method=normal"]);
    let made = install.stdin(Stdio::null()).output().expect("MariaDB, as tests/run sees to");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut server = Command::new("mariadbd");
    is_root(&mut server);
    server
        .args(["--bind-address=127.0.0.1", "--innodb-buffer-pool-size=64M"])
        .arg(format!("--port={}", address.port()));
    for (option, file) in [("socket", "socket"), ("pid-file", "pid"), ("log-error", "log")] {
        server.arg(format!("--{option}={}", data.join(file).display()));
    }
    server
}

struct Cluster {
    nodes: Vec<Node>,
    http: reqwest::Client,
    keys: (String, String),
}

impl Cluster {
    async fn leaders(&self) -> usize {
        let mut leaders = 0;
        for node in &self.nodes {
            leaders += usize::from(node.metric(&self.http, "pintalk_leader").await > 0.0);
        }
        leaders
    }

    async fn leaders_are(&self, count: usize) {
        eventually(&format!("{count} nodes lead"), TIMEOUT, async || (self.leaders().await == count).then_some(()))
            .await;
    }

    async fn log_in(&self, node: usize) -> String {
        let body = json!({"email": EMAIL, "password": PASSWORD});
        let answer = self.http.post(self.nodes[node].url("/api/auth/login/")).json(&body).send().await;
        let answer: Value = answer.expect("an answer").json().await.expect("JSON");
        answer["accessToken"].as_str().expect("a token").to_owned()
    }

    async fn call(&self, node: usize, token: &str, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let request = self.http.request(method, self.nodes[node].url(path)).bearer_auth(token);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await.expect("an answer");
        (answer.status(), answer.json().await.unwrap_or(Value::Null))
    }

    /// Creates a room and sends a message as its guest. Returns the name of the room and the guest's open socket.
    async fn room(&self) -> (String, Socket) {
        let request = self.http.post(self.nodes[0].url("/api/chat/")).header("Origin", SHOP);
        let request = request.header("X-PinTalk-Access-Key", &self.keys.0).header("X-PinTalk-Secret-Key", &self.keys.1);
        let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
        let name = answer["name"].as_str().expect("a name").to_owned();
        let path = format!("/ws/chat/{name}/");
        let mut guest = Socket::open(self.nodes[0].address, &path, Some(SHOP)).await.expect("open");
        send_hello(&mut guest).await;
        (name, guest)
    }
}

async fn send_hello(guest: &mut Socket) {
    let hello =
        json!({"type": "chat_message", "is_host": false, "message": "hello", "datetime": "2026-11-30T12:00:00"});
    assert!(guest.send(&hello.to_string()).await);
    let received = guest.receive().await;
    assert!(matches!(&received, Event::Frame(frame) if frame["message"] == "hello"), "{received:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_job_runs_while_the_clock_of_sql_is_wrong_and_a_node_leads_after_the_correction() {
    let data = tempfile::tempdir().expect("a folder");
    let redis = tokio::task::spawn_blocking(|| Servers::start_durable(Kind::Redis7)).await.expect("redis starts");
    let sql = Database::start(data.path());
    let server = format!("mysql://root@{}", sql.address);
    let store = eventually("the database answers", TIMEOUT, async || {
        let made = Store::connect(&format!("{server}/mysql")).await.ok()?;
        let create = "CREATE DATABASE IF NOT EXISTS pintalk CHARACTER SET utf8mb4";
        sea_orm::ConnectionTrait::execute_unprepared(made.connection(), create).await.ok()?;
        made.close().await;
        Store::connect(&format!("{server}/pintalk")).await.ok()
    })
    .await;
    Migrator::up(store.connection(), None).await.expect("the schema is made");
    let host = sign_up(&store).await;
    let flags = [
        ("jwt-secret", JWT_SECRET.to_owned()),
        ("data-dir", data.path().display().to_string()),
        ("redis-url", redis.url()),
        ("database-url", format!("{server}/pintalk")),
        ("trusted-proxies", "none".to_owned()),
    ];
    let flags: Vec<String> = flags.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect();
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("a client");
    let nodes = (0..2).map(|_| Node::start(Path::new(BUILT), &flags, &folder().join(CASE), LEVEL)).collect();
    let cluster = Cluster { nodes, http, keys: (host.access_key.clone(), host.secret_key.clone()) };
    for node in &cluster.nodes {
        node.ready(&cluster.http).await;
    }
    cluster.leaders_are(1).await;
    let user = format!("/api/users/{}/", host.id.0);
    let first = cluster.log_in(0).await;
    let ((closed, _gone), (open, mut guest)) = (cluster.room().await, cluster.room().await);
    let status = format!("/ws/chat/{}/status/?token={first}", host.uuid);
    let mut watching = Socket::open(cluster.nodes[1].address, &status, None).await.expect("open");
    let room = |name: &str| {
        let (store, name) = (store.clone(), name.parse().expect("a name"));
        async move { store.rooms().by_name(name).await.expect("SQL").expect("a room") }
    };
    let path = format!("/api/chat/chatrooms/{}/", room(&closed).await.id.0);
    assert_eq!(cluster.call(0, &first, Method::PATCH, &path, json!({"isClosed": true})).await.0, StatusCode::OK);

    for offset in ["+8d", "-8d"] {
        sql.step(offset);
        cluster.leaders_are(0).await;
        let stepped = Instant::now();
        while stepped.elapsed() < JOBS {
            assert_eq!(cluster.leaders().await, 0, "{offset}");
            send_hello(&mut guest).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        // A login that is created at this offset must be valid on both nodes, at this offset and at later ones.
        let token = cluster.log_in(1).await;
        for node in [0, 1] {
            assert_eq!(cluster.call(node, &token, Method::GET, &user, Value::Null).await.0, StatusCode::OK, "{offset}");
        }
        sql.step("+0s");
        cluster.leaders_are(1).await;
        assert_eq!(cluster.call(0, &first, Method::GET, &user, Value::Null).await.0, StatusCode::OK, "{offset}");
        let (is_purged, is_closed) = (room(&closed).await.purged_through > 0, room(&open).await.is_closed);
        assert_eq!((is_purged, is_closed), (false, false), "{offset}");
    }
    let received = tokio::time::timeout(Duration::from_millis(100), watching.receive()).await;
    assert!(!matches!(received, Ok(Event::Closed { .. } | Event::Broken)), "{received:?}");

    // A message has the time of Redis, and the host's read position has the time of the database. The guest's message
    // must count as unread although its time is earlier than that of the read position.
    sql.step("+5m");
    cluster.leaders_are(0).await;
    let path = format!("/ws/chat/{open}/?token={first}");
    let mut host_socket = Socket::open(cluster.nodes[1].address, &path, None).await.expect("open");
    assert!(matches!(host_socket.receive().await, Event::Frame(_)), "the history");
    host_socket.drop_hard();
    let unread = eventually("what comes after the look is unread", TIMEOUT, async || {
        let (_, list) = cluster.call(0, &first, Method::GET, "/api/chat/chatrooms/", Value::Null).await;
        let row = list["results"].as_array()?.iter().find(|row| row["name"] == open.as_str())?.clone();
        (row["unread"] != 0).then_some(row)
    });
    let talking = async {
        loop {
            send_hello(&mut guest).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let row = tokio::select! {
        row = unread => row,
        () = talking => unreachable!("it goes on"),
    };
    assert!(row["latestMsgAt"].as_str() > row["lastCheckedAt"].as_str(), "{row}");
    sql.step("+0s");
    cluster.leaders_are(1).await;
    drop(cluster);
    store.close().await;
}
