//! Readiness of this node, determined from the state that its tasks report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::backend::Backend;
use crate::backend::broker::BusHealth;
use crate::backend::shutdown::Shutdown;
use crate::domain::StoreCause;
use crate::domain::metric::StoreKind;
use crate::http::{Health, Readiness};
use crate::node::metrics::{HealthMetrics, SqlFault};

/// State that the tasks of a node report. Clones share it.
#[derive(Clone)]
pub(super) struct NodeHealth {
    facts: Arc<Facts>,
    /// Health of the bus subscriptions. `None` on a single-node server, whose bus is in the process.
    bus: Option<Arc<dyn BusHealth>>,
    /// Whether the broker is Redis. A single-node server stores messages in the database.
    is_cluster: bool,
    shutdown: Shutdown,
}

impl std::fmt::Debug for NodeHealth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeHealth").field("facts", &self.facts).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Facts {
    started: AtomicBool,
    /// Cause that prevents the use of Redis.
    redis: Mutex<Reachability>,
    /// Cause that prevents writes to the database.
    sql: Mutex<Reachability>,
    /// Reason why this node must not use Redis or why Redis rejects writes; `None` if Redis can be used.
    refusal: Mutex<Option<String>>,
    suspended: AtomicBool,
    metrics: HealthMetrics,
}

/// State of a store, as far as this node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Reachability {
    /// This node has not used the store yet.
    #[default]
    Unknown,
    Failing(StoreCause),
    Good,
}

impl Reachability {
    fn is_good(&self) -> bool {
        *self == Self::Good
    }

    /// Returns the cause if the store fails.
    fn failing(&self) -> Option<&StoreCause> {
        match self {
            Self::Failing(cause) => Some(cause),
            Self::Unknown | Self::Good => None,
        }
    }

    /// Returns the text after the name of the store: `: connection refused`, or nothing if the cause is not known.
    fn cause(&self) -> String {
        self.failing().map(|cause| format!(": {cause}")).unwrap_or_default()
    }
}

impl From<Option<StoreCause>> for Reachability {
    fn from(cause: Option<StoreCause>) -> Self {
        cause.map_or(Self::Good, Self::Failing)
    }
}

impl NodeHealth {
    pub(super) fn new(backend: &Backend, shutdown: Shutdown) -> Self {
        let bus = backend.cluster.as_ref().map(|cluster| cluster.bus_health.clone());
        let is_cluster = backend.is_cluster();
        let health = Self { facts: Arc::default(), bus, is_cluster, shutdown };
        // The initial state is exported at once, because a new node may wait for its stores for a long time.
        health.show();
        health
    }

    /// Records that startup is complete: the stores have responded, and the schema is current.
    pub(super) fn set_started(&self) {
        self.facts.started.store(true, Relaxed);
        self.show();
    }

    /// Records the cause that prevents the use of Redis; `None` if Redis responds. Only a cluster node calls this.
    pub(super) fn set_redis_cause(&self, cause: Option<StoreCause>) {
        *self.facts.redis.lock() = cause.into();
        self.show();
    }

    /// Records the cause that prevents writes to the database; `None` if writes succeed. A cluster node remains ready
    /// without the database for a time.
    pub(super) fn set_sql(&self, cause: Option<StoreCause>) {
        *self.facts.sql.lock() = cause.into();
        self.show();
    }

    /// Records why this node must not use Redis (`suspension`) or why Redis rejects writes. `None` means that there is
    /// no such reason.
    pub(super) fn set_redis(&self, suspension: Option<String>, refuses_writes: Option<String>) {
        self.facts.suspended.store(suspension.is_some(), Relaxed);
        *self.facts.refusal.lock() = suspension.or(refuses_writes);
        self.show();
    }

    fn show(&self) {
        let ready = matches!(self.readiness(), Readiness::Ready { .. });
        self.facts.metrics.ready.set(u8::from(ready));
        self.facts.metrics.sql_fault.set_only(self.facts.sql.lock().failing().map(SqlFault::from));
        let refuses = self.facts.refusal.lock().is_some();
        let redis = self.is_cluster && (refuses || !self.facts.redis.lock().is_good());
        self.facts.metrics.degraded.get(StoreKind::Sql).set(u8::from(!self.facts.sql.lock().is_good()));
        self.facts.metrics.degraded.get(StoreKind::Redis).set(u8::from(redis));
    }

    /// Returns whether the store that accepts messages responds: Redis, or the database of a single-node server.
    fn has_broker(&self) -> bool {
        if self.is_cluster { self.facts.redis.lock().is_good() } else { self.facts.sql.lock().is_good() }
    }

    /// Returns the store that a starting node waits for.
    fn waits_for(&self) -> String {
        let (sql, redis) = (self.facts.sql.lock(), self.facts.redis.lock());
        if !sql.is_good() {
            format!("This node is starting and waits for SQL{}.", sql.cause())
        } else if self.is_cluster && !redis.is_good() {
            format!("This node is starting and waits for Redis{}.", redis.cause())
        } else {
            "This node is starting.".to_owned()
        }
    }
}

impl Health for NodeHealth {
    fn readiness(&self) -> Readiness {
        let sql = self.facts.sql.lock().clone();
        // A node is degraded until startup is complete, because it has not yet written to the database.
        let degraded = !sql.is_good() || !self.facts.started.load(Relaxed);
        let not_ready = |reason: String| Readiness::NotReady { reason, degraded };
        if self.shutdown.is_draining() {
            not_ready("This node is draining.".to_owned())
        } else if !self.facts.started.load(Relaxed) {
            not_ready(self.waits_for())
        } else if !self.is_cluster && !sql.is_good() {
            not_ready(format!("The database is not writable{}.", sql.cause()))
        } else if !self.has_broker() {
            not_ready(format!("Redis is unavailable{}.", self.facts.redis.lock().cause()))
        } else if let Some(refusal) = &*self.facts.refusal.lock() {
            not_ready(format!("This node cannot use Redis: {refusal}."))
        } else if self.bus.as_ref().is_some_and(|bus| !bus.is_receiving()) {
            not_ready("This node does not receive published messages.".to_owned())
        } else {
            Readiness::Ready { degraded }
        }
    }

    fn has_stores(&self) -> bool {
        let is_suspended = self.facts.suspended.load(Relaxed);
        self.facts.started.load(Relaxed) && self.has_broker() && !is_suspended
    }

    fn is_started(&self) -> bool {
        self.facts.started.load(Relaxed)
    }
}
