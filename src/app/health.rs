//! Whether this node can serve, as its own tasks find out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::broker::Broker;
use crate::http::{Health, Readiness};
use crate::metric;
use crate::shutdown::Shutdown;
use crate::store::Fault;

/// What the tasks know.
#[derive(Clone)]
pub(super) struct NodeHealth {
    facts: Arc<Facts>,
    broker: Arc<dyn Broker>,
    /// A single node accepts into SQL.
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
    /// Why SQL cannot be written.
    sql: Mutex<Option<Fault>>,
    /// Why Redis must not be used, or refuses writes.
    refusal: Mutex<Option<String>>,
    suspended: AtomicBool,
}

impl NodeHealth {
    pub(super) fn new(broker: Arc<dyn Broker>, shutdown: Shutdown) -> Self {
        let sql_is_broker = broker.archive_queue().is_none();
        let health = Self { facts: Arc::default(), broker, sql_is_broker, shutdown };
        // Whoever waits for its stores at its start is seen to.
        health.show();
        health
    }

    /// Stores have answered, the schema is right, the buses are heard.
    pub(super) fn set_started(&self) {
        self.facts.started.store(true, Relaxed);
        self.set_broker(true);
        self.set_sql(None);
    }

    /// Whether the broker answers.
    pub(super) fn set_broker(&self, answers: bool) {
        self.facts.broker.store(answers, Relaxed);
        self.show();
    }

    /// Why SQL cannot be written, if so: a node of a cluster continues without it for a time.
    pub(super) fn set_sql(&self, fault: Option<Fault>) {
        *self.facts.sql.lock() = fault;
        self.show();
    }

    /// Why Redis must not be used by this node (`suspension`), or refuses writes.
    pub(super) fn set_redis(&self, suspension: Option<String>, refuses_writes: Option<String>) {
        self.facts.suspended.store(suspension.is_some(), Relaxed);
        *self.facts.refusal.lock() = suspension.or(refuses_writes);
        self.show();
    }

    fn show(&self) {
        let ready = matches!(self.readiness(), Readiness::Ready { .. });
        metrics::gauge!(metric::READY).set(u8::from(ready));
        // Before the start is over nobody knows which of them is waited for.
        let started = self.facts.started.load(Relaxed);
        let sql = u8::from(started && self.facts.sql.lock().is_some());
        let refuses = self.facts.refusal.lock().is_some();
        let redis = u8::from(started && (refuses || !self.facts.broker.load(Relaxed)));
        metrics::gauge!(metric::DEGRADED, "store" => "sql").set(sql);
        metrics::gauge!(metric::DEGRADED, "store" => "redis").set(redis);
    }
}

impl Health for NodeHealth {
    fn readiness(&self) -> Readiness {
        let fault = *self.facts.sql.lock();
        // Before its start is over, a node has not written to SQL.
        let degraded = fault.is_some() || !self.facts.started.load(Relaxed);
        let not_ready = |reason: &str| Readiness::NotReady { reason: reason.to_owned(), degraded };
        if self.shutdown.is_draining() {
            not_ready("This node is going away.")
        } else if !self.facts.started.load(Relaxed) {
            not_ready("This node is starting: it waits for its stores.")
        } else if !self.facts.broker.load(Relaxed) {
            match fault.filter(|_| self.sql_is_broker) {
                Some(fault) => not_ready(&format!("SQL cannot be written: {fault}.")),
                None => not_ready("The broker does not answer."),
            }
        } else if let Some(refusal) = &*self.facts.refusal.lock() {
            not_ready(&format!("Redis is not usable: {refusal}."))
        } else if !self.broker.hears() {
            not_ready("What is published is not heard here.")
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
