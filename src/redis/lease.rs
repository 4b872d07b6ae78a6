//! This node's lease in `pt:nodes`, as far as it knows, and the list of all others of when it was renewed last.
//!
//! A lease belongs to an **incarnation**, `<node>.<number>`. One that has run out is not renewed: somebody may be taking away
//! what was written under its name. The node goes on under the next number then, and also after whatever a server may have
//! forgotten something by: a new connection, another master, another life of the same.
//!
//! **Invariant:** nobody is taken for dead by a node that has not seen its own lease renewed, without a break, for as long as a
//! lease lasts. When Redis stands still or a new master's clock shows another time, all leases end at once; and nobody has died.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::NodeId;

/// How long a lease lasts.
pub(super) const TTL: Duration = Duration::from_secs(15);

/// Renewals that are further apart than this are no unbroken lease. It is renewed every 2 s: only a lease that was not renewed
/// for two thirds of its life more than that could have ended by the same fault.
const BREAK: Duration = Duration::from_secs(5);

/// How long a list of nodes is believed.
const LIST_TTL: Duration = Duration::from_secs(2);

/// Who lives and who is dead, by their incarnations.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes {
    pub(super) alive: Arc<[String]>,
    pub(super) dead: Arc<[String]>,
}

/// A renewal on its way.
#[derive(Clone, Debug)]
pub(super) struct Renewal {
    /// Of whom; empty if there is nothing to renew.
    pub(super) current: String,
    /// Who gets a lease otherwise.
    pub(super) next: String,
    /// The server's life in which `current` got its lease.
    pub(super) life: String,
    /// When it was asked for.
    pub(super) at: Instant,
}

impl Renewal {
    /// Asks for the list only.
    pub(super) fn none() -> Self {
        Self { current: String::new(), next: String::new(), life: String::new(), at: Instant::now() }
    }
}

/// What a node knows of its lease.
#[derive(Debug)]
pub(super) struct Lease {
    node: NodeId,
    /// How many renewals there were: the number of each new incarnation.
    asked: u64,
    /// Whose lease was renewed last.
    current: Option<String>,
    /// Whether the next renewal is to begin a new one.
    is_lost: bool,
    life: String,
    renewed_at: Option<Instant>,
    unbroken_since: Option<Instant>,
    list: Option<(Instant, Nodes)>,
}

impl Lease {
    pub(super) fn of(node: NodeId) -> Self {
        Self {
            node,
            asked: 0,
            current: None,
            is_lost: false,
            life: String::new(),
            renewed_at: None,
            unbroken_since: None,
            list: None,
        }
    }

    /// The server may have forgotten something: the next renewal begins anew.
    pub(super) fn lose(&mut self) {
        self.is_lost = true;
    }

    /// What is to be asked for at `at`.
    pub(super) fn ask(&mut self, at: Instant) -> Renewal {
        self.asked += 1;
        let lost = std::mem::take(&mut self.is_lost);
        let current = self.current.clone().filter(|_| !lost).unwrap_or_default();
        Renewal { current, next: format!("{}.{}", self.node, self.asked), life: self.life.clone(), at }
    }

    /// A renewal failed: it may have happened.
    pub(super) fn failed(&mut self, renewal: &Renewal) {
        self.is_lost |= renewal.current.is_empty();
    }

    /// A renewal was answered.
    pub(super) fn renewed(&mut self, renewal: &Renewal, holder: String, life: String) {
        let goes_on = holder == renewal.current && self.renewed_at.is_some_and(|last| renewal.at - last <= BREAK);
        if !goes_on {
            self.unbroken_since = Some(renewal.at);
        }
        (self.current, self.life, self.renewed_at) = (Some(holder), life, Some(renewal.at));
    }

    /// The list as of an answer to what was asked at `at`, of a server in a life of its own. One that does not know this node's
    /// lease, or is another, says nothing of who has died.
    pub(super) fn list_is(&mut self, nodes: Nodes, life: &str, at: Instant) {
        if self.renewed_at.is_some_and(|renewed| at < renewed) {
            return;
        }
        self.is_lost |= self.current.as_ref().is_some_and(|own| life != self.life || !nodes.alive.contains(own));
        self.list = Some((at, nodes));
    }

    /// The list, if it is new enough.
    pub(super) fn list(&self, now: Instant) -> Option<Nodes> {
        self.list.as_ref().filter(|(at, _)| now - *at < LIST_TTL).map(|(_, nodes)| nodes.clone())
    }

    /// Under which name this node may write now.
    pub(super) fn incarnation(&self, now: Instant) -> Option<&str> {
        self.current.as_deref().filter(|_| self.renewed_at.is_some_and(|at| now - at < TTL))
    }

    /// Whose lease this node had last, whether or not it lasts.
    pub(super) fn last(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// Whether this node may take others for dead.
    pub(super) fn is_unbroken(&self, now: Instant) -> bool {
        !self.is_lost
            && self.renewed_at.is_some_and(|at| now - at <= BREAK)
            && self.unbroken_since.is_some_and(|since| now - since >= TTL)
    }

    /// As if it had been renewed for as long as it takes.
    #[cfg(test)]
    pub(super) fn ripen(&mut self) {
        self.unbroken_since = self.unbroken_since.and_then(|since| since.checked_sub(TTL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = Duration::from_secs(2);

    struct Stage {
        lease: Lease,
        now: Instant,
    }

    impl Stage {
        fn new() -> Self {
            Self { lease: Lease::of(NodeId::from_random([1; 16])), now: Instant::now() }
        }

        /// Asks, and is given what it may have: the present lease unless that has run out.
        fn beat(&mut self, has_run_out: bool) {
            let renewal = self.lease.ask(self.now);
            let keeps = !renewal.current.is_empty() && !has_run_out;
            let holder = if keeps { renewal.current.clone() } else { renewal.next.clone() };
            self.lease.renewed(&renewal, holder, "life".into());
        }

        fn beat_for(&mut self, span: Duration) {
            let until = self.now + span;
            while self.now < until {
                self.now += BEAT;
                self.beat(false);
            }
        }

        fn incarnation(&self) -> String {
            self.lease.incarnation(self.now).unwrap().to_owned()
        }

        fn is_unbroken(&self) -> bool {
            self.lease.is_unbroken(self.now)
        }
    }

    #[test]
    fn a_lease_is_unbroken_once_it_was_renewed_for_as_long_as_it_lasts() {
        let mut stage = Stage::new();
        stage.beat(false);
        let first = stage.incarnation();
        stage.beat_for(TTL - BEAT);
        assert!(!stage.is_unbroken());
        stage.beat_for(BEAT);
        assert!(stage.is_unbroken());
        assert_eq!(stage.incarnation(), first);
    }

    #[test]
    fn a_lease_that_ran_out_or_was_lost_goes_on_under_another_name_and_counts_anew() {
        let mut stage = Stage::new();
        let mut names = Vec::new();
        for fault in ["none", "ran out", "lost"] {
            if fault == "lost" {
                stage.lease.lose();
                assert!(!stage.is_unbroken());
            }
            stage.beat(fault == "ran out");
            names.push(stage.incarnation());
            assert!(!stage.is_unbroken(), "{fault}");
            stage.beat_for(TTL + BEAT);
            assert!(stage.is_unbroken(), "{fault}");
        }
        names.dedup();
        assert_eq!(names.len(), 3, "{names:?}");
    }

    #[test]
    fn a_redis_that_stood_still_breaks_the_lease_even_of_whom_it_still_renews() {
        let mut stage = Stage::new();
        stage.beat_for(TTL + BEAT);
        assert!(stage.is_unbroken());
        // 14 s: the lease of whoever had renewed it a second before has ended.
        stage.now += Duration::from_secs(14);
        assert!(!stage.is_unbroken(), "nothing is known of this time");
        stage.beat(false);
        assert!(!stage.is_unbroken());
        stage.beat_for(TTL);
        assert!(stage.is_unbroken());
    }

    #[test]
    fn a_list_of_a_server_that_does_not_know_this_node_is_no_reason_to_take_anybody_for_dead() {
        let mut stage = Stage::new();
        for life in ["life", "another"] {
            stage.beat_for(TTL + BEAT);
            let own = stage.incarnation();
            let knows = if life == "life" { vec![] } else { vec![own] };
            let nodes = Nodes { alive: knows.into(), dead: vec!["other.1".to_owned()].into() };
            assert!(stage.is_unbroken());
            stage.lease.list_is(nodes, life, stage.now);
            assert!(!stage.is_unbroken(), "{life}");
        }
    }

    #[test]
    fn nothing_is_written_under_a_lease_that_may_have_ended() {
        let mut stage = Stage::new();
        assert_eq!(stage.lease.incarnation(stage.now), None);
        stage.beat(false);
        stage.now += TTL;
        assert_eq!(stage.lease.incarnation(stage.now), None);
    }

    #[test]
    fn a_lease_that_may_have_been_given_is_not_used() {
        let mut stage = Stage::new();
        let unanswered = stage.lease.ask(stage.now);
        stage.lease.failed(&unanswered);
        stage.beat(false);
        assert_ne!(stage.incarnation(), unanswered.next);
        // A renewal that failed leaves it as it is.
        let (before, unanswered) = (stage.incarnation(), stage.lease.ask(stage.now));
        stage.lease.failed(&unanswered);
        stage.beat(false);
        assert_eq!(stage.incarnation(), before);
        // What disturbs while a renewal is on its way is not forgotten.
        let renewal = stage.lease.ask(stage.now);
        stage.lease.lose();
        stage.lease.renewed(&renewal, renewal.current.clone(), "life".into());
        stage.beat(false);
        assert_ne!(stage.incarnation(), before);
    }
}
