//! Tests of the guarantees of presence, run on every driver. [`cluster`] contains tests that need several nodes,
//! [`failover`] contains tests with a lost master, and [`cost`] measures the load on Redis.

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
const WAIT_LIMIT: Duration = Duration::from_secs(20);

/// Generates one test per function and driver. Each test runs the function on that driver.
macro_rules! on_every_driver {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Setup { servers: None }).await;
            })*
        }
        on_every_redis!(crate::backend::presence::suite::Setup::on: $($name),*);
    };
}

on_every_driver!(
    a_host_is_online_while_a_node_has_its_sockets,
    a_repeated_report_is_published_once,
    versions_rise_and_match_the_status_that_is_read,
    changes_of_a_host_are_received_in_order,
    a_greeting_is_delivered_unchanged,
);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Online(HostUuid),
    Offline(HostUuid),
    Greeting(HostUuid, Bytes),
    Missed,
}

#[derive(Default)]
struct EventRecorder {
    received: Mutex<Vec<Event>>,
    versions: Mutex<Vec<(HostUuid, u64)>>,
    more: Notify,
}

impl EventRecorder {
    fn record(&self, event: Event) {
        self.received.lock().push(event);
        self.more.notify_one();
    }

    /// Waits until the event `last` has been received `times` times. Returns all events received so far.
    async fn until(&self, last: &Event, times: usize) -> Vec<Event> {
        let waiting = async {
            while self.received.lock().iter().filter(|event| *event == last).count() < times {
                self.more.notified().await;
            }
        };
        let came = tokio::time::timeout(WAIT_LIMIT, waiting).await.is_ok();
        let received = self.received.lock().clone();
        assert!(came, "{last:?} was not received, but {received:?}");
        received
    }
}

impl PresenceSink for EventRecorder {
    fn presence(&self, host: HostUuid, status: Status) {
        self.versions.lock().push((host, status.version));
        self.record(if status.online { Event::Online(host) } else { Event::Offline(host) });
    }
    fn greeting(&self, host: HostUuid, frame: &[u8]) {
        self.record(Event::Greeting(host, Bytes::copy_from_slice(frame)));
    }
    fn missed(&self) {
        self.record(Event::Missed);
    }
}

struct Setup {
    servers: Option<Servers>,
}

struct Node {
    presence: Arc<dyn Presence>,
    /// `None` on a single-node server.
    upkeep: Option<Arc<dyn PresenceUpkeep>>,
    recorder: Arc<EventRecorder>,
    redis: Option<Redis>,
}

impl Setup {
    async fn on<F: Future<Output = ()>>(kind: Kind, test: impl FnOnce(Setup) -> F) {
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
        let recorder = Arc::<EventRecorder>::default();
        presence.subscribe(recorder.clone()).await.unwrap();
        Node { presence, upkeep, recorder, redis }
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

    /// Sends a greeting as a marker, and returns every event received before it. A test can therefore also check that
    /// an event was not published. In a Redis Cluster, each master has its own connection, so one marker is sent per
    /// master.
    async fn received(&self) -> Vec<Event> {
        let (host, frame) = (a_host(), Bytes::from_static(b"marker"));
        let marker = Event::Greeting(host, frame.clone());
        let markers = match &self.redis {
            Some(redis) => {
                redis.everywhere::<i64>("PUBLISH", &[&*format!("{PT}status"), &format!("G{host} marker")]).await.len()
            }
            None => self.presence.greet(host, frame.clone()).await.map(|()| 1).unwrap(),
        };
        let received = self.recorder.until(&marker, markers).await;
        received.into_iter().filter(|event| !matches!(event, Event::Greeting(_, sent) if *sent == frame)).collect()
    }

    /// Makes the lease of the node expire, as if the node had died.
    async fn expire_lease(&self) {
        let name = self.redis().incarnation().unwrap();
        self.redis().raw::<i64>("ZADD", &[&*format!("{PT}nodes"), "XX", "1", &name]).await;
    }

    /// Makes the lease count as renewed for a full lease duration, so that the node may treat other nodes as dead.
    async fn make_uninterrupted(&self) {
        // If the client reports its connection during this call, a new incarnation begins, and the loop tries again.
        while !self.redis().can_judge() {
            self.redis().heartbeat().await.unwrap();
            self.redis().ripen();
        }
        self.redis().heartbeat().await.unwrap();
    }

    async fn renew_and_keep(&self) {
        self.redis().heartbeat().await.unwrap();
        self.upkeep().keep().await.unwrap();
    }

    async fn keys_of(&self, other: &Node) -> Vec<String> {
        self.redis().keys_with(&format!("node:{}", other.redis().node())).await
    }

    fn redis(&self) -> &Redis {
        self.redis.as_ref().expect("a cluster")
    }
}

fn a_host() -> HostUuid {
    HostUuid::from_random(Rng::from_entropy().bytes())
}

async fn a_host_is_online_while_a_node_has_its_sockets(setup: Setup) {
    let (node, host, other) = (setup.node().await, a_host(), a_host());
    assert!(!node.is_online(host).await);
    node.enter(host).await;
    assert!(node.is_online(host).await);
    assert!(!node.is_online(other).await);
    node.leave(host).await;
    assert!(!node.is_online(host).await);
}

async fn a_repeated_report_is_published_once(setup: Setup) {
    let (node, host) = (setup.node().await, a_host());
    // A call to `leave` for a host without sockets has no effect.
    node.leave(host).await;
    for _ in 0..2 {
        node.enter(host).await;
        node.enter(host).await;
        node.leave(host).await;
        node.leave(host).await;
    }
    let (online, offline) = (Event::Online(host), Event::Offline(host));
    assert_eq!(node.received().await, [online.clone(), offline.clone(), online, offline]);
}

async fn versions_rise_and_match_the_status_that_is_read(setup: Setup) {
    let (node, host, other) = (setup.node().await, a_host(), a_host());
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
    node.received().await;
    let mut received = node.recorder.versions.lock().clone();
    received.retain(|(whose, _)| *whose == host);
    assert_eq!(received, read);
    assert!(read.windows(2).all(|pair| pair[0].1 < pair[1].1), "{read:?}");
}

async fn changes_of_a_host_are_received_in_order(setup: Setup) {
    let node = setup.node().await;
    let hosts: Vec<_> = (0..5).map(|_| a_host()).collect();
    for _ in 0..10 {
        for host in &hosts {
            node.enter(*host).await;
        }
        for host in &hosts {
            node.leave(*host).await;
        }
    }
    let received = node.received().await;
    assert_eq!(received.len(), 100);
    for host in hosts {
        let (online, offline) = (Event::Online(host), Event::Offline(host));
        let of_host: Vec<_> = received.iter().filter(|event| **event == online || **event == offline).collect();
        assert_eq!(of_host, [&online, &offline].repeat(10));
    }
}

async fn a_greeting_is_delivered_unchanged(setup: Setup) {
    let (node, host) = (setup.node().await, a_host());
    let frame = Bytes::from_static("{\"message\":\"online 🙂\"}\n".as_bytes());
    // Greetings are delivered even if the host is offline.
    for _ in 0..2 {
        node.presence.greet(host, frame.clone()).await.unwrap();
    }
    assert_eq!(node.received().await, [Event::Greeting(host, frame.clone()), Event::Greeting(host, frame)]);
}
