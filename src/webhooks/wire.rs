//! How a receiver is spoken to: one POST, over TLS, to an address that was judged.
//!
//! **Invariant:** the addresses that a connection is made to are those that were judged a moment before: the resolver hands out no
//! other, and what an URL has in place of a name is judged before each request. No redirect is followed, no proxy is used, and of
//! what a receiver answers nobody is shown more than the status.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::{Builder, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;
use tower_service::Service;
use url::{Host, Url};

use super::address::{IsAllowed, is_public};
use crate::tls;

/// How long a receiver has for all of it, and to be connected to.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long its name may take to be resolved, and when it is known at the earliest that it leads nowhere.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
const UNRESOLVED_AFTER: Duration = LOOKUP_TIMEOUT;

/// The most of an answer that is read, so that its connection may be used again, and for how long.
const MAX_ANSWER: usize = 16 * 1024;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The most of an answer's head.
const MAX_HEAD: usize = 32 * 1024;

/// How long an unused connection is kept, and how many.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_CONNECTIONS: usize = 4;

/// The longest URL.
pub(super) const MAX_URL: usize = 2_000;

/// Why nothing can be sent to a URL, whatever is behind it. Completes "The URL …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlProblem {
    /// No URL.
    #[error("must be one such as https://shop.example/hooks")]
    NotAUrl,
    /// Longer than anybody needs.
    #[error("must have at most 2000 characters")]
    TooLong,
    /// It carries a login, or a part that is never sent.
    #[error("must have no user, password or fragment")]
    Userinfo,
    /// Not `https`, where nobody allowed otherwise.
    #[error("must begin with https://")]
    Insecure,
    /// It leads to an address that is nobody's on the internet.
    #[error("must not lead to a private address")]
    Private,
}

/// Why an event did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    /// Nothing was sent.
    #[error("the URL {0}")]
    Url(#[from] UrlProblem),
    /// The name leads nowhere, or only to addresses that must not be connected to: which of them is not shown, as it would
    /// reveal to a host which names of the operator's network exist.
    #[error("the name of the URL leads to no public address")]
    Unresolved,
    /// No answer in time.
    #[error("no answer within {0} s")]
    TimedOut(u64),
    /// The connection or its TLS.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It broke off, or was no HTTP.
    #[error("no proper answer: {0}")]
    Broken(String),
}

/// What a name leads to.
type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// Sends to receivers. Clones share their connections.
#[derive(Clone)]
pub(super) struct Wire {
    secure: Client<HttpsConnector<HttpConnector<Guard>>, Full<Bytes>>,
    plain: Client<HttpConnector<Guard>, Full<Bytes>>,
    is_allowed: Option<IsAllowed>,
    pub(super) time_limit: Duration,
}

impl Wire {
    /// Beside the internet it sends to addresses that are allowed, and to these also without TLS.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub(super) fn new(is_allowed: Option<IsAllowed>) -> Result<Self, rustls::Error> {
        Ok(Self::with(is_allowed, Arc::new(|name| Box::pin(lookup(name))), tls::client_config()?))
    }

    fn with(is_allowed: Option<IsAllowed>, lookup: Lookup, tls: rustls::ClientConfig) -> Self {
        let guard = |with_internet| Guard { lookup: lookup.clone(), with_internet, is_allowed: is_allowed.clone() };
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1();
        let secure = builder().build(https.wrap_connector(connector(guard(true))));
        let plain = builder().build(connector(guard(false)));
        Self { secure, plain, is_allowed, time_limit: TIME_LIMIT }
    }

    /// A URL in the form in which it is called.
    pub(super) fn judge(&self, url: &str) -> Result<Url, UrlProblem> {
        let url = Url::parse(url.trim()).map_err(|_| UrlProblem::NotAUrl)?;
        let is_secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(UrlProblem::NotAUrl),
        };
        if url.as_str().len() > MAX_URL {
            return Err(UrlProblem::TooLong);
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(UrlProblem::Userinfo);
        }
        if !is_secure && self.is_allowed.is_none() {
            return Err(UrlProblem::Insecure);
        }
        let literal = match url.host().ok_or(UrlProblem::NotAUrl)? {
            Host::Domain(_) => return Ok(url),
            Host::Ipv4(address) => IpAddr::V4(address),
            Host::Ipv6(address) => IpAddr::V6(address),
        };
        let is_allowed = self.is_allowed.as_ref().is_some_and(|is_allowed| is_allowed(literal));
        match (is_allowed, is_public(literal)) {
            (true, _) => Ok(url),
            (false, true) if is_secure => Ok(url),
            (false, true) => Err(UrlProblem::Insecure),
            (false, false) => Err(UrlProblem::Private),
        }
    }

    /// Sends a body. Returns the status of the answer.
    pub(super) async fn post(&self, url: &str, headers: &[(&str, String)], body: &str) -> Result<u16, Problem> {
        let url = self.judge(url)?;
        let uri: Uri = url.as_str().parse().map_err(|_| UrlProblem::NotAUrl)?;
        let mut request = Request::post(uri);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        let request = request.body(body).map_err(|error| Problem::Broken(error.to_string()))?;
        let is_secure = url.scheme() == "https";
        let asking =
            async { if is_secure { self.secure.request(request).await } else { self.plain.request(request).await } };
        let began = Instant::now();
        match tokio::time::timeout(self.time_limit, asking).await {
            Ok(Ok(answer)) => {
                let (head, body) = answer.into_parts();
                read_away(body).await;
                Ok(head.status.as_u16())
            }
            Ok(Err(error)) => {
                let problem = problem(&error);
                if problem == Problem::Unresolved {
                    // A name of the operator's network is found faster than one is found to be unknown.
                    tokio::time::sleep_until(began + UNRESOLVED_AFTER).await;
                }
                Err(problem)
            }
            Err(_) => Err(Problem::TimedOut(self.time_limit.as_secs())),
        }
    }
}

async fn read_away(body: Incoming) {
    // However it ends: the status has been said.
    let _read = tokio::time::timeout(ANSWER_TIMEOUT, Limited::new(body, MAX_ANSWER).collect()).await;
}

fn builder() -> Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIMEOUT).pool_max_idle_per_host(IDLE_CONNECTIONS);
    builder.http1_max_buf_size(MAX_HEAD);
    builder
}

fn connector(guard: Guard) -> HttpConnector<Guard> {
    let mut http = HttpConnector::new_with_resolver(guard);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    http.set_nodelay(true);
    // What is spoken over the connection is decided above.
    http.enforce_http(false);
    http
}

/// What went wrong, by its innermost cause.
fn problem(error: &hyper_util::client::legacy::Error) -> Problem {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    // An error of I/O may hold another without being its source.
    let held = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    if cause.is::<NothingPublic>() || held.is_some_and(|held| held.is::<NothingPublic>()) {
        return Problem::Unresolved;
    }
    if error.is_connect() { Problem::Unreachable(cause.to_string()) } else { Problem::Broken(cause.to_string()) }
}

async fn lookup(name: String) -> io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
}

/// A name that leads to no address that may be connected to.
#[derive(Debug, thiserror::Error)]
#[error("leads to no public address")]
struct NothingPublic;

/// Resolves names, and hands out only addresses that may be connected to.
#[derive(Clone)]
struct Guard {
    lookup: Lookup,
    /// Whether the internet is among them.
    with_internet: bool,
    is_allowed: Option<IsAllowed>,
}

impl Guard {
    fn admits(&self, address: IpAddr) -> bool {
        self.with_internet && is_public(address)
            || self.is_allowed.as_ref().is_some_and(|is_allowed| is_allowed(address))
    }
}

impl Service<Name> for Guard {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guard = self.clone();
        Box::pin(async move {
            let looking_up = (guard.lookup)(name.as_str().to_owned());
            // However the lookup fails: the name leads nowhere.
            let found = match tokio::time::timeout(LOOKUP_TIMEOUT, looking_up).await {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "failed to resolve webhook host");
                    Vec::new()
                }
                Err(_) => Vec::new(),
            };
            let admitted: Vec<SocketAddr> =
                found.into_iter().filter(|ip| guard.admits(*ip)).map(|ip| SocketAddr::new(ip, 0)).collect();
            if admitted.is_empty() { Err(io::Error::other(NothingPublic)) } else { Ok(admitted.into_iter()) }
        })
    }
}

#[cfg(test)]
mod tests;
