//! Readiness of this node, determined from the state that its tasks report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::backend::Backend;
use crate::backend::broker::BusHealth;
use crate::backend::shutdown::Shutdown;
use crate::domain::metric::StoreKind;
use crate::http::{Health, Readiness};
use crate::node::metrics::{HealthMetrics, SqlFault};
use crate::store::WriteFault;

/// State that the tasks of a node report. Clones share it.
#[derive(Clone)]
pub(super) struct NodeHealth {
    facts: Arc<Facts>,
    /// Health of the bus subscriptions. `None` on a single-node server, whose bus is in the process.
    bus: Option<Arc<dyn BusHealth>>,
    /// Whether the broker stores messages in the database, as on a single-node server.
    sql_is_broker: bool,
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
    broker: AtomicBool,
    /// Fault that prevents writes to the database; `None` if writes succeed.
    sql: Mutex<Option<WriteFault>>,
    /// Reason why this node must not use Redis or why Redis rejects writes; `None` if Redis can be used.
    refusal: Mutex<Option<String>>,
    suspended: AtomicBool,
    metrics: HealthMetrics,
}

impl NodeHealth {
    pub(super) fn new(backend: &Backend, shutdown: Shutdown) -> Self {
        let bus = backend.cluster.as_ref().map(|cluster| cluster.bus_health.clone());
        let health = Self { facts: Arc::default(), bus, sql_is_broker: !backend.is_cluster(), shutdown };
        // The initial state is exported at once, because a new node may wait for its stores for a long time.
        health.show();
        health
    }

    /// Records that startup is complete: the stores have responded, and the schema is current.
    pub(super) fn set_started(&self) {
        self.facts.started.store(true, Relaxed);
        self.set_broker(true);
        self.set_sql(None);
    }

    /// Records whether the broker responds.
    pub(super) fn set_broker(&self, answers: bool) {
        self.facts.broker.store(answers, Relaxed);
        self.show();
    }

    /// Records the fault that prevents writes to the database; `None` if writes succeed. A cluster node remains ready
    /// without the database for a time.
    pub(super) fn set_sql(&self, fault: Option<WriteFault>) {
        *self.facts.sql.lock() = fault;
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
        self.facts.metrics.sql_fault.set_only(self.facts.sql.lock().map(SqlFault::from));
        // Until startup is complete, no store is exported as degraded, because it is not known which store the node
        // waits for.
        let started = self.facts.started.load(Relaxed);
        let sql = u8::from(started && self.facts.sql.lock().is_some());
        let refuses = self.facts.refusal.lock().is_some();
        let redis = u8::from(started && (refuses || !self.facts.broker.load(Relaxed)));
        self.facts.metrics.degraded.get(StoreKind::Sql).set(sql);
        self.facts.metrics.degraded.get(StoreKind::Redis).set(redis);
    }
}

impl Health for NodeHealth {
    fn readiness(&self) -> Readiness {
        let fault = *self.facts.sql.lock();
        // A node is degraded until startup is complete, because it has not yet written to the database.
        let degraded = fault.is_some() || !self.facts.started.load(Relaxed);
        let not_ready = |reason: &str| Readiness::NotReady { reason: reason.to_owned(), degraded };
        if self.shutdown.is_draining() {
            not_ready("This node is draining.")
        } else if !self.facts.started.load(Relaxed) {
            not_ready("This node is starting and waits for its stores.")
        } else if !self.facts.broker.load(Relaxed) {
            match fault.filter(|_| self.sql_is_broker) {
                Some(fault) => not_ready(&format!("The database is not writable: {fault}.")),
                None => not_ready("The broker is unavailable."),
            }
        } else if let Some(refusal) = &*self.facts.refusal.lock() {
            not_ready(&format!("This node cannot use Redis: {refusal}."))
        } else if self.bus.as_ref().is_some_and(|bus| !bus.is_receiving()) {
            not_ready("This node does not receive published messages.")
        } else {
            Readiness::Ready { degraded }
        }
    }

    fn has_stores(&self) -> bool {
        let is_suspended = self.facts.suspended.load(Relaxed);
        self.facts.started.load(Relaxed) && self.facts.broker.load(Relaxed) && !is_suspended
    }

    fn is_started(&self) -> bool {
        self.facts.started.load(Relaxed)
    }
}
