//! Handles of the hub's metrics.

use metrics::{Counter, Histogram};

use crate::domain::metric;

/// Metrics recorded per message.
#[derive(Debug)]
pub(super) struct Meters {
    pub(super) delivered: Counter,
    pub(super) local: Histogram,
    pub(super) remote: Histogram,
    pub(super) gaps: Counter,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            delivered: metrics::counter!(metric::DELIVERED),
            local: metrics::histogram!(metric::RELAY_SECONDS, "path" => "local"),
            remote: metrics::histogram!(metric::RELAY_SECONDS, "path" => "remote"),
            gaps: metrics::counter!(metric::GAPS, "reason" => "bus"),
        }
    }
}
