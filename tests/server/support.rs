//! Starts the server under test and provides its users.

pub mod people;
pub mod servers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use migration::{Migrator, MigratorTrait as _};
use pintalk::accounts::tokens::TokenKeys;
use pintalk::accounts::{Accounts, NewAccount};
use pintalk::backend::shutdown::Shutdown;
use pintalk::domain::Host as Account;
use pintalk::domain::Rng;
use pintalk::domain::clock::{Clock as _, SystemClock};
use pintalk::node;
use pintalk::node::config::{Config, ServeArgs};
use pintalk::store::Store;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use people::{Client, Host, Room, message};
use servers::{Database, RedisServer, TestDatabase};

/// Origin of the site that the hosts of the tests register.
pub const SHOP: &str = "https://shop.example";

/// Maximum time for every expected event, even on a slow machine.
pub const TIMEOUT: Duration = Duration::from_secs(20);

const JWT_SECRET: &str = "a-secret-of-the-tests-that-is-long-enough";

/// Layout of the server under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One embedded node, without Redis and without a database server.
    Embedded,
    /// Two nodes that share Redis and a database server.
    Cluster(Database),
}

pub const MYSQL: Topology = Topology::Cluster(Database::MySql);

pub const MARIADB: Topology = Topology::Cluster(Database::MariaDb);

/// Server under test. It has one or two nodes, and more after [`add_node`](Self::add_node).
pub struct TestApp {
    pub nodes: Vec<Node>,
    pub store: Store,
    pub http: reqwest::Client,
    pub redis: Option<RedisServer>,
    database: Option<TestDatabase>,
    flags: Vec<String>,
    _data: tempfile::TempDir,
}

/// Node of a server, which runs as a task of the test.
pub struct Node {
    pub address: SocketAddr,
    pub shutdown: Shutdown,
    run: JoinHandle<Result<(), node::AppError>>,
}

impl Node {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits until the node has ended. Panics if it did not shut down cleanly.
    pub async fn ended(self) {
        let ended = tokio::time::timeout(TIMEOUT, self.run).await.expect("a node ends in time");
        ended.expect("a node does not panic").expect("a node ends in order");
        assert_eq!(self.shutdown.exit_code(), 0, "a task died by itself");
        assert_eq!(self.shutdown.tasks().len(), 0, "a task is left behind");
    }
}

impl TestApp {
    pub async fn start(topology: Topology) -> Self {
        Self::start_with(topology, &[]).await
    }

    /// Starts a server whose nodes have additional flags.
    pub async fn start_with(topology: Topology, more: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let mut flags: Vec<String> =
            ["--listen", "127.0.0.1:0", "--drain-delay", "0s"].iter().map(|flag| (*flag).to_owned()).collect();
        if !more.contains(&"--drain") {
            flags.extend(["--drain".into(), "200ms".into()]);
        }
        flags.extend([
            "--data-dir".into(),
            data.path().display().to_string(),
            "--jwt-secret".into(),
            JWT_SECRET.into(),
        ]);
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        let (mut redis, mut database) = (None, None);
        let url = match topology {
            Topology::Embedded => format!("sqlite://{}/pintalk.sqlite", data.path().display()),
            Topology::Cluster(on) => {
                let (server, fresh) = (RedisServer::start().await, TestDatabase::migrated(on).await);
                let url = fresh.url.clone();
                flags.extend(["--redis-url".into(), server.url(), "--database-url".into(), url.clone()]);
                if !more.contains(&"--trusted-proxies") {
                    flags.extend(["--trusted-proxies".into(), "none".into()]);
                }
                (redis, database) = (Some(server), Some(fresh));
                url
            }
        };
        let store = Store::connect(&url).await.expect("the database answers");
        if topology == Topology::Embedded {
            Migrator::up(store.connection(), None).await.expect("the schema is created");
        }
        let count = if topology == Topology::Embedded { 1 } else { 2 };
        let http = reqwest::Client::builder().timeout(TIMEOUT).build().expect("a client");
        let mut app = Self { nodes: Vec::new(), store, http, redis, database, flags, _data: data };
        for _ in 0..count {
            app.add_node().await;
        }
        app
    }

    /// Starts another node and waits until it is ready.
    pub async fn add_node(&mut self) {
        let args = ServeArgs::from_flags(self.flags.iter().map(String::as_str)).expect("flags");
        let mut config = Config::from_args(args, &Rng::from_entropy()).expect("a configuration");
        let listener = TcpListener::bind(config.listen).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        config.bound_to(address).expect("an address");
        let shutdown = Shutdown::new();
        let node = node::build(config).await.expect("a node");
        let run = tokio::spawn(node.run(listener, shutdown.clone(), || {}));
        let node = Node { address, shutdown, run };
        eventually("the node is ready", async || {
            let answer = self.http.get(node.url("/health/ready")).send().await.ok()?;
            (answer.status() == 200).then_some(())
        })
        .await;
        self.nodes.push(node);
    }

    /// Returns the first and the last node. Both are the same node if there is only one.
    pub fn two(&self) -> (&Node, &Node) {
        (self.nodes.first().expect("a node"), self.nodes.last().expect("a node"))
    }

    /// Creates a host whose site is [`SHOP`], and logs in.
    pub async fn host(&self, email: &str) -> Host {
        self.host_of(email, "shop.example").await
    }

    /// Creates a host with the given domains, and logs in.
    pub async fn host_of(&self, email: &str, domains: &str) -> Host {
        let account = self.sign_up(email, domains).await;
        Host::log_in(self, account, email).await
    }

    async fn sign_up(&self, email: &str, domains: &str) -> Account {
        let keys = TokenKeys::new(&[JWT_SECRET]).expect("keys");
        let discard_mails = Arc::new(|_| Box::pin(async {}) as futures_util::future::BoxFuture<'static, ()>);
        let clock = Arc::new(SystemClock);
        let accounts = Accounts::new(self.store.clone(), clock, Rng::from_entropy(), keys, discard_mails);
        let new = NewAccount {
            email: email.into(),
            password: people::PASSWORD.into(),
            service_name: "Shop".into(),
            service_expl: "Sells things".into(),
            service_domain: Some(domains.into()),
        };
        accounts.create_host(new).await.expect("a host")
    }

    pub fn sid_of(&self, host: &Host) -> String {
        let keys = TokenKeys::new(&[JWT_SECRET]).expect("keys");
        keys.read_access(&host.token, SystemClock.now()).expect("a token").sid
    }

    pub fn database_url(&self) -> String {
        let own = || format!("sqlite://{}/pintalk.sqlite", self._data.path().display());
        self.database.as_ref().map_or_else(own, |database| database.url.clone())
    }

    /// Stops one node and waits until it has ended.
    pub async fn stop_node(&mut self, at: usize) {
        let node = self.nodes.remove(at);
        node.shutdown.begin();
        node.ended().await;
    }

    /// Stops all nodes. Before the last node of a cluster stops, waits until all messages are in the database.
    pub async fn stop(mut self) {
        while !self.nodes.is_empty() {
            if self.nodes.len() == 1
                && let Some(redis) = &self.redis
            {
                eventually("everything accepted is in SQL", async || {
                    redis.queued_messages().await.eq(&0).then_some(())
                })
                .await;
            }
            self.stop_node(0).await;
        }
        self.store.close().await;
        if let Some(database) = self.database.take() {
            database.drop_it().await;
        }
    }
}

/// Polls `ask` until it returns a value, and returns the value. Panics after [`TIMEOUT`].
pub async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, asking).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Generates each test once per topology. The tests receive a running server.
#[macro_export]
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($app:ident) $body:block)*) => {
        $crate::on_topology!(embedded, $crate::support::Topology::Embedded; $($name)*);
        $crate::on_topology!(cluster_on_mysql, $crate::support::MYSQL; $($name)*);
        $crate::on_topology!(cluster_on_mariadb, $crate::support::MARIADB; $($name)*);
        $($(#[$meta])* async fn $name($app: &$crate::support::TestApp) $body)*
    };
}

/// Generates a copy of each named test that runs on `topology`, in the module `$module`.
#[macro_export]
macro_rules! on_topology {
    ($module:ident, $topology:expr; $($name:ident)*) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let app = $crate::support::TestApp::start($topology).await;
                super::$name(&app).await;
                app.stop().await;
            })*
        }
    };
}

/// Generates tests that start the server themselves. Each test function is preceded by `#[embedded]`, `#[clusters]`
/// (two nodes) or both, which select the topologies.
#[macro_export]
macro_rules! with_topology {
    ($(#[$which:ident])* async fn $name:ident($topology:ident) $body:block) => {
        mod $name {
            use super::*;
            $($crate::with_topology!(@ $which $name);)*
            async fn $name($topology: $crate::support::Topology) $body
        }
    };
    (@ embedded $name:ident) => { $crate::with_topology!(@ embedded, $crate::support::Topology::Embedded, $name); };
    (@ clusters $name:ident) => {
        $crate::with_topology!(@ cluster_on_mysql, $crate::support::MYSQL, $name);
        $crate::with_topology!(@ cluster_on_mariadb, $crate::support::MARIADB, $name);
    };
    (@ $test:ident, $topology:expr, $name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            $name($topology).await;
        }
    };
}

/// Returns the texts of the given messages, which are live frames or entries of the history.
pub fn texts(frames: &[Value]) -> Vec<String> {
    frames.iter().map(|frame| frame["message"].as_str().unwrap_or_default().to_owned()).collect()
}
