//! Passes requests under `/ws/` to the socket layer.

use std::net::IpAddr;

use futures_util::future::BoxFuture;
use http::HeaderMap;
use hyper::upgrade::OnUpgrade;
use warp::reply::Response;

use super::HttpContext;
use super::request::Request;

/// Request to open a socket: a GET request for a path under `/ws/`.
pub struct UpgradeRequest {
    /// Path under `/ws/`, without a trailing slash. It is percent-decoded unless it is malformed.
    pub path: String,
    /// Raw query, without the question mark. It may contain a token and must not be logged.
    pub query: String,
    pub(crate) headers: HeaderMap,
    /// Address of the client: the peer, or the address that trusted proxies report in `X-Forwarded-For`.
    pub peer: IpAddr,
    /// Pending upgrade of the connection, which completes after the 101 response; `None` if the request is not an
    /// upgrade.
    pub on_upgrade: Option<OnUpgrade>,
}

/// Handler of WebSocket upgrades.
pub trait Upgrades: Send + Sync {
    /// Returns the response to the request. After a 101 response, the handler serves the socket.
    fn upgrade(&self, request: UpgradeRequest) -> BoxFuture<'static, Response>;
}

pub(super) async fn upgrade(app: &HttpContext, path: String, request: &mut Request) -> Response {
    let request = UpgradeRequest {
        path,
        query: std::mem::take(&mut request.query),
        headers: request.headers.clone(),
        peer: request.client,
        on_upgrade: request.on_upgrade.take(),
    };
    app.upgrades.upgrade(request).await
}
