//! Tests of the guarantees of presence, run on every driver. [`cluster`] contains the tests that need several nodes,
//! [`failover`] the tests with a lost master, and [`cost`] the measurement of the load on Redis.

mod cluster;
mod cost;
mod failover;

use crate::backend::redis::testing::PT;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Presence, PresenceSink, PresenceUpkeep, Status};
use crate::backend::embedded::presence::MemoryPresence;
use crate::backend::redis::Redis;
use crate::backend::redis::presence::RedisPresence;
use crate::backend::redis::testing::{Kind, Servers, on_every_redis};
use crate::domain::HostUuid;
use crate::domain::Rng;

/// Maximum time that a test waits for a condition.
const PATIENCE: Duration = Duration::from_secs(20);

/// Generates a test of each function for each driver.
macro_rules! on_every_driver {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Stage { servers: None }).await;
            })*
        }
        on_every_redis!(crate::backend::presence::suite::Stage::on: $($name),*);
    };
}

on_every_driver!(
    a_host_is_online_while_a_node_has_him,
    a_repeated_report_is_published_once,
    versions_rise_and_are_those_of_what_is_read,
    changes_of_a_host_are_received_in_order,
    a_greeting_arrives_as_it_was_sent,
);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Online(HostUuid),
    Offline(HostUuid),
    Greeting(HostUuid, Bytes),
    Missed,
}

#[derive(Default)]
struct Ear {
    heard: Mutex<Vec<Heard>>,
    versions: Mutex<Vec<(HostUuid, u64)>>,
    more: Notify,
}

impl Ear {
    fn hear(&self, heard: Heard) {
        self.heard.lock().push(heard);
        self.more.notify_one();
    }

    /// Waits until an event was received `times` times. Returns all events received so far.
    async fn until(&self, last: &Heard, times: usize) -> Vec<Heard> {
        let waiting = async {
            while self.heard.lock().iter().filter(|heard| *heard == last).count() < times {
                self.more.notified().await;
            }
        };
        let came = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        let heard = self.heard.lock().clone();
        assert!(came, "{last:?} was not heard, but {heard:?}");
        heard
    }
}

impl PresenceSink for Ear {
    fn presence(&self, host: HostUuid, status: Status) {
        self.versions.lock().push((host, status.version));
        self.hear(if status.online { Heard::Online(host) } else { Heard::Offline(host) });
    }
    fn greeting(&self, host: HostUuid, frame: &[u8]) {
        self.hear(Heard::Greeting(host, Bytes::copy_from_slice(frame)));
    }
    fn missed(&self) {
        self.hear(Heard::Missed);
    }
}

struct Stage {
    servers: Option<Servers>,
}

struct Node {
    presence: Arc<dyn Presence>,
    /// `None` for a single-node server.
    upkeep: Option<Arc<dyn PresenceUpkeep>>,
    ear: Arc<Ear>,
    redis: Option<Redis>,
}

impl Stage {
    async fn on<F: Future<Output = ()>>(kind: Kind, test: impl FnOnce(Stage) -> F) {
        test(Self { servers: Some(Servers::of(kind).await) }).await;
    }

    async fn node(&self) -> Node {
        let redis = match &self.servers {
            Some(servers) => Some(servers.node().await),
            None => None,
        };
        let (presence, upkeep): (Arc<dyn Presence>, Option<Arc<dyn PresenceUpkeep>>) = match &redis {
            Some(redis) => {
                let presence = Arc::new(RedisPresence::new(redis.clone()));
                (presence.clone(), Some(presence))
            }
            None => (Arc::<MemoryPresence>::default(), None),
        };
        let ear = Arc::<Ear>::default();
        presence.subscribe(ear.clone()).await.unwrap();
        Node { presence, upkeep, ear, redis }
    }
}

impl Node {
    fn upkeep(&self) -> &dyn PresenceUpkeep {
        &**self.upkeep.as_ref().expect("a cluster")
    }

    async fn enter(&self, host: HostUuid) {
        self.presence.enter(host).await.unwrap();
    }

    async fn leave(&self, host: HostUuid) {
        self.presence.leave(host).await.unwrap();
    }

    async fn is_online(&self, host: HostUuid) -> bool {
        self.presence.status(host).await.unwrap().online
    }

    /// Sends a greeting as a marker, and returns every event received before it. The result therefore also shows that
    /// an event was not published. In a Redis Cluster, each master publishes over its own connection, so one marker is
    /// sent per master.
    async fn heard(&self) -> Vec<Heard> {
        let (host, frame) = (a_host(), Bytes::from_static(b"marker"));
        let marker = Heard::Greeting(host, frame.clone());
        let markers = match &self.redis {
            Some(redis) => {
                redis.everywhere::<i64>("PUBLISH", &[&*format!("{PT}status"), &format!("G{host} marker")]).await.len()
            }
            None => self.presence.greet(host, frame.clone()).await.map(|()| 1).unwrap(),
        };
        let heard = self.ear.until(&marker, markers).await;
        heard.into_iter().filter(|heard| !matches!(heard, Heard::Greeting(_, said) if *said == frame)).collect()
    }

    /// Expires the lease of the node, as if the node had died.
    async fn dies(&self) {
        let name = self.redis().incarnation().unwrap();
        self.redis().raw::<i64>("ZADD", &[&*format!("{PT}nodes"), "XX", "1", &name]).await;
    }

    /// Marks the lease as renewed for a full lease duration, so that the node may treat other nodes as dead.
    async fn ripens(&self) {
        // The event of the first connection may arrive during this call and begin a new incarnation.
        while !self.redis().can_judge() {
            self.redis().heartbeat().await.unwrap();
            self.redis().ripen();
        }
        self.redis().heartbeat().await.unwrap();
    }

    async fn beats(&self) {
        self.redis().heartbeat().await.unwrap();
        self.upkeep().keep().await.unwrap();
    }

    async fn left_of(&self, other: &Node) -> Vec<String> {
        self.redis().keys_with(&format!("node:{}", other.redis().node())).await
    }

    fn redis(&self) -> &Redis {
        self.redis.as_ref().expect("a cluster")
    }
}

fn a_host() -> HostUuid {
    HostUuid::from_random(Rng::from_entropy().bytes())
}

async fn a_host_is_online_while_a_node_has_him(stage: Stage) {
    let (node, host, other) = (stage.node().await, a_host(), a_host());
    assert!(!node.is_online(host).await);
    node.enter(host).await;
    assert!(node.is_online(host).await);
    assert!(!node.is_online(other).await);
    node.leave(host).await;
    assert!(!node.is_online(host).await);
}

async fn a_repeated_report_is_published_once(stage: Stage) {
    let (node, host) = (stage.node().await, a_host());
    // Reporting that a host without sockets has left has no effect.
    node.leave(host).await;
    for _ in 0..2 {
        node.enter(host).await;
        node.enter(host).await;
        node.leave(host).await;
        node.leave(host).await;
    }
    let (online, offline) = (Heard::Online(host), Heard::Offline(host));
    assert_eq!(node.heard().await, [online.clone(), offline.clone(), online, offline]);
}

async fn versions_rise_and_are_those_of_what_is_read(stage: Stage) {
    let (node, host, other) = (stage.node().await, a_host(), a_host());
    let mut read = Vec::new();
    for _ in 0..3 {
        for enters in [true, false] {
            if enters {
                node.enter(host).await
            } else {
                node.leave(host).await
            }
            read.push((host, node.presence.status(host).await.unwrap().version));
            node.enter(other).await;
        }
    }
    node.heard().await;
    let mut heard = node.ear.versions.lock().clone();
    heard.retain(|(whose, _)| *whose == host);
    assert_eq!(heard, read);
    assert!(read.windows(2).all(|pair| pair[0].1 < pair[1].1), "{read:?}");
}

async fn changes_of_a_host_are_received_in_order(stage: Stage) {
    let node = stage.node().await;
    let hosts: Vec<_> = (0..5).map(|_| a_host()).collect();
    for _ in 0..10 {
        for host in &hosts {
            node.enter(*host).await;
        }
        for host in &hosts {
            node.leave(*host).await;
        }
    }
    let heard = node.heard().await;
    assert_eq!(heard.len(), 100);
    for host in hosts {
        let (online, offline) = (Heard::Online(host), Heard::Offline(host));
        let of_host: Vec<_> = heard.iter().filter(|heard| **heard == online || **heard == offline).collect();
        assert_eq!(of_host, [&online, &offline].repeat(10));
    }
}

async fn a_greeting_arrives_as_it_was_sent(stage: Stage) {
    let (node, host) = (stage.node().await, a_host());
    let frame = Bytes::from_static("{\"message\":\"online 🙂\"}\n".as_bytes());
    // Greetings are delivered whether or not the host is online.
    for _ in 0..2 {
        node.presence.greet(host, frame.clone()).await.unwrap();
    }
    assert_eq!(node.heard().await, [Heard::Greeting(host, frame.clone()), Heard::Greeting(host, frame)]);
}
