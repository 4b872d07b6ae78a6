//! Real servers: a Redis of its own for each test, and a database of its own on the MySQL of the run.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fred::prelude::*;
use sea_orm::{ConnectionTrait as _, Database};

/// Names the MySQL server of the run.
const MYSQL: &str = "PINTALK_TEST_MYSQL_URL";

/// A `redis-server` on a free port; it ends with the test.
pub struct RedisServer {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl RedisServer {
    pub async fn start() -> Self {
        loop {
            // Somebody else may be quicker on a port that was free.
            let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
            let folder = tempfile::tempdir().expect("a folder");
            let child = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .args(["--dir", &folder.path().display().to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server is installed: see tests/run");
            let mut server = Self { child, port, _folder: folder };
            if server.answers().await {
                return server;
            }
        }
    }

    async fn answers(&mut self) -> bool {
        for _ in 0..500 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return false;
            }
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its keys, to look behind the scenes.
    pub async fn client(&self) -> fred::clients::Client {
        let client = Builder::from_config(Config::from_url(&self.url()).expect("a url")).build().expect("a client");
        client.init().await.expect("redis answers");
        client
    }

    /// Messages that wait for SQL, in all partitions.
    pub async fn queued_messages(&self) -> i64 {
        let client = self.client().await;
        let mut queued = 0;
        for partition in 0..pintalk::broker::redis::PARTITIONS {
            queued += client.xlen::<i64, _>(format!("pt:{{{partition}}}:queue")).await.expect("redis answers");
        }
        client.quit().await.expect("redis answers");
        queued
    }

    /// Everything that Redis has of a room.
    pub async fn keys_of(&self, room: &str) -> Vec<String> {
        let client = self.client().await;
        let keys: Vec<String> =
            client.custom(fred::cmd!("KEYS"), vec![format!("*{room}*")]).await.expect("redis answers");
        client.quit().await.expect("redis answers");
        keys
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A database that is there for one test.
pub struct MySqlDatabase {
    server: String,
    name: String,
    pub url: String,
}

impl MySqlDatabase {
    pub async fn create() -> Self {
        let server = std::env::var(MYSQL).unwrap_or_else(|_| panic!("{MYSQL} must name a MySQL server: see tests/run"));
        let name =
            format!("pintalk_server_{:032x}", u128::from_ne_bytes(pintalk::clock::Chance::from_entropy().bytes()));
        let url = format!("{}/{name}", server.trim_end_matches('/'));
        let database = Self { server, name, url };
        database.on_server("CREATE DATABASE").await;
        database
    }

    pub async fn drop_it(self) {
        self.on_server("DROP DATABASE").await;
    }

    async fn on_server(&self, what: &str) {
        let connection = Database::connect(&self.server).await.expect("MySQL answers");
        connection.execute_unprepared(&format!("{what} {}", self.name)).await.expect("MySQL obeys");
        connection.close().await.expect("MySQL answers");
    }
}
