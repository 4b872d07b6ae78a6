//! State of this node's own lease, and the list of all nodes at the last renewal. Redis stores the leases in the sorted
//! set [`Keys::nodes`](super::keys::Keys::nodes).
//!
//! A lease belongs to an **incarnation**, `<node>.<number>`. An expired lease is not renewed, because another node may
//! be removing the entries of its incarnation. The node begins a new incarnation instead. The node also begins a new
//! incarnation after every event in which a server may have lost writes: a new connection, a new master or a new epoch.
//!
//! **Invariant:** a node treats other nodes as dead only while its own lease has been renewed without interruption for
//! a full lease duration. All leases expire at once if Redis stalls or the clock of a new master is ahead. Without this
//! rule, a node would then treat live nodes as dead.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::NodeId;

/// Duration of a lease.
pub(super) const TTL: Duration = Duration::from_secs(15);

/// Maximum interval between two renewals of an uninterrupted lease. Nodes normally renew their leases every 2 s. A
/// lease lasts three times `MAX_INTERVAL`, so no lease expires if all renewals are delayed by at most `MAX_INTERVAL`.
const MAX_INTERVAL: Duration = Duration::from_secs(5);

/// Maximum age of a cached list of nodes.
const LIST_TTL: Duration = Duration::from_secs(2);

/// Live and dead incarnations.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes {
    pub(super) alive: Arc<[String]>,
    pub(super) dead: Arc<[String]>,
}

/// Renewal request.
#[derive(Clone, Debug)]
pub(super) struct Renewal {
    /// Incarnation whose lease is renewed. Empty if there is none.
    pub(super) current: String,
    /// Incarnation that receives a new lease if the lease of `current` cannot be renewed.
    pub(super) next: String,
    /// Epoch of the server when `current` received its lease.
    pub(super) epoch: String,
    /// Time at which the request was sent.
    pub(super) at: Instant,
}

impl Renewal {
    /// Returns a request that only reads the list of nodes and renews no lease.
    pub(super) fn none() -> Self {
        Self { current: String::new(), next: String::new(), epoch: String::new(), at: Instant::now() }
    }
}

/// This node's lease, according to the last answer from Redis.
#[derive(Debug)]
pub(super) struct NodeLease {
    node: NodeId,
    /// Number of renewals so far. It becomes the number of the next incarnation.
    renewals: u64,
    /// Incarnation whose lease was renewed last.
    current: Option<String>,
    /// Whether the next renewal must begin a new incarnation.
    is_lost: bool,
    epoch: String,
    renewed_at: Option<Instant>,
    uninterrupted_since: Option<Instant>,
    list: Option<(Instant, Nodes)>,
}

impl NodeLease {
    pub(super) fn of(node: NodeId) -> Self {
        Self {
            node,
            renewals: 0,
            current: None,
            is_lost: false,
            epoch: String::new(),
            renewed_at: None,
            uninterrupted_since: None,
            list: None,
        }
    }

    /// Marks the lease as lost, because a server may have lost writes. The next renewal begins a new incarnation.
    pub(super) fn mark_lost(&mut self) {
        self.is_lost = true;
    }

    /// Creates the next renewal, which is sent at the time `at`.
    pub(super) fn begin_renewal(&mut self, at: Instant) -> Renewal {
        self.renewals += 1;
        let lost = std::mem::take(&mut self.is_lost);
        let current = self.current.clone().filter(|_| !lost).unwrap_or_default();
        Renewal { current, next: format!("{}.{}", self.node, self.renewals), epoch: self.epoch.clone(), at }
    }

    /// Records that a renewal failed. It may have taken effect.
    pub(super) fn failed(&mut self, renewal: &Renewal) {
        self.is_lost |= renewal.current.is_empty();
    }

    /// Records the answer to a renewal.
    pub(super) fn renewed(&mut self, renewal: &Renewal, holder: String, epoch: String) {
        let continues =
            holder == renewal.current && self.renewed_at.is_some_and(|last| renewal.at - last <= MAX_INTERVAL);
        if !continues {
            self.uninterrupted_since = Some(renewal.at);
        }
        (self.current, self.epoch, self.renewed_at) = (Some(holder), epoch, Some(renewal.at));
    }

    /// Stores the list of nodes that a server in the epoch `epoch` returned. `at` is the time at which the list was
    /// requested. Marks the lease as lost if the epoch is new or this node's lease is missing from the list. No node in
    /// the list then counts as dead.
    pub(super) fn set_list(&mut self, nodes: Nodes, epoch: &str, at: Instant) {
        if self.renewed_at.is_some_and(|renewed| at < renewed) {
            return;
        }
        self.is_lost |= self.current.as_ref().is_some_and(|own| epoch != self.epoch || !nodes.alive.contains(own));
        self.list = Some((at, nodes));
    }

    /// Returns the list of nodes. Returns `None` if there is no list or it is at least as old as [`LIST_TTL`].
    pub(super) fn list(&self, now: Instant) -> Option<Nodes> {
        self.list.as_ref().filter(|(at, _)| now - *at < LIST_TTL).map(|(_, nodes)| nodes.clone())
    }

    /// Returns the current incarnation of this node. Returns `None` if the node has no unexpired lease.
    pub(super) fn incarnation(&self, now: Instant) -> Option<&str> {
        self.current.as_deref().filter(|_| self.renewed_at.is_some_and(|at| now - at < TTL))
    }

    /// Returns the incarnation of the last lease, even if the lease has expired. Returns `None` if the node never had a
    /// lease.
    pub(super) fn last(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// Returns whether this node may treat other nodes as dead.
    pub(super) fn is_uninterrupted(&self, now: Instant) -> bool {
        !self.is_lost
            && self.renewed_at.is_some_and(|at| now - at <= MAX_INTERVAL)
            && self.uninterrupted_since.is_some_and(|since| now - since >= TTL)
    }

    /// Simulates that the lease has been renewed without interruption for a full lease duration.
    #[cfg(test)]
    pub(super) fn ripen(&mut self) {
        self.uninterrupted_since = self.uninterrupted_since.and_then(|since| since.checked_sub(TTL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = Duration::from_secs(2);

    struct Setup {
        lease: NodeLease,
        now: Instant,
    }

    impl Setup {
        fn new() -> Self {
            Self { lease: NodeLease::of(NodeId::from_random([1; 16])), now: Instant::now() }
        }

        /// Renews the lease. If `has_expired` is true, the renewal begins a new incarnation.
        fn renew(&mut self, has_expired: bool) {
            let renewal = self.lease.begin_renewal(self.now);
            let keeps = !renewal.current.is_empty() && !has_expired;
            let holder = if keeps { renewal.current.clone() } else { renewal.next.clone() };
            self.lease.renewed(&renewal, holder, "epoch".into());
        }

        fn renew_for(&mut self, span: Duration) {
            let until = self.now + span;
            while self.now < until {
                self.now += BEAT;
                self.renew(false);
            }
        }

        fn incarnation(&self) -> String {
            self.lease.incarnation(self.now).unwrap().to_owned()
        }

        fn is_uninterrupted(&self) -> bool {
            self.lease.is_uninterrupted(self.now)
        }
    }

    #[test]
    fn a_lease_is_uninterrupted_after_renewals_for_its_duration() {
        let mut setup = Setup::new();
        setup.renew(false);
        let first = setup.incarnation();
        setup.renew_for(TTL - BEAT);
        assert!(!setup.is_uninterrupted());
        setup.renew_for(BEAT);
        assert!(setup.is_uninterrupted());
        assert_eq!(setup.incarnation(), first);
    }

    #[test]
    fn after_an_expired_or_lost_lease_the_node_is_another_incarnation() {
        let mut setup = Setup::new();
        let mut names = Vec::new();
        for fault in ["none", "ran out", "lost"] {
            if fault == "lost" {
                setup.lease.mark_lost();
                assert!(!setup.is_uninterrupted());
            }
            setup.renew(fault == "ran out");
            names.push(setup.incarnation());
            assert!(!setup.is_uninterrupted(), "{fault}");
            setup.renew_for(TTL + BEAT);
            assert!(setup.is_uninterrupted(), "{fault}");
        }
        names.dedup();
        assert_eq!(names.len(), 3, "{names:?}");
    }

    #[test]
    fn a_stalled_redis_interrupts_the_lease_although_it_is_renewed() {
        let mut setup = Setup::new();
        setup.renew_for(TTL + BEAT);
        assert!(setup.is_uninterrupted());
        // A lease that was renewed one second before the stall expires during these 14 s.
        setup.now += Duration::from_secs(14);
        assert!(!setup.is_uninterrupted(), "nothing is known of this time");
        setup.renew(false);
        assert!(!setup.is_uninterrupted());
        setup.renew_for(TTL);
        assert!(setup.is_uninterrupted());
    }

    #[test]
    fn a_list_without_this_node_declares_no_node_dead() {
        let mut setup = Setup::new();
        for epoch in ["epoch", "another"] {
            setup.renew_for(TTL + BEAT);
            let own = setup.incarnation();
            let alive = if epoch == "epoch" { vec![] } else { vec![own] };
            let nodes = Nodes { alive: alive.into(), dead: vec!["other.1".to_owned()].into() };
            assert!(setup.is_uninterrupted());
            setup.lease.set_list(nodes, epoch, setup.now);
            assert!(!setup.is_uninterrupted(), "{epoch}");
        }
    }

    #[test]
    fn nothing_is_written_under_a_lease_that_may_have_ended() {
        let mut setup = Setup::new();
        assert_eq!(setup.lease.incarnation(setup.now), None);
        setup.renew(false);
        setup.now += TTL;
        assert_eq!(setup.lease.incarnation(setup.now), None);
    }

    #[test]
    fn a_lease_that_may_have_been_granted_is_not_used() {
        let mut setup = Setup::new();
        let unanswered = setup.lease.begin_renewal(setup.now);
        setup.lease.failed(&unanswered);
        setup.renew(false);
        assert_ne!(setup.incarnation(), unanswered.next);
        // A failed renewal does not change the incarnation.
        let (before, unanswered) = (setup.incarnation(), setup.lease.begin_renewal(setup.now));
        setup.lease.failed(&unanswered);
        setup.renew(false);
        assert_eq!(setup.incarnation(), before);
        // If the lease is marked as lost during a renewal, the answer to the renewal does not remove the mark.
        let renewal = setup.lease.begin_renewal(setup.now);
        setup.lease.mark_lost();
        setup.lease.renewed(&renewal, renewal.current.clone(), "epoch".into());
        setup.renew(false);
        assert_ne!(setup.incarnation(), before);
    }
}
