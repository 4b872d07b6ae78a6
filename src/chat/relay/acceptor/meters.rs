//! Handles of an acceptor's metrics.

use metrics::{Counter, Histogram};

use crate::domain::metric;

/// Metrics recorded per call and per message.
#[derive(Debug)]
pub(super) struct Meters {
    pub(super) call: Histogram,
    pub(super) batch: Histogram,
    pub(super) acknowledged: Histogram,
    pub(super) accepted: Counter,
    pub(super) duplicate: Counter,
    pub(super) refused: Counter,
}

impl Default for Meters {
    fn default() -> Self {
        let messages = |result: &'static str| metrics::counter!(metric::MESSAGES, "result" => result);
        Self {
            call: metrics::histogram!(metric::ACCEPT_SECONDS),
            batch: metrics::histogram!(metric::ACCEPT_BATCH),
            acknowledged: metrics::histogram!(metric::ACKNOWLEDGE_SECONDS),
            accepted: messages("accepted"),
            duplicate: messages("duplicate"),
            refused: messages("refused"),
        }
    }
}
