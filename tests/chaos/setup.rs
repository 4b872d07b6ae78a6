//! Environment of a test case: stores, nodes, and clients in rooms.

mod settling;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use migration::{Migrator, MigratorTrait as _};
use parking_lot::Mutex;
use pintalk::accounts::tokens::TokenKeys;
use pintalk::accounts::{Accounts, NewAccount};
use pintalk::domain::Rng;
use pintalk::domain::clock::SystemClock;
use pintalk::domain::{ChatroomId, Host};
use pintalk::store::Store;
use pintalk_kit::database::{Database, TestDatabase};
use pintalk_kit::node::{LEVEL, Node};
use pintalk_kit::proxy::Proxy;
use pintalk_kit::redis::{Kind, Servers};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::BUILT;
use crate::client::{Client, Manner, Mode};
use crate::eventually;
use crate::figures::folder;
use crate::ledger::{Entry, Ledger, Record};
use crate::socket::SHOP;

pub const JWT_SECRET: &str = "a-secret-of-the-tests-that-is-long-enough";
pub const EMAIL: &str = "host@shop.example";
pub const PASSWORD: &str = "correct horse battery";

/// Configuration of the environment of a test case.
#[derive(Clone, Debug)]
pub struct Plan {
    pub redis: Option<Kind>,
    pub nodes: usize,
    pub rooms: usize,
    /// Number of guests per room. In addition, the host joins each room.
    pub guests: usize,
    pub manner: Manner,
    pub flags: Vec<String>,
    /// Whether nodes connect to Redis through a [`Proxy`], so that the test case can interrupt the connections. Only a
    /// standalone Redis supports this.
    pub wired_redis: bool,
    /// Path of the executable that the nodes run.
    pub program: PathBuf,
    pub level: &'static str,
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            redis: Some(Kind::Redis7),
            nodes: 3,
            rooms: 6,
            guests: 2,
            manner: Manner::default(),
            flags: Vec::new(),
            wired_redis: false,
            program: BUILT.into(),
            level: LEVEL,
            seed: 7,
        }
    }
}

pub struct Room {
    pub name: String,
    pub id: ChatroomId,
}

pub struct Setup {
    pub case: String,
    pub nodes: Vec<Node>,
    pub rooms: Vec<Room>,
    pub ledger: Ledger,
    pub rng: Rng,
    pub http: reqwest::Client,
    pub host: Host,
    pub store: Store,
    pub redis: Option<Servers>,
    pub redis_wire: Option<Proxy>,
    pub sql_wire: Option<Proxy>,
    /// Addresses of the nodes that clients connect to.
    pub open_nodes: Arc<Mutex<Vec<SocketAddr>>>,
    pub token: String,
    /// Room index and path of each socket of the host. The path contains the token.
    host_paths: Vec<(usize, Arc<Mutex<String>>)>,
    mode: watch::Sender<Mode>,
    people: JoinSet<()>,
    database: Option<TestDatabase>,
    data: tempfile::TempDir,
    manner: Manner,
}

impl Setup {
    /// Starts stores, nodes and clients, which exchange messages in all rooms.
    pub async fn set(case: &str, plan: Plan) -> Self {
        let mut setup = Self::set_empty(case, &plan).await;
        setup.fill(plan.rooms, &plan).await;
        setup
    }

    /// Creates rooms and adds clients that exchange messages in them.
    pub async fn fill(&mut self, rooms: usize, plan: &Plan) {
        for _ in 0..rooms {
            let room = self.open_room().await;
            for guest in 0..plan.guests {
                self.add(room, &format!("guest{room}_{guest}"), false, plan.manner);
            }
            self.add(room, &format!("host{room}"), true, plan.manner);
        }
        // Waits until each client has received an acknowledgement. Faults during handshakes are tested elsewhere.
        eventually("all clients are admitted and have an acknowledgement", Duration::from_secs(20), async || {
            let is_in = |record: &Record| !record.acknowledged.is_empty();
            self.ledger.each(is_in).into_iter().all(|is_in| is_in).then_some(())
        })
        .await;
    }

    /// Starts stores and nodes without clients.
    pub async fn set_empty(case: &str, plan: &Plan) -> Self {
        let case = case.to_owned();
        let data = tempfile::tempdir().expect("a folder");
        let mut flags: Vec<String> = Vec::new();
        let mut flag = |name: &str, value: &str| flags.extend([format!("--{name}"), value.to_owned()]);
        flag("jwt-secret", JWT_SECRET);
        flag("data-dir", &data.path().display().to_string());
        // This limit is off, because all clients share one address and some reconnect every second.
        flag("limit-handshakes-per-minute", "off");
        // These limits are off, because all clients share one address and one host.
        flag("limit-socket-bytes-per-second", "off");
        flag("limit-address-bytes-per-second", "off");
        flag("limit-address-mib-per-day", "off");
        flag("limit-host-mib-per-day", "off");
        let (mut redis, mut redis_wire, mut sql_wire, mut database) = (None, None, None, None);
        let url = match plan.redis {
            None => format!("sqlite://{}/pintalk.sqlite", data.path().display()),
            Some(kind) => {
                let start = move || Servers::start_durable(kind);
                let servers = tokio::task::spawn_blocking(start).await.expect("redis starts");
                let mut url = servers.url();
                if plan.wired_redis {
                    let wire = Proxy::before(address_of(&url)).await;
                    url = format!("redis://{}", wire.address);
                    redis_wire = Some(wire);
                }
                flag("redis-url", &url);
                redis = Some(servers);
                let fresh = TestDatabase::migrated(Database::MySql).await;
                let wire = Proxy::before(address_of(&fresh.url)).await;
                flag("database-url", &through(&fresh.url, wire.address));
                sql_wire = Some(wire);
                if !plan.flags.iter().any(|flag| flag == "--trusted-proxies") {
                    flag("trusted-proxies", "none");
                }
                let url = fresh.url.clone();
                database = Some(fresh);
                url
            }
        };
        flags.extend(plan.flags.iter().cloned());
        let store = Store::connect(&url).await.expect("the database answers");
        if database.is_none() {
            Migrator::up(store.connection(), None).await.expect("the schema is created");
        }
        let host = sign_up(&store).await;
        // Connections are not reused, because the pool would keep connections to a killed node.
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(0)
            .build()
            .expect("a client");
        let log = folder().join(&case);
        let nodes: Vec<Node> = (0..plan.nodes).map(|_| Node::start(&plan.program, &flags, &log, plan.level)).collect();
        for node in &nodes {
            node.ready(&http).await;
        }
        let open_nodes = Arc::new(Mutex::new(nodes.iter().map(|node| node.address).collect()));
        let mut setup = Self {
            case,
            nodes,
            rooms: Vec::new(),
            ledger: Ledger::default(),
            rng: Rng::from_seed(plan.seed),
            http,
            host,
            store,
            redis,
            redis_wire,
            sql_wire,
            open_nodes,
            token: String::new(),
            host_paths: Vec::new(),
            mode: watch::channel(Mode::Talk).0,
            people: JoinSet::new(),
            database,
            data,
            manner: plan.manner,
        };
        setup.log_in().await;
        setup
    }

    pub async fn log_in(&mut self) {
        let body = json!({"email": EMAIL, "password": PASSWORD});
        let answer = self.http.post(self.nodes[0].url("/api/auth/login/")).json(&body).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let body: Value = answer.json().await.expect("JSON");
        self.token = body["accessToken"].as_str().expect("a token").to_owned();
    }

    /// Logs the host in again. The host's clients use the new token for their next connections.
    pub async fn log_in_again(&mut self) {
        self.log_in().await;
        for (room, path) in &self.host_paths {
            *path.lock() = self.host_path(*room);
        }
    }

    /// Creates a room as a guest and returns its index.
    pub async fn open_room(&mut self) -> usize {
        let request = self.http.post(self.nodes[0].url("/api/chat/"));
        let request = request.header("X-PinTalk-Access-Key", &self.host.access_key);
        let request = request.header("X-PinTalk-Secret-Key", &self.host.secret_key).header("Origin", SHOP);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 201);
        let body: Value = answer.json().await.expect("JSON");
        let name = body["name"].as_str().expect("a name").to_owned();
        let room = self.store.rooms().by_name(name.parse().expect("a name")).await.expect("SQL").expect("a room");
        self.rooms.push(Room { name, id: room.id });
        self.rooms.len() - 1
    }

    /// Returns the path of the database of a node without Redis.
    pub fn sqlite(&self) -> PathBuf {
        self.data.path().join("pintalk.sqlite")
    }

    pub fn guest_path(&self, room: usize) -> String {
        format!("/ws/chat/{}/", self.rooms[room].name)
    }

    pub fn host_path(&self, room: usize) -> String {
        format!("/ws/chat/{}/?token={}", self.rooms[room].name, self.token)
    }

    /// Adds a client that joins an empty room. It must receive every message of the room.
    pub fn add(&mut self, room: usize, name: &str, is_host: bool, manner: Manner) -> Arc<Mutex<Record>> {
        self.enter(room, name, is_host, manner, true)
    }

    /// Adds a client that joins a room with messages. It may receive only the newest of them.
    pub fn add_late(&mut self, room: usize, name: &str, is_host: bool, manner: Manner) -> Arc<Mutex<Record>> {
        self.enter(room, name, is_host, manner, false)
    }

    fn enter(
        &mut self,
        room: usize,
        name: &str,
        is_host: bool,
        manner: Manner,
        from_start: bool,
    ) -> Arc<Mutex<Record>> {
        let record = self.ledger.add(Record::of(name, room, from_start));
        let path = if is_host { self.host_path(room) } else { self.guest_path(room) };
        let path = Arc::new(Mutex::new(path));
        if is_host {
            self.host_paths.push((room, path.clone()));
        }
        let client = Client {
            record: record.clone(),
            manner,
            rng: Rng::from_seed(self.rng.below(u64::MAX)),
            nodes: self.open_nodes.clone(),
            path,
            is_host,
            mode: self.mode.subscribe(),
        };
        self.people.spawn(client.run());
        record
    }

    /// Sends a request with the host's token to a node. Returns the status and the body. The status is 0 if the node
    /// did not respond.
    pub async fn call(&self, node: usize, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = self.http.request(method, self.nodes[node].url(path)).bearer_auth(&self.token);
        let request = if body.is_null() { request } else { request.json(&body) };
        match request.send().await {
            Ok(answer) => (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null)),
            Err(_) => (0, Value::Null),
        }
    }

    pub fn room_path(&self, room: usize) -> String {
        format!("/api/chat/chatrooms/{}/", self.rooms[room].id.0)
    }

    /// Waits until each room has had an acknowledgement after `instant`. Returns the time from `instant` until then.
    pub async fn all_acknowledged_since(&self, instant: Instant, within: Duration) -> Duration {
        while instant.elapsed() < within + Duration::from_secs(1) {
            if let Some(whole) = self.ledger.whole_after(self.rooms.len(), instant) {
                return whole;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let people = self.ledger.each(|record| {
            let at = record.acknowledged_at.last().map(Instant::elapsed);
            let (waits, tried) = record.pending.front().map(|first| (first.since.elapsed(), first.tries)).unzip();
            format!(
                "{}: connected {}, acknowledged {at:?} ago, {} wait, the first {waits:?}, tried {tried:?}, closes {:?}, over {:?}",
                record.name, record.is_connected, record.pending.len(), record.closes, record.over
            )
        });
        panic!("no acknowledgement in every room within {within:?}\n{}", people.join("\n"));
    }

    /// Waits until the readiness check of every node returns `status`. Returns the elapsed time.
    pub async fn readiness_is(&self, status: u16, within: Duration) -> Duration {
        let began = Instant::now();
        eventually(&format!("readiness is {status}"), within, async || {
            for node in &self.nodes {
                if node.readiness(&self.http).await?.0 != status {
                    return None;
                }
            }
            Some(())
        })
        .await;
        began.elapsed()
    }

    pub async fn stored(&self, room: usize) -> Vec<Entry> {
        let (mut all, mut after): (Vec<Entry>, u64) = (Vec::new(), 0);
        loop {
            let page =
                self.store.messages().between(self.rooms[room].id, after, None, 1_000).await.expect("SQL answers");
            let Some(last) = page.last() else { return all };
            after = last.seq;
            all.extend(page.iter().map(|message| (message.seq, message.id.to_string())));
        }
    }

    /// Disconnects all clients, and stops nodes and stores.
    pub async fn stop(mut self) {
        self.mode.send_replace(Mode::Leave);
        self.people.abort_all();
        while self.people.join_next().await.is_some() {}
        self.nodes.clear();
        self.store.close().await;
        if let Some(database) = self.database.take() {
            database.drop_it().await;
        }
        drop(self.data);
    }

    /// Excludes all rooms that exist so far from the comparison, because the test case has deleted them.
    pub fn forget_rooms(&mut self) {
        self.rooms.clear();
    }

    /// Adds a client to each room. These clients only receive messages.
    pub fn add_listeners(&mut self, name: &str, is_host: bool) {
        for room in 0..self.rooms.len() {
            let manner = Manner { every: None, ..self.manner };
            self.add_late(room, &format!("{name}{room}"), is_host, manner);
        }
    }

    pub fn redis(&mut self) -> &mut Servers {
        self.redis.as_mut().expect("the case has a Redis")
    }

    pub fn sql_wire(&self) -> &Proxy {
        self.sql_wire.as_ref().expect("the case has a MySQL")
    }

    pub fn redis_wire(&self) -> &Proxy {
        self.redis_wire.as_ref().expect("the case has a wire to Redis")
    }

    /// Returns the number of messages in the archive queue, which are not in the database yet.
    pub fn queued(&self) -> u64 {
        let redis = self.redis.as_ref().expect("the case has a Redis");
        let answer = redis.ask_one(0, &format!("XLEN {}", self.key("queue"))).unwrap_or_default();
        answer.trim().trim_start_matches(':').parse::<u64>().unwrap_or_default()
    }

    /// Returns the name of a key in the only partition of a standalone Redis.
    pub fn key(&self, kind: &str) -> String {
        format!("{}{{0}}:{kind}", self.prefix())
    }

    /// Returns the prefix of all keys of the installation.
    pub fn prefix(&self) -> String {
        let redis = self.redis.as_ref().expect("the case has a Redis");
        let answer = redis.ask_one(0, "GET pt:installation").unwrap_or_default();
        format!("pt:{}:", answer.trim())
    }
}

pub async fn sign_up(store: &Store) -> Host {
    let keys = TokenKeys::new(&[JWT_SECRET]).expect("keys");
    let discard_mails = Arc::new(|_| Box::pin(async {}) as futures_util::future::BoxFuture<'static, ()>);
    let accounts = Accounts::new(store.clone(), Arc::new(SystemClock), Rng::from_entropy(), keys, discard_mails);
    let new = NewAccount {
        email: EMAIL.into(),
        password: PASSWORD.into(),
        service_name: "Shop".into(),
        service_expl: "Sells things".into(),
        service_domain: Some("shop.example".into()),
    };
    accounts.create_host(new).await.expect("a host")
}

pub fn address_of(url: &str) -> SocketAddr {
    let url = url::Url::parse(url).expect("a URL");
    let (host, port) = (url.host_str().expect("a host"), url.port().expect("a port"));
    format!("{host}:{port}").parse().expect("an address")
}

fn through(url: &str, wire: SocketAddr) -> String {
    let mut url = url::Url::parse(url).expect("a URL");
    url.set_ip_host(wire.ip()).expect("a host");
    url.set_port(Some(wire.port())).expect("a port");
    url.to_string()
}
