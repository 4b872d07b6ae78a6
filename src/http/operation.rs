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
        /// Whether SQL is unavailable. A node tolerates this for a limited time.
        degraded: bool,
    },
    /// No clients may be routed to this node, because it is starting or draining, or cannot use its broker or bus.
    NotReady {
        /// Reason as a human-readable sentence.
        reason: String,
        /// Whether SQL is unavailable or not yet checked.
        degraded: bool,
    },
}

/// Reports the health of a node. Called often, so implementations must not call a store.
pub trait Health: Send + Sync {
    /// Returns the current readiness.
    fn readiness(&self) -> Readiness;

    /// Whether the stores that sockets need are available. Does not depend on whether the node is draining.
    fn has_stores(&self) -> bool;

    /// Whether startup is complete. Before that, API calls receive 503, because the clock skew might not be measured
    /// yet.
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

/// Serves the metrics on the main port, to programs on this machine only. Requests through a proxy, or with a `Host`
/// that is not a name of this server, receive 404.
pub(super) fn metrics(app: &HttpContext, request: &Request) -> Result<Response, ApiError> {
    let direct = request.peer.is_some_and(|peer| peer.to_canonical().is_loopback());
    let is_own_name = authority::is_own_name(&request.headers, &app.settings.public_url);
    if app.settings.metrics_here && direct && is_own_name && !peer::is_forwarded(&request.headers) {
        Ok(reply::text(StatusCode::OK, METRICS_TYPE, (app.metrics)().into()))
    } else {
        Err(ApiError::NotFound)
    }
}
