//! Adapter that lets `object_store` use the [`HttpClient`](crate::outbound::http_client::HttpClient) of this program.
//! The adapter also supports `http://`, for endpoints without TLS and for the metadata service of a cloud provider.

use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use object_store::client::{
    HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};

use crate::outbound::http_client::{ClientOptions, HttpClient, RequestError, Schemes};

/// Limits of one attempt of a request.
const OPTIONS: ClientOptions = ClientOptions {
    connect_timeout: Duration::from_secs(2),
    request_timeout: Duration::from_secs(5),
    // S3 services close idle connections after about 20 s.
    idle_timeout: Duration::from_secs(10),
    max_idle_connections: usize::MAX,
    max_head_bytes: 400 * 1024,
    schemes: Schemes::HttpsAndHttp,
};

/// Timeout of all attempts of a request together. It is below [`OPERATION_TIMEOUT`](super::OPERATION_TIMEOUT).
pub(super) const RETRY_TIMEOUT: Duration = Duration::from_secs(6);

/// Number of retries after the first attempt.
pub(super) const RETRIES: usize = 2;

/// Creates the HTTP clients of `object_store`.
#[derive(Debug)]
pub(super) struct S3HttpConnector;

impl HttpConnector for S3HttpConnector {
    fn connect(&self, _: &object_store::ClientOptions) -> object_store::Result<object_store::client::HttpClient> {
        let client = HttpClient::new(OPTIONS)
            .map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })?;
        Ok(object_store::client::HttpClient::new(S3HttpClient(client)))
    }
}

#[derive(Debug)]
struct S3HttpClient(HttpClient<HttpRequestBody>);

#[async_trait]
impl HttpService for S3HttpClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.0.send(request).await.map_err(|error| HttpError::new(kind(&error), error))?;
        let (head, body) = response.into_parts();
        let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

/// Classifies an error for the retries of `object_store`. If connecting failed, the request was not sent and may always
/// be retried.
fn kind(error: &RequestError) -> HttpErrorKind {
    match error {
        RequestError::TimedOut(_) => HttpErrorKind::Timeout,
        RequestError::Connect(_) | RequestError::NoAddressAllowed => HttpErrorKind::Connect,
        RequestError::Interrupted(_) | RequestError::Body(_) => HttpErrorKind::Interrupted,
    }
}
