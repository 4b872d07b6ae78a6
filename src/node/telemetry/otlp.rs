//! Trace export to a collector: OTLP, as protobuf over HTTP.
//!
//! Spans are batched on a separate thread. If the collector is unavailable, spans are dropped, without any other
//! effect.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::global::{BoxedTracer, ObjectSafeTracerProvider as _};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::runtime::Handle;

use super::metrics::{ExportOutcome, TraceMetrics};
use crate::domain::clock::Chance;
use crate::domain::trace;
use crate::node::config::{Config, hex};
use crate::outbound::tls;

/// Time limit for connecting to the collector.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Time limit of an export request, also of the last one at exit.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum size of a response in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Tracing could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("--otlp-endpoint: {0}")]
pub struct NoTraces(String);

/// Trace provider of the process.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Exports the remaining spans, within 5 s.
    pub async fn finish(self) {
        let done = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(EXPORT_TIMEOUT)).await;
        if let Ok(Err(error)) = done {
            tracing::debug!(%error, "failed to export last spans");
        }
    }
}

/// Starts tracing if the configuration names a collector. Must be called within the runtime that sends the exports.
///
/// # Errors
/// [`NoTraces`] if the TLS or HTTP client could not be created.
pub fn traces(config: &Config) -> Result<Option<Traces>, NoTraces> {
    let Some(endpoint) = &config.otlp_endpoint else { return Ok(None) };
    let failed = |error: &dyn std::fmt::Display| NoTraces(error.to_string());
    let connector = tls::connector(CONNECT_TIMEOUT).map_err(|error| failed(&error))?;
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Wire { client, runtime: Handle::current(), is_away: Arc::default(), metrics: Arc::default() })
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint.traces())
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| failed(&error))?;
    let named = std::env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty());
    let resource = Resource::builder();
    let resource = if named { resource } else { resource.with_service_name("pintalk") };
    let instance = hex(&Chance::from_entropy().bytes::<8>());
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

/// HTTP client of the exporter. Requests run on the runtime, while the exporter's own thread waits.
#[derive(Clone, Debug)]
struct Wire {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
    /// Whether the last export failed.
    is_away: Arc<AtomicBool>,
    metrics: Arc<TraceMetrics>,
}

impl Wire {
    /// Counts an export, and logs the first failure and the first success after it.
    fn note(&self, problem: Option<&str>) {
        let outcome = if problem.is_some() { ExportOutcome::Failed } else { ExportOutcome::Sent };
        self.metrics.exports.get(outcome).increment(1);
        match (problem, self.is_away.swap(problem.is_some(), Relaxed)) {
            (Some(error), false) => tracing::warn!(error, "trace collector unavailable, dropping spans"),
            (None, true) => tracing::info!("trace collector available"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Wire {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let exchange = async move {
            let answer = client.request(request.map(Full::new)).await?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(parts, body))
        };
        // The timer must be created on the runtime, too.
        let exchange = self.runtime.spawn(async { tokio::time::timeout(EXPORT_TIMEOUT, exchange).await });
        let answer = match exchange.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(late)) => Err(late.into()),
            Err(broken) => Err(broken.into()),
        };
        match &answer {
            Ok(answer) if answer.status().is_success() => self.note(None),
            Ok(answer) => self.note(Some(answer.status().as_str())),
            Err(error) => self.note(Some(&chain(&**error))),
        }
        answer
    }
}

/// Formats an error with its causes: the outermost message alone is too general.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause: &&dyn Error| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
