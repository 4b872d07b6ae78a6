//! HTTP client of webhooks: one POST per event, only to addresses that were checked.
//!
//! **Invariant:** a connection is made only to addresses that were checked immediately before. The resolver returns no
//! others, and an IP address in a URL is checked before each request. Redirects are not followed and no proxy is used.
//! Of a response, only the status is ever shown to a host.

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
use crate::outbound::http_client::tls;

/// Time limits of the whole request, and of connecting.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit of name resolution, and the minimum time after which an unresolved name is reported.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
const UNRESOLVED_AFTER: Duration = LOOKUP_TIMEOUT;

/// Maximum number of body bytes read from a response, so that its connection can be reused, and the time limit for
/// reading.
const MAX_ANSWER: usize = 16 * 1024;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum size of a response head.
const MAX_HEAD: usize = 32 * 1024;

/// Idle time after which a pooled connection is closed, and maximum number of idle connections per receiver.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_CONNECTIONS: usize = 4;

/// Maximum length of a URL.
pub(super) const MAX_URL: usize = 2_000;

/// Why a URL is not allowed. The messages complete "The URL …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlProblem {
    /// Not an absolute HTTP URL.
    #[error("must be one such as https://shop.example/hooks")]
    NotAUrl,
    /// Longer than 2,000 bytes.
    #[error("must have at most 2000 characters")]
    TooLong,
    /// With user, password or fragment.
    #[error("must have no user, password or fragment")]
    Userinfo,
    /// Not `https`, and not an address for which the operator allows `http`.
    #[error("must begin with https://")]
    Insecure,
    /// An IP address that is not public.
    #[error("must not lead to a private address")]
    Private,
}

/// Why an event was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    /// The URL is not allowed; nothing was sent.
    #[error("the URL {0}")]
    Url(#[from] UrlProblem),
    /// The name does not resolve, or only to addresses that must not be connected to. Both have the same message: the
    /// difference would reveal to a host which names exist in the operator's network.
    #[error("the name of the URL leads to no public address")]
    Unresolved,
    /// No response within the time limit, in seconds.
    #[error("no answer within {0} s")]
    TimedOut(u64),
    /// The connection or its TLS handshake failed.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The connection broke, or the response was not valid HTTP.
    #[error("no proper answer: {0}")]
    Broken(String),
}

/// Resolves a name to addresses.
type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// Sends requests to receivers. Clones share the connection pool.
#[derive(Clone)]
pub(super) struct Wire {
    secure: Client<HttpsConnector<HttpConnector<Guard>>, Full<Bytes>>,
    plain: Client<HttpConnector<Guard>, Full<Bytes>>,
    is_allowed: Option<IsAllowed>,
    pub(super) time_limit: Duration,
}

impl Wire {
    /// Creates a client. Besides public addresses it connects to those that `is_allowed` accepts, and to these also
    /// without TLS.
    ///
    /// # Errors
    /// The TLS configuration could not be created.
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

    /// Checks a URL and returns its normalised form.
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

    /// Sends a body. Returns the status of the response.
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
                    // Names in the operator's network resolve faster than a lookup fails: the delay hides this
                    // difference.
                    tokio::time::sleep_until(began + UNRESOLVED_AFTER).await;
                }
                Err(problem)
            }
            Err(_) => Err(Problem::TimedOut(self.time_limit.as_secs())),
        }
    }
}

async fn read_away(body: Incoming) {
    // The result is ignored, since the status is known.
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
    // The scheme is checked by the callers.
    http.enforce_http(false);
    http
}

/// Classifies an error by its innermost cause.
fn problem(error: &hyper_util::client::legacy::Error) -> Problem {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    // An I/O error may contain another that is not its source.
    let held = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    if cause.is::<NothingPublic>() || held.is_some_and(|held| held.is::<NothingPublic>()) {
        return Problem::Unresolved;
    }
    if error.is_connect() { Problem::Unreachable(cause.to_string()) } else { Problem::Broken(cause.to_string()) }
}

async fn lookup(name: String) -> io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
}

/// The name resolves to no address that may be connected to.
#[derive(Debug, thiserror::Error)]
#[error("leads to no public address")]
struct NothingPublic;

/// Resolver that returns only addresses that may be connected to.
#[derive(Clone)]
struct Guard {
    lookup: Lookup,
    /// Whether public addresses are allowed.
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
            // Every lookup failure counts as a name that does not resolve.
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
