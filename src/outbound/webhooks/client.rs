//! HTTP client of webhooks. It sends one POST request per delivery attempt.
//!
//! **Invariant:** a connection is made only to addresses that were checked immediately before. The resolver returns
//! only checked addresses, and an IP address in a URL is checked before each request. Redirects are not followed and no
//! proxy is used. Hosts see only the status of a response.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Instant;
use url::Url;

use super::address::{IsAllowed, is_public};
use super::url::{UrlProblem, check};
use crate::outbound::http_client::{
    AddressFilter, ClientOptions, HttpClient, Lookup, RequestError, Resolver, Schemes, innermost, read_body,
    system_lookup, tls,
};

/// Timeout of a request.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Limits of the client for `https` URLs.
const OPTIONS: ClientOptions = ClientOptions {
    connect_timeout: Duration::from_secs(5),
    request_timeout: REQUEST_TIMEOUT,
    idle_timeout: Duration::from_secs(5),
    max_idle_connections: 4,
    max_head_bytes: 32 * 1024,
    schemes: Schemes::Https,
};

/// Timeout of name resolution, and minimum delay before an unresolved name is reported.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
const UNRESOLVED_AFTER: Duration = LOOKUP_TIMEOUT;

/// Maximum number of bytes that are read from a response body, and timeout for reading them. The body is read so that
/// the connection can be reused.
const MAX_BODY_BYTES: usize = 16 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Reason why an event was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DeliveryError {
    /// The URL is not allowed; nothing was sent.
    #[error("the URL {0}")]
    Url(#[from] UrlProblem),
    /// The name does not resolve, or resolves only to addresses that are not allowed. Both cases have the same message:
    /// a difference would reveal to a host which names exist in the operator's network.
    #[error("the name of the URL leads to no public address")]
    Unresolved,
    /// The receiver did not respond within the contained number of seconds.
    #[error("no answer within {0} s")]
    TimedOut(u64),
    /// The connection or its TLS handshake failed.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The connection broke, or the response was not valid HTTP.
    #[error("no proper answer: {0}")]
    Broken(String),
}

impl From<RequestError> for DeliveryError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::TimedOut(limit) => Self::TimedOut(limit.as_secs()),
            RequestError::NoAddressAllowed => Self::Unresolved,
            RequestError::Connect(error) => Self::Unreachable(innermost(&error).to_string()),
            RequestError::Interrupted(error) => Self::Broken(innermost(&error).to_string()),
            RequestError::Body(error) => Self::Broken(error.to_string()),
        }
    }
}

/// Sends requests to receivers. Clones share the connection pool.
#[derive(Clone)]
pub(super) struct WebhookClient {
    /// Client for `https` URLs, which connects to public and to allowed addresses.
    secure: HttpClient<Full<Bytes>>,
    /// Client for `http` URLs, which connects only to allowed addresses.
    plain: HttpClient<Full<Bytes>>,
    is_allowed: Option<IsAllowed>,
}

impl WebhookClient {
    /// Creates a client that connects to public addresses and to addresses that `is_allowed` accepts. Public addresses
    /// require TLS.
    ///
    /// # Errors
    /// Returns an error if the TLS configuration could not be created.
    pub(super) fn new(is_allowed: Option<IsAllowed>) -> Result<Self, rustls::Error> {
        Ok(Self::with(is_allowed, system_lookup(), tls::client_config()?))
    }

    fn with(is_allowed: Option<IsAllowed>, lookup: Lookup, tls: rustls::ClientConfig) -> Self {
        let client = |schemes, with_public| {
            let resolver = resolver(lookup.clone(), with_public, is_allowed.clone());
            HttpClient::with(ClientOptions { schemes, ..OPTIONS }, resolver, tls.clone())
        };
        let (secure, plain) = (client(Schemes::Https, true), client(Schemes::HttpsAndHttp, false));
        Self { secure, plain, is_allowed }
    }

    /// Checks a URL and returns its normalised form.
    pub(super) fn check_url(&self, url: &str) -> Result<Url, UrlProblem> {
        check(url, self.is_allowed.as_ref())
    }

    /// Sends a POST request with a body. Returns the status of the response.
    pub(super) async fn post(&self, url: &str, headers: &[(&str, String)], body: &str) -> Result<u16, DeliveryError> {
        let url = self.check_url(url)?;
        let uri: Uri = url.as_str().parse().map_err(|_| UrlProblem::NotAUrl)?;
        let mut request = Request::post(uri);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        let request = request.body(body).map_err(|error| DeliveryError::Broken(error.to_string()))?;
        let client = if url.scheme() == "https" { &self.secure } else { &self.plain };
        let began = Instant::now();
        match client.send(request).await {
            Ok(response) => {
                let (head, body) = response.into_parts();
                discard(body).await;
                Ok(head.status.as_u16())
            }
            Err(error) => {
                let error = DeliveryError::from(error);
                if error == DeliveryError::Unresolved {
                    // A name in the operator's network resolves faster than the lookup of an unknown name fails. The
                    // delay hides this difference.
                    tokio::time::sleep_until(began + UNRESOLVED_AFTER).await;
                }
                Err(error)
            }
        }
    }

    /// Sets the timeout of requests.
    #[cfg(test)]
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.secure.request_timeout = timeout;
        self.plain.request_timeout = timeout;
    }
}

/// Creates a resolver that returns allowed addresses. With `with_public`, it also returns public addresses.
fn resolver(lookup: Lookup, with_public: bool, is_allowed: Option<IsAllowed>) -> Resolver {
    let filter: AddressFilter = Arc::new(move |address: IpAddr| {
        with_public && is_public(address) || is_allowed.as_ref().is_some_and(|is_allowed| is_allowed(address))
    });
    Resolver::filtered(lookup, filter, LOOKUP_TIMEOUT)
}

/// Reads a body and discards it, so that the connection can be reused.
async fn discard(body: Incoming) {
    // The result is ignored, because the status of the response is already known.
    let _read = tokio::time::timeout(BODY_TIMEOUT, read_body(body, MAX_BODY_BYTES)).await;
}

#[cfg(test)]
mod tests;
