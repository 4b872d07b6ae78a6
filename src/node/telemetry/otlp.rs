//! Exports traces to an OTLP collector as protobuf over HTTP.
//!
//! A separate thread collects spans into batches. If the collector is unavailable, spans are dropped; this has no other
//! effect on the node.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use opentelemetry::global::{BoxedTracer, ObjectSafeTracerProvider as _};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::HttpError;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::runtime::Handle;

use super::metrics::{ExportOutcome, TraceMetrics};
use crate::domain::Rng;
use crate::domain::trace;
use crate::node::config::Config;
use crate::outbound::http_client::{ClientOptions, HttpClient, Schemes};

/// Timeout for an export request, including the last request at exit.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum size of a response body in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Timeouts and limits of the connections to the collector.
const CLIENT_OPTIONS: ClientOptions = ClientOptions {
    connect_timeout: Duration::from_secs(2),
    request_timeout: EXPORT_TIMEOUT,
    idle_timeout: Duration::from_secs(90),
    max_idle_connections: 1,
    max_head_bytes: 64 * 1024,
    schemes: Schemes::HttpsAndHttp,
};

/// Error: tracing could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("--otlp-endpoint: {0}")]
pub struct TraceSetupError(String);

/// Trace provider of the process. It exports the spans.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Exports the remaining spans. Takes at most 5 s.
    pub async fn finish(self) {
        let done = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(EXPORT_TIMEOUT)).await;
        if let Ok(Err(error)) = done {
            tracing::debug!(%error, "failed to export last spans");
        }
    }
}

/// Starts tracing if the configuration contains a collector. Must be called from within the runtime that will run the
/// exports.
///
/// # Errors
/// Returns [`TraceSetupError`] if the TLS or HTTP client could not be created.
pub fn traces(config: &Config) -> Result<Option<Traces>, TraceSetupError> {
    let Some(endpoint) = &config.otlp_endpoint else { return Ok(None) };
    let failed = |error: &dyn std::fmt::Display| TraceSetupError(error.to_string());
    let client = HttpClient::new(CLIENT_OPTIONS).map_err(|error| failed(&error))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(TraceHttpClient {
            client,
            runtime: Handle::current(),
            is_unavailable: Arc::default(),
            metrics: Arc::default(),
        })
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint.traces())
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| failed(&error))?;
    let named = std::env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty());
    let resource = Resource::builder();
    let resource = if named { resource } else { resource.with_service_name("pintalk") };
    let instance = hex::encode(Rng::from_entropy().bytes::<8>());
    let resource = resource.with_attribute(KeyValue::new("service.instance.id", instance));
    let resource = resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.trace_ratio))))
        .with_resource(resource.build())
        .build();
    let scope = InstrumentationScope::builder("pintalk").with_version(env!("CARGO_PKG_VERSION")).build();
    trace::start(BoxedTracer::new(provider.boxed_tracer(scope)));
    Ok(Some(Traces(provider)))
}

/// HTTP client of the exporter. Requests run on the async runtime, and the thread of the exporter blocks until they
/// complete.
#[derive(Clone, Debug)]
struct TraceHttpClient {
    client: HttpClient<Full<Bytes>>,
    runtime: Handle,
    /// Whether the last export failed.
    is_unavailable: Arc<AtomicBool>,
    metrics: Arc<TraceMetrics>,
}

impl TraceHttpClient {
    /// Counts an export. Logs the first of consecutive failures, and the first success after a failure.
    fn record(&self, problem: Option<&str>) {
        let outcome = if problem.is_some() { ExportOutcome::Failed } else { ExportOutcome::Sent };
        self.metrics.exports.get(outcome).increment(1);
        match (problem, self.is_unavailable.swap(problem.is_some(), Relaxed)) {
            (Some(error), false) => tracing::warn!(error, "trace collector unavailable, dropping spans"),
            (None, true) => tracing::info!("trace collector available"),
            _ => {}
        }
    }
}

#[async_trait]
impl opentelemetry_http::HttpClient for TraceHttpClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        // The request runs on the async runtime, because its timers and connections need one.
        let exchange = self.runtime.spawn(async move { client.fetch(request, MAX_BODY_BYTES).await });
        let response = match exchange.await {
            Ok(response) => response.map_err(HttpError::from),
            Err(panicked) => Err(panicked.into()),
        };
        match &response {
            Ok(response) if response.status().is_success() => self.record(None),
            Ok(response) => self.record(Some(response.status().as_str())),
            Err(error) => self.record(Some(&chain(&**error))),
        }
        response
    }
}

/// Formats an error with its causes, because the outermost message is too general.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause: &&dyn Error| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
