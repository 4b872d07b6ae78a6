//! What an operator's machines ask: is it alive, may it be sent clients, how is it doing.

use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use warp::reply::Response;

use super::reply::{self, ApiError};
use super::request::Request;
use super::{HttpContext, authority, peer};

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

    /// Whether it has what a socket needs, be it on its way out or not.
    fn has_stores(&self) -> bool;

    /// Whether the start is complete. Before, calls of the API are answered with 503: the clock may not be measured yet.
    fn is_started(&self) -> bool;
}

/// The answer to `/health/live`.
#[derive(Serialize, ToSchema)]
pub(super) struct Liveness {
    status: &'static str,
}

/// The answer to `/health/ready`. Not ready, it is an error's body, too.
#[derive(Serialize, ToSchema)]
pub(super) struct ReadinessBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    status: &'static str,
    /// Whether SQL is away, which a node can do without for a time.
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

/// On the main port the numbers are for programs on this machine only: not for what comes through a proxy, and not for a web page
/// whose name leads here.
pub(super) fn metrics(app: &HttpContext, request: &Request) -> Result<Response, ApiError> {
    let direct = request.peer.is_some_and(|peer| peer.to_canonical().is_loopback());
    let is_own_name = authority::is_own_name(&request.headers, &app.settings.public_url);
    if app.settings.metrics_here && direct && is_own_name && !peer::is_forwarded(&request.headers) {
        Ok(reply::text(StatusCode::OK, METRICS_TYPE, (app.metrics)().into()))
    } else {
        Err(ApiError::NotFound)
    }
}
