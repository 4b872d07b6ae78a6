//! HTTP client for buckets: hyper with the TLS configuration of this program ([`tls`](crate::outbound::http_client::tls)). Plain `http://` is
//! used where the endpoint specifies it, and for the metadata service of a cloud provider.

use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};

use crate::outbound::http_client::tls;

/// Time limits for connecting, for one attempt, and for all attempts. The last is below [`PATIENCE`](super::PATIENCE).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
pub(super) const RETRY_TIMEOUT: Duration = Duration::from_secs(6);

/// Number of retries after the first attempt.
pub(super) const RETRIES: usize = 2;

/// How long an unused connection is kept. S3 services close idle connections after about 20 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connector that creates HTTP clients for `object_store`.
#[derive(Debug)]
pub(super) struct Wire;

impl object_store::client::HttpConnector for Wire {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let https = tls::connector(CONNECT_TIMEOUT)
            .map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })?;
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIMEOUT);
        Ok(HttpClient::new(Connections(builder.build(https))))
    }
}

#[derive(Debug)]
struct Connections(Client<HttpsConnector<HttpConnector>, HttpRequestBody>);

#[async_trait]
impl HttpService for Connections {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answered = tokio::time::timeout(REQUEST_TIMEOUT, self.0.request(request)).await;
        let answer = answered
            .map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?
            .map_err(|error| HttpError::new(kind(&error), error))?;
        let (parts, body) = answer.into_parts();
        let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

/// Classifies an error. A request that was not sent, because connecting failed, may always be retried.
fn kind(error: &Error) -> HttpErrorKind {
    if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted }
}
