//! Tests of leader election. Time is paused and advances only while a test waits.

use async_trait::async_trait;

use super::*;
use crate::backend::Unavailable;
use crate::backend::embedded::lease::SoleLease;

/// In-memory lease store with injected faults.
#[derive(Default)]
struct LeaseStore {
    held: Mutex<Option<(usize, Instant)>>,
    disconnected: Mutex<Option<usize>>,
    /// Delay of each response.
    delay: Mutex<Duration>,
}

/// Access of one node to the lease store.
struct LeaseClient {
    node: usize,
    store: Arc<LeaseStore>,
}

#[async_trait]
impl Lease for LeaseClient {
    async fn hold(&self) -> Result<bool, Unavailable> {
        if *self.store.disconnected.lock() == Some(self.node) {
            tokio::time::sleep(Duration::from_secs(3)).await;
            return Err(Unavailable("cut off".into()));
        }
        let now = Instant::now();
        let granted = {
            let mut held = self.store.held.lock();
            let is_free = held.is_none_or(|(node, until)| node == self.node || until <= now);
            if is_free {
                *held = Some((self.node, now + TTL));
            }
            is_free
        };
        let delay = *self.store.delay.lock();
        tokio::time::sleep(delay).await;
        Ok(granted)
    }

    async fn release(&self) -> Result<(), Unavailable> {
        let mut held = self.store.held.lock();
        if held.is_some_and(|(node, _)| node == self.node) {
            *held = None;
        }
        Ok(())
    }
}

struct Cluster {
    store: Arc<LeaseStore>,
    nodes: Vec<Leader>,
    stops: Vec<CancellationToken>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Cluster {
    /// Starts three nodes, of which the first one leads.
    async fn start() -> Self {
        let store = Arc::<LeaseStore>::default();
        let nodes: Vec<_> =
            (0..3).map(|node| Leader::new(Arc::new(LeaseClient { node, store: store.clone() }))).collect();
        let mut cluster = Self { store, nodes, stops: Vec::new(), tasks: Vec::new() };
        for node in cluster.nodes.clone() {
            let stop = CancellationToken::new();
            cluster.stops.push(stop.clone());
            cluster.tasks.push(tokio::spawn(node.run(stop)));
            tokio::task::yield_now().await;
        }
        assert_eq!(cluster.leaders(), [0]);
        cluster
    }

    fn leaders(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].is_leading()).collect()
    }

    /// Waits until another node leads. Checks that two nodes never lead at the same time. Returns the elapsed time.
    async fn succession(&self) -> Duration {
        let began = Instant::now();
        loop {
            let leaders = self.leaders();
            assert!(leaders.len() <= 1, "{leaders:?}");
            if leaders.first().is_some_and(|leader| *leader != 0) {
                return began.elapsed();
            }
            assert!(began.elapsed() < Duration::from_secs(60), "there is no leader");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_node_leads_as_long_as_it_runs() {
    let cluster = Cluster::start().await;
    for _ in 0..1_000 {
        tokio::time::sleep(Duration::from_millis(90)).await;
        assert_eq!(cluster.leaders(), [0]);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_kill_another_leads_within_20_s() {
    let cluster = Cluster::start().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    cluster.tasks[0].abort();
    let took = cluster.succession().await;
    assert!(took < Duration::from_secs(18), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_disconnected_leader_steps_down_before_another_leads() {
    let cluster = Cluster::start().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    *cluster.store.disconnected.lock() = Some(0);
    let took = cluster.succession().await;
    assert!(took < Duration::from_secs(20), "{took:?}");
    // The node can reach the store again, but does not become leader.
    *cluster.store.disconnected.lock() = None;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let leaders = cluster.leaders();
    assert!(leaders.len() == 1 && leaders != [0], "{leaders:?}");
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_does_not_make_a_lease_longer() {
    let store = Arc::<LeaseStore>::default();
    *store.delay.lock() = TTL - Duration::from_secs(1);
    let node = Leader::new(Arc::new(LeaseClient { node: 0, store }));
    assert!(node.campaign().await);
    assert!(node.is_leading());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!node.is_leading(), "15 s after it asked, whenever it was answered");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_frozen_stops_leading_at_once() {
    let store = Arc::<LeaseStore>::default();
    let node = Leader::new(Arc::new(LeaseClient { node: 0, store: store.clone() }));
    let other = Leader::new(Arc::new(LeaseClient { node: 1, store }));
    assert!(node.campaign().await && !other.campaign().await);
    tokio::time::advance(Duration::from_secs(16)).await;
    assert!(!node.is_leading());
    assert!(other.campaign().await && !node.campaign().await);
    assert_eq!((node.is_leading(), other.is_leading()), (false, true));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_in_order_releases_the_lease() {
    let mut cluster = Cluster::start().await;
    cluster.stops[0].cancel();
    cluster.tasks.remove(0).await.unwrap();
    assert!(cluster.leaders().is_empty());
    let took = cluster.succession().await;
    assert!(took <= CAMPAIGN_INTERVAL + Duration::from_millis(50), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_single_node_leads_from_the_start() {
    let node = Leader::new(Arc::new(SoleLease));
    let stop = CancellationToken::new();
    let task = tokio::spawn(node.clone().run(stop.clone()));
    tokio::task::yield_now().await;
    assert!(node.is_leading());
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(node.is_leading());
    stop.cancel();
    task.await.unwrap();
    assert!(!node.is_leading());
}

#[tokio::test(start_paused = true)]
async fn a_node_with_clock_skew_steps_down_at_once_and_does_not_campaign() {
    let store = Arc::<LeaseStore>::default();
    let clocks = Agreement::assumed();
    let node = |node| Leader::new(Arc::new(LeaseClient { node, store: store.clone() }));
    let (skewed, other) = (node(0).while_clocks_agree(clocks.clone()), node(1));
    let stop = CancellationToken::new();
    let mut tasks = vec![tokio::spawn(skewed.clone().run(stop.clone()))];
    tokio::task::yield_now().await;
    assert!(skewed.is_leading());
    clocks.set(false);
    assert!(!skewed.is_leading(), "no job begins any more");
    tasks.push(tokio::spawn(other.clone().run(stop.clone())));
    // The node releases the lease. Another node therefore leads before the lease would have expired.
    tokio::time::sleep(RENEWAL_INTERVAL + CAMPAIGN_INTERVAL).await;
    assert_eq!((skewed.is_leading(), other.is_leading()), (false, true));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(other.is_leading());
    clocks.set(true);
    tasks.remove(1).abort();
    tokio::time::sleep(TTL + RENEWAL_INTERVAL).await;
    assert!(skewed.is_leading(), "free to lead again");
    stop.cancel();
    tasks.remove(0).await.unwrap();
}
