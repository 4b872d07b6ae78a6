//! HTTP client for all outgoing requests: object storage, traces and webhooks.
//!
//! The client uses HTTP/1.1 over pooled connections, with the TLS configuration in [`tls`]. It follows no redirects and
//! uses no proxy. [`ClientOptions`] sets the limits, and an [`AddressFilter`] restricts the addresses to which names
//! may resolve.

mod resolver;
pub(crate) mod tls;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

pub(crate) use resolver::{AddressFilter, Lookup, Resolver, system_lookup};

/// Limits of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientOptions {
    /// Timeout for opening a TCP connection.
    pub(crate) connect_timeout: Duration,
    /// Timeout of a request, from its start to the end of the response head. For [`HttpClient::fetch`], the timeout
    /// includes the response body.
    pub(crate) request_timeout: Duration,
    /// Idle time after which a pooled connection is closed.
    pub(crate) idle_timeout: Duration,
    /// Maximum number of idle connections per host.
    pub(crate) max_idle_connections: usize,
    /// Maximum size of a response head in bytes.
    pub(crate) max_head_bytes: usize,
    /// Supported URL schemes.
    pub(crate) schemes: Schemes,
}

/// Schemes that a client supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schemes {
    /// `https` only.
    Https,
    /// `https` and `http`.
    HttpsAndHttp,
}

/// Reason why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The request has exceeded the contained timeout.
    #[error("no response within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The client has an [`AddressFilter`], and the name does not resolve or resolves to no address that the filter
    /// allows.
    #[error("name resolves to no allowed address")]
    NoAddressAllowed,
    /// The connection or its TLS handshake failed. Nothing was sent.
    #[error(transparent)]
    Connect(Error),
    /// The connection broke, or the response is not valid HTTP.
    #[error(transparent)]
    Interrupted(Error),
    /// The body of the response is too large or incomplete.
    #[error("response body: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<Error> for RequestError {
    fn from(error: Error) -> Self {
        if resolver::is_no_address_allowed(innermost(&error)) {
            return Self::NoAddressAllowed;
        }
        if error.is_connect() { Self::Connect(error) } else { Self::Interrupted(error) }
    }
}

/// Returns the last error in the chain of sources. This error is the most specific one.
pub(crate) fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    std::iter::successors(Some(error), |&error| error.source()).last().unwrap_or(error)
}

/// HTTP client. Clones share the connection pool.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient<B> {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, B>,
    /// See [`ClientOptions::request_timeout`].
    pub(crate) request_timeout: Duration,
}

impl<B> HttpClient<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Creates a client that connects to every address and trusts the system's root certificates.
    ///
    /// # Errors
    /// Returns an error if the TLS configuration could not be created.
    pub(crate) fn new(options: ClientOptions) -> Result<Self, rustls::Error> {
        Ok(Self::with(options, Resolver::system(), tls::client_config()?))
    }

    /// Creates a client with the given resolver and TLS configuration.
    pub(crate) fn with(options: ClientOptions, resolver: Resolver, tls: rustls::ClientConfig) -> Self {
        let mut http = HttpConnector::new_with_resolver(resolver);
        http.set_connect_timeout(Some(options.connect_timeout));
        http.set_nodelay(true);
        // The inner connector must accept `https` URLs. The outer connector checks the scheme.
        http.enforce_http(false);
        let https = HttpsConnectorBuilder::new().with_tls_config(tls);
        let https = match options.schemes {
            Schemes::Https => https.https_only(),
            Schemes::HttpsAndHttp => https.https_or_http(),
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(options.idle_timeout)
            .pool_max_idle_per_host(options.max_idle_connections)
            .http1_max_buf_size(options.max_head_bytes)
            .build(https.enable_http1().wrap_connector(http));
        Self { client, request_timeout: options.request_timeout }
    }

    /// Sends a request and returns the response. The caller reads the body.
    ///
    /// # Errors
    /// Returns a [`RequestError`] other than [`RequestError::Body`] if there is no response.
    pub(crate) async fn send(&self, request: Request<B>) -> Result<Response<Incoming>, RequestError> {
        let response = tokio::time::timeout(self.request_timeout, self.client.request(request)).await;
        Ok(response.map_err(|_| RequestError::TimedOut(self.request_timeout))??)
    }
}

impl HttpClient<Full<Bytes>> {
    /// Sends a request and reads the response body, which may have at most `max_bytes`.
    ///
    /// # Errors
    /// Returns a [`RequestError`] if no complete response is received or its body is too large.
    pub(crate) async fn fetch(
        &self,
        request: Request<Bytes>,
        max_bytes: usize,
    ) -> Result<Response<Bytes>, RequestError> {
        let exchange = async {
            let (head, body) = self.client.request(request.map(Full::new)).await?.into_parts();
            let body = read_body(body, max_bytes).await.map_err(RequestError::Body)?;
            Ok::<_, RequestError>(Response::from_parts(head, body))
        };
        let response = tokio::time::timeout(self.request_timeout, exchange).await;
        response.map_err(|_| RequestError::TimedOut(self.request_timeout))?
    }
}

/// Reads a body of at most `max_bytes`.
///
/// # Errors
/// Returns an error if the body is longer than `max_bytes` or the connection fails.
pub(crate) async fn read_body(
    body: Incoming,
    max_bytes: usize,
) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Limited::new(body, max_bytes).collect().await?.to_bytes())
}

#[cfg(test)]
mod tests;
