//! Tests the succession of a leader that is killed, frozen or cut off from Redis. Another node must become leader
//! within 20 s, and two nodes must never lead at the same time.

use std::time::{Duration, Instant};

use pintalk::store::Store;
use pintalk_kit::database::{Database, TestDatabase};
use pintalk_kit::node::{LEVEL, Node};
use pintalk_kit::proxy::{Proxy, Wire};
use pintalk_kit::redis::{Kind, Servers};

use crate::BUILT;
use crate::eventually;
use crate::figures::{Figures, folder};
use crate::setup::{JWT_SECRET, address_of};

/// Maximum time without a leader.
const SUCCESSION: Duration = Duration::from_secs(20);

const CASE: &str = "the_leader_is_killed_frozen_and_cut_off";

/// Nodes that connect to Redis through one proxy each.
struct Cluster {
    nodes: Vec<Node>,
    wires: Vec<Proxy>,
    http: reqwest::Client,
}

impl Cluster {
    async fn leads(&self, node: usize) -> bool {
        self.nodes[node].metric(&self.http, "pintalk_leader").await > 0.0
    }

    /// Returns the leader among the given nodes. Fails if more than one node reports that it leads.
    async fn leader(&self, among: &[usize]) -> Option<usize> {
        let mut leaders = Vec::new();
        for node in among {
            if self.leads(*node).await {
                leaders.push(*node);
            }
        }
        assert!(leaders.len() <= 1, "{leaders:?} lead");
        leaders.pop()
    }

    /// Waits until another node leads. Returns its index and the time since `began`. If `shows` is true, the old leader
    /// can be queried and must no longer report that it leads.
    async fn succession(&self, old: usize, shows: bool, began: Instant) -> (usize, Duration) {
        let mut among: Vec<usize> = (0..self.nodes.len()).filter(|node| *node != old).collect();
        if shows {
            among.push(old);
        }
        let new =
            eventually("another leads", SUCCESSION, async || self.leader(&among).await.filter(|leader| *leader != old));
        (new.await, began.elapsed())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_killed_frozen_and_cut_off() {
    let redis = tokio::task::spawn_blocking(|| Servers::start_durable(Kind::Redis7)).await.expect("redis starts");
    let database = TestDatabase::migrated(Database::MySql).await;
    let store = Store::connect(&database.url).await.expect("the database answers");
    let data = tempfile::tempdir().expect("a folder");
    // Connections are not reused, because the pool would keep connections to a killed node.
    let http =
        reqwest::Client::builder().timeout(Duration::from_secs(5)).pool_max_idle_per_host(0).build().expect("a client");
    let mut cluster = Cluster { nodes: Vec::new(), wires: Vec::new(), http };
    for _ in 0..3 {
        let wire = Proxy::before(address_of(&redis.url())).await;
        let flags = [
            ("jwt-secret", JWT_SECRET.to_owned()),
            ("data-dir", data.path().display().to_string()),
            ("trusted-proxies", "none".to_owned()),
            ("database-url", database.url.clone()),
            ("redis-url", format!("redis://{}", wire.address)),
        ];
        let flags: Vec<String> = flags.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect();
        cluster.nodes.push(Node::start(BUILT.as_ref(), &flags, &folder().join(CASE), LEVEL));
        cluster.wires.push(wire);
    }
    for node in &cluster.nodes {
        node.ready(&cluster.http).await;
    }
    let mut figures = Figures::default();
    let leader = eventually("a node leads", SUCCESSION, async || cluster.leader(&[0, 1, 2]).await).await;

    cluster.nodes[leader].kill();
    let (next, took) = cluster.succession(leader, false, Instant::now()).await;
    figures.note("killed: led again after s", format!("{:.1}", took.as_secs_f64()));
    cluster.nodes[leader].start_again();
    cluster.nodes[leader].ready(&cluster.http).await;

    let leader = next;
    cluster.nodes[leader].signal("-STOP");
    let (next, took) = cluster.succession(leader, false, Instant::now()).await;
    figures.note("frozen: after s", format!("{:.1}", took.as_secs_f64()));
    cluster.nodes[leader].signal("-CONT");
    eventually("the frozen node has stepped down", Duration::from_secs(5), async || {
        (!cluster.leads(leader).await).then_some(())
    })
    .await;

    let leader = next;
    cluster.wires[leader].set(Wire::Silent);
    let (next, took) = cluster.succession(leader, true, Instant::now()).await;
    figures.note("cut off: after s", format!("{:.1}", took.as_secs_f64()));
    cluster.wires[leader].set(Wire::Whole);
    cluster.nodes[leader].ready(&cluster.http).await;
    assert_eq!(cluster.leader(&[0, 1, 2]).await, Some(next));
    figures.show(CASE);
    drop(cluster);
    store.close().await;
    database.drop_it().await;
}
