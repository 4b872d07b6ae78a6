//! Endpoints for operators: liveness, readiness and metrics.

use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use warp::reply::Response;

use super::reply::{self, ApiError};
use super::request::Request;
use super::{HttpContext, authority, peer};

/// Content type of the Prometheus text format.
pub(super) const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Readiness of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Clients may be routed to this node.
    Ready {
        /// Whether the database is unavailable. A node remains ready without it for a limited time.
        degraded: bool,
    },
    /// No clients may be routed to this node, because it is starting or draining, or because its broker or bus is
    /// unavailable.
    NotReady {
        /// Human-readable reason.
        reason: String,
        /// Whether the database is unavailable or has not been checked yet.
        degraded: bool,
    },
}

/// Reports the health of a node. Probes call it often, so implementations must not call a store.
pub trait Health: Send + Sync {
    /// Returns the current readiness.
    fn readiness(&self) -> Readiness;

    /// Returns whether the stores that sockets need are available. The result does not depend on whether the node is
    /// draining.
    fn has_stores(&self) -> bool;

    /// Returns whether startup is complete. Until then, API calls receive 503, because the clock skew may not have been
    /// measured.
    fn is_started(&self) -> bool;
}

/// Response body of `/health/live`.
#[derive(Serialize, ToSchema)]
pub(super) struct Liveness {
    status: &'static str,
}

/// Response body of `/health/ready`. If the node is not ready, also a valid error body.
#[derive(Serialize, ToSchema)]
pub(super) struct ReadinessBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    /// Why the node is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    status: &'static str,
    /// Whether SQL is unavailable, which a node tolerates for a time.
    degraded: bool,
}

pub(super) fn live() -> Response {
    reply::json(StatusCode::OK, &Liveness { status: "live" })
}

pub(super) fn ready(app: &HttpContext) -> Response {
    let (status, body) = match app.health.readiness() {
        Readiness::Ready { degraded } => {
            (StatusCode::OK, ReadinessBody { code: None, detail: None, status: "ready", degraded })
        }
        Readiness::NotReady { reason, degraded } => (
            StatusCode::SERVICE_UNAVAILABLE,
            ReadinessBody { code: Some(503), detail: Some(reason), status: "not ready", degraded },
        ),
    };
    reply::json(status, &body)
}

/// Returns the metrics on the main port, only to programs on the same machine. Returns 404 to other callers, if the
/// metrics have a separate port, if a proxy forwarded the request, or if its `Host` is not a name of this server.
pub(super) fn metrics(app: &HttpContext, request: &Request) -> Result<Response, ApiError> {
    let direct = request.peer.is_some_and(|peer| peer.to_canonical().is_loopback());
    let is_own_name = authority::is_own_name(&request.headers, &app.settings.public_url);
    if app.settings.metrics_here && direct && is_own_name && !peer::is_forwarded(&request.headers) {
        Ok(reply::text(StatusCode::OK, METRICS_TYPE, (app.metrics)().into()))
    } else {
        Err(ApiError::NotFound)
    }
}
