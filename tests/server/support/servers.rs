//! Redis servers and databases. Each test starts its own Redis and creates its own database on a shared server.

use fred::prelude::*;

pub use pintalk_kit::database::{Database, TestDatabase};
use pintalk_kit::redis::{Kind, Servers};

/// Redis server that is stopped on drop.
pub struct RedisServer(Servers);

impl RedisServer {
    pub async fn start() -> Self {
        let start = || Servers::start(Kind::Redis7);
        Self(tokio::task::spawn_blocking(start).await.expect("redis starts"))
    }

    pub fn url(&self) -> String {
        self.0.url()
    }

    /// Returns a connected client, with which a test inspects keys.
    pub async fn client(&self) -> fred::clients::Client {
        let client = Builder::from_config(Config::from_url(&self.url()).expect("a url")).build().expect("a client");
        client.init().await.expect("redis answers");
        client
    }

    /// Closes all connections that have subscriptions.
    pub async fn kill_listeners(&self) {
        let killed = self.0.ask_one(0, "CLIENT KILL TYPE pubsub").expect("redis answers");
        assert!(!killed.starts_with(":0"), "{killed}");
    }

    /// Returns the number of messages that wait to be written to the database, summed over all partitions.
    pub async fn queued_messages(&self) -> i64 {
        let client = self.client().await;
        let installation: String = client.get("pt:installation").await.expect("redis answers");
        let partitions = format!("pt:{installation}:partitions");
        let partitions: u16 = client.get(&partitions).await.expect("redis answers");
        let mut queued = 0;
        for partition in 0..partitions {
            let queue = format!("pt:{installation}:{{{partition}}}:queue");
            queued += client.xlen::<i64, _>(queue).await.expect("redis answers");
        }
        client.quit().await.expect("redis answers");
        queued
    }

    /// Returns the remaining lifetime, in milliseconds, of each key that contains `part`. -1 means that the key does
    /// not expire.
    pub async fn spans_kept(&self, part: &str) -> Vec<i64> {
        let client = self.client().await;
        let keys: Vec<String> =
            client.custom(fred::cmd!("KEYS"), vec![format!("*{part}*")]).await.expect("redis answers");
        let mut spans = Vec::new();
        for key in keys {
            spans.push(client.pttl::<i64, _>(key).await.expect("redis answers"));
        }
        client.quit().await.expect("redis answers");
        // -2 means that the key has expired since the scan.
        spans.retain(|span| *span != -2);
        spans
    }

    /// Removes a room from Redis. The next node that uses the room reads it from the database.
    pub async fn remove_room(&self, room: &str) {
        let client = self.client().await;
        for key in self.keys_of(room).await {
            client.del::<i64, _>(key).await.expect("redis answers");
        }
        client.quit().await.expect("redis answers");
    }

    /// Returns all keys whose name contains the name of the room.
    pub async fn keys_of(&self, room: &str) -> Vec<String> {
        let client = self.client().await;
        let keys: Vec<String> =
            client.custom(fred::cmd!("KEYS"), vec![format!("*{room}*")]).await.expect("redis answers");
        client.quit().await.expect("redis answers");
        keys
    }
}
