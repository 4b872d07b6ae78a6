//! Whether this node can serve, as its own tasks find out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::broker::Broker;
use crate::http::{Health, Readiness};
use crate::metric;
use crate::shutdown::Shutdown;

/// What the tasks know.
#[derive(Clone)]
pub(super) struct NodeHealth {
    facts: Arc<Facts>,
    broker: Arc<dyn Broker>,
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
    sql: AtomicBool,
}

impl NodeHealth {
    pub(super) fn new(broker: Arc<dyn Broker>, shutdown: Shutdown) -> Self {
        let health = Self { facts: Arc::default(), broker, shutdown };
        // Whoever waits for its stores at its start is seen to.
        health.show();
        health
    }

    /// Stores have answered, the schema is right, the buses are heard.
    pub(super) fn set_started(&self) {
        self.facts.started.store(true, Relaxed);
        self.set_broker(true);
        self.set_sql(true);
    }

    /// Whether the broker answers.
    pub(super) fn set_broker(&self, answers: bool) {
        self.facts.broker.store(answers, Relaxed);
        self.show();
    }

    /// Whether SQL answers: without it a node serves on for a time.
    pub(super) fn set_sql(&self, answers: bool) {
        self.facts.sql.store(answers, Relaxed);
        self.show();
    }

    fn show(&self) {
        let ready = matches!(self.readiness(), Readiness::Ready { .. });
        metrics::gauge!(metric::READY).set(u8::from(ready));
        // Before the start is over nobody knows which of them is waited for.
        let started = self.facts.started.load(Relaxed);
        let is_away = |answers: &AtomicBool| u8::from(started && !answers.load(Relaxed));
        metrics::gauge!(metric::DEGRADED, "store" => "sql").set(is_away(&self.facts.sql));
        metrics::gauge!(metric::DEGRADED, "store" => "redis").set(is_away(&self.facts.broker));
    }
}

impl Health for NodeHealth {
    fn readiness(&self) -> Readiness {
        let degraded = !self.facts.sql.load(Relaxed);
        let not_ready = |reason: &str| Readiness::NotReady { reason: reason.to_owned(), degraded };
        if self.shutdown.is_draining() {
            not_ready("This node is going away.")
        } else if !self.facts.started.load(Relaxed) {
            not_ready("This node is starting: it waits for its stores.")
        } else if !self.facts.broker.load(Relaxed) {
            not_ready("The broker does not answer.")
        } else if !self.broker.hears() {
            not_ready("What is published is not heard here.")
        } else {
            Readiness::Ready { degraded }
        }
    }

    fn has_stores(&self) -> bool {
        self.facts.started.load(Relaxed) && self.facts.broker.load(Relaxed)
    }

    fn is_started(&self) -> bool {
        self.facts.started.load(Relaxed)
    }
}
