//! The promises of presence, kept by every driver.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::memory::MemoryPresence;
use super::redis::RedisPresence;
use super::{Presence, PresenceSink};
use crate::clock::Chance;
use crate::domain::HostUuid;
use crate::redis::Redis;
use crate::redis::testing::RedisServer;

/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes a test of each function for each driver.
macro_rules! on_every_driver {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Stage { server: None }).await;
            })*
        }
        mod redis {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Stage { server: Some(super::RedisServer::start().await) }).await;
            })*
        }
    };
}

on_every_driver!(
    a_host_is_online_while_a_node_has_him,
    what_is_told_twice_is_heard_once,
    changes_are_heard_in_order,
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
    more: Notify,
}

impl Ear {
    fn hear(&self, heard: Heard) {
        self.heard.lock().push(heard);
        self.more.notify_one();
    }

    async fn until(&self, last: &Heard) -> Vec<Heard> {
        let waiting = async {
            while !self.heard.lock().contains(last) {
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
    fn presence(&self, host: HostUuid, online: bool) {
        self.hear(if online { Heard::Online(host) } else { Heard::Offline(host) });
    }
    fn greeting(&self, host: HostUuid, frame: &[u8]) {
        self.hear(Heard::Greeting(host, Bytes::copy_from_slice(frame)));
    }
    fn missed(&self) {
        self.hear(Heard::Missed);
    }
}

struct Stage {
    server: Option<RedisServer>,
}

struct Node {
    presence: Arc<dyn Presence>,
    ear: Arc<Ear>,
    redis: Option<Redis>,
}

impl Stage {
    async fn node(&self) -> Node {
        let redis = match &self.server {
            Some(server) => Some(server.node().await),
            None => None,
        };
        let presence: Arc<dyn Presence> = match &redis {
            Some(redis) => Arc::new(RedisPresence::new(redis.clone())),
            None => Arc::<MemoryPresence>::default(),
        };
        let ear = Arc::<Ear>::default();
        presence.subscribe(ear.clone()).await.unwrap();
        Node { presence, ear, redis }
    }
}

impl Node {
    async fn enter(&self, host: HostUuid) {
        self.presence.enter(host).await.unwrap();
    }

    async fn leave(&self, host: HostUuid) {
        self.presence.leave(host).await.unwrap();
    }

    async fn is_online(&self, host: HostUuid) -> bool {
        self.presence.is_online(host).await.unwrap()
    }

    /// Everything that was heard before a greeting that is sent now: also that something was not.
    async fn heard(&self) -> Vec<Heard> {
        let marker = Heard::Greeting(a_host(), "marker".into());
        let Heard::Greeting(host, frame) = &marker else { unreachable!() };
        self.presence.greet(*host, frame.clone()).await.unwrap();
        let mut heard = self.ear.until(&marker).await;
        heard.retain(|heard| !matches!(heard, Heard::Greeting(_, frame) if frame == "marker"));
        heard
    }

    fn redis(&self) -> &Redis {
        self.redis.as_ref().expect("a cluster")
    }
}

fn a_host() -> HostUuid {
    HostUuid::from_random(Chance::from_entropy().bytes())
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

async fn what_is_told_twice_is_heard_once(stage: Stage) {
    let (node, host) = (stage.node().await, a_host());
    // Whom nobody has cannot leave.
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

async fn changes_are_heard_in_order(stage: Stage) {
    let node = stage.node().await;
    let hosts: Vec<_> = (0..5).map(|_| a_host()).collect();
    let mut expected = Vec::new();
    for round in 0..20 {
        for host in &hosts {
            if round % 2 == 0 {
                node.enter(*host).await;
                expected.push(Heard::Online(*host));
            } else {
                node.leave(*host).await;
                expected.push(Heard::Offline(*host));
            }
        }
    }
    assert_eq!(node.heard().await, expected);
}

async fn a_greeting_arrives_as_it_was_sent(stage: Stage) {
    let (node, host) = (stage.node().await, a_host());
    let frame = Bytes::from_static("{\"message\":\"online 🙂\"}\n".as_bytes());
    // Whether the host is there is no business of the port.
    for _ in 0..2 {
        node.presence.greet(host, frame.clone()).await.unwrap();
    }
    assert_eq!(node.heard().await, [Heard::Greeting(host, frame.clone()), Heard::Greeting(host, frame)]);
}

async fn two_nodes() -> (Stage, Node, Node) {
    let stage = Stage { server: Some(RedisServer::start().await) };
    let (one, other) = (stage.node().await, stage.node().await);
    (stage, one, other)
}

#[tokio::test]
async fn a_host_with_sockets_on_two_nodes_goes_with_the_last() {
    let (_stage, one, other) = two_nodes().await;
    let host = a_host();
    one.enter(host).await;
    other.enter(host).await;
    one.leave(host).await;
    assert!(one.is_online(host).await && other.is_online(host).await);
    other.leave(host).await;
    assert!(!one.is_online(host).await && !other.is_online(host).await);
    for node in [&one, &other] {
        assert_eq!(node.heard().await, [Heard::Online(host), Heard::Offline(host)]);
    }
}

#[tokio::test]
async fn a_greeting_reaches_every_node() {
    let (_stage, one, other) = two_nodes().await;
    let host = a_host();
    one.presence.greet(host, "{}".into()).await.unwrap();
    other.ear.until(&Heard::Greeting(host, "{}".into())).await;
    one.ear.until(&Heard::Greeting(host, "{}".into())).await;
}

#[tokio::test]
async fn a_node_that_comes_later_knows_who_is_online() {
    let (stage, one, _other) = two_nodes().await;
    let host = a_host();
    one.enter(host).await;
    let third = stage.node().await;
    assert!(third.is_online(host).await);
    assert_eq!(third.heard().await, []);
}

#[tokio::test]
async fn a_node_says_which_hosts_to_look_after_when_it_dies() {
    let (_stage, one, other) = two_nodes().await;
    let (host, gone) = (a_host(), a_host());
    for host in [host, gone] {
        one.enter(host).await;
        other.enter(host).await;
    }
    one.leave(gone).await;
    let set = format!("pt:node:{}:hosts", one.redis().node());
    assert_eq!(one.redis().raw::<Vec<String>>("SMEMBERS", &[&set]).await, [host.to_string()]);
}

#[tokio::test]
async fn a_listener_that_was_cut_off_is_told_and_hears_again() {
    let (_stage, one, other) = two_nodes().await;
    let host = a_host();
    let killed: i64 = one.redis().raw("CLIENT", &["KILL", "TYPE", "pubsub"]).await;
    assert!(killed > 0);
    one.enter(host).await;
    for node in [&one, &other] {
        node.ear.until(&Heard::Missed).await;
        assert!(node.is_online(host).await);
    }
    one.leave(host).await;
    for node in [&one, &other] {
        assert_eq!(node.heard().await.last(), Some(&Heard::Offline(host)));
    }
}
