//! What an operator's machines ask: is it alive, may it be sent clients, how is it doing.

use http::StatusCode;
use serde_json::json;
use warp::reply::Response;

use super::reply::{self, ApiError};
use super::request::Request;
use super::{HttpContext, peer};

/// Prometheus' text format.
pub(super) const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether a node can serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Send clients.
    Ready {
        /// Something is away that it can do without for a time (SQL).
        degraded: bool,
    },
    /// Send none: it starts, drains, or does not hear its bus.
    NotReady {
        /// A sentence for a person.
        reason: String,
        /// As above.
        degraded: bool,
    },
}

/// Who knows whether this node can serve. Asked often: it answers from memory.
pub trait Health: Send + Sync {
    /// How it is now.
    fn readiness(&self) -> Readiness;
}

pub(super) fn live() -> Response {
    reply::json(StatusCode::OK, &json!({"status": "live"}))
}

pub(super) fn ready(app: &HttpContext) -> Response {
    match app.health.readiness() {
        Readiness::Ready { degraded } => reply::json(StatusCode::OK, &json!({"status": "ready", "degraded": degraded})),
        Readiness::NotReady { reason, degraded } => reply::json(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({"code": 503, "detail": reason, "status": "not ready", "degraded": degraded}),
        ),
    }
}

/// On the main port the numbers are for somebody on this machine only, and not for whoever comes through a proxy on it.
pub(super) fn metrics(app: &HttpContext, request: &Request) -> Result<Response, ApiError> {
    let direct = request.peer.is_some_and(|peer| peer.to_canonical().is_loopback());
    if app.settings.metrics_here && direct && !peer::is_forwarded(&request.headers) {
        Ok(reply::text(StatusCode::OK, METRICS_TYPE, (app.metrics)().into()))
    } else {
        Err(ApiError::NotFound)
    }
}
