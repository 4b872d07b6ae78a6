//! The door to the sockets: `/ws/…` is handed to whoever drives them.

use std::net::IpAddr;

use futures_util::future::BoxFuture;
use http::HeaderMap;
use hyper::upgrade::OnUpgrade;
use warp::reply::Response;

use super::HttpContext;
use super::request::Request;

/// A GET of a path under `/ws/`.
pub struct UpgradeRequest {
    /// Percent-decoded, beginning with `/ws/`, without a slash at its end.
    pub path: String,
    /// As it came, without the question mark. It may hold a token: never log it.
    pub query: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The client's address, as far as trusted proxies tell.
    pub peer: IpAddr,
    /// The connection, once 101 has been answered. `None` when the request asked for no upgrade.
    pub on_upgrade: Option<OnUpgrade>,
}

/// Who takes sockets.
pub trait Upgrades: Send + Sync {
    /// Answers the request; 101 begins a socket.
    fn upgrade(&self, request: UpgradeRequest) -> BoxFuture<'static, Response>;
}

pub(super) async fn hand_over(app: &HttpContext, path: String, request: &mut Request) -> Response {
    let request = UpgradeRequest {
        path,
        query: std::mem::take(&mut request.query),
        headers: request.headers.clone(),
        peer: request.client,
        on_upgrade: request.on_upgrade.take(),
    };
    app.upgrades.upgrade(request).await
}
