//! Describes the calls for operators.

use crate::http::docs::call_doc::{CallDoc, Caller, Content};
use crate::http::operation::{Liveness, ReadinessBody};

pub(super) fn live() -> CallDoc {
    for_operators("live", "Liveness probe").answers::<Liveness>(200, "The process is alive.")
}

pub(super) fn ready() -> CallDoc {
    for_operators("ready", "Readiness probe")
        .answers::<ReadinessBody>(200, "The node accepts clients. `degraded`: SQL is temporarily unavailable.")
        .answers::<ReadinessBody>(503, "The node is starting, draining, or unable to relay messages.")
}

pub(super) fn metrics() -> CallDoc {
    for_operators("metrics", "Metrics for Prometheus")
        .ends(200, "The metrics in Prometheus text format.", Content::Text("text/plain"))
        .refuses(404, "The caller is on another machine, or the metrics have a separate port.")
}

fn for_operators(id: &'static str, summary: &'static str) -> CallDoc {
    CallDoc::new(id, Caller::Anonymous, summary, "For monitoring and deployment; web pages cannot read it.")
        .for_operators()
}
