//! Real servers: a Redis of its own for each test, and a database of its own on the servers of the run.

use fred::prelude::*;
use sea_orm::{ConnectionTrait as _, Database as Connection};

use deployment::{Kind, Servers};

#[allow(dead_code, reason = "the crate's own tests use it all")]
#[path = "../../../src/redis/testing/servers.rs"]
mod deployment;

/// A Redis that ends with the test.
pub struct RedisServer(Servers);

impl RedisServer {
    pub async fn start() -> Self {
        let start = || Servers::start(Kind::Redis7);
        Self(tokio::task::spawn_blocking(start).await.expect("redis starts"))
    }

    pub fn url(&self) -> String {
        self.0.url()
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

/// Which server keeps a cluster's database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    MySql,
    MariaDb,
}

/// A database that is there for one test.
pub struct TestDatabase {
    server: String,
    name: String,
    pub url: String,
}

impl TestDatabase {
    pub async fn create(on: Database) -> Self {
        let variable = match on {
            Database::MySql => "PINTALK_TEST_MYSQL_URL",
            Database::MariaDb => "PINTALK_TEST_MARIADB_URL",
        };
        let server = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} must name a server: see tests/run"));
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
        let connection = Connection::connect(&self.server).await.expect("the database server answers");
        connection.execute_unprepared(&format!("{what} {}", self.name)).await.expect("the database server obeys");
        connection.close().await.expect("the database server answers");
    }
}
