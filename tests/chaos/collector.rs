//! Trace collector that receives OTLP over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Span that the collector has received.
#[derive(Clone, Debug)]
pub struct Span {
    pub name: String,
    pub trace: Vec<u8>,
    pub id: Vec<u8>,
    pub parent: Vec<u8>,
    pub facts: Vec<(String, String)>,
    /// Resource attributes of the process that sent the span.
    pub sender: Vec<(String, String)>,
    pub began: u64,
    pub ended: u64,
}

impl Span {
    pub fn fact(&self, name: &str) -> Option<&str> {
        find(&self.facts, name)
    }

    pub fn sent_by(&self) -> &str {
        find(&self.sender, "service.instance.id").expect("a sender's id")
    }
}

fn find<'a>(facts: &'a [(String, String)], name: &str) -> Option<&'a str> {
    facts.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

pub struct Collector {
    pub address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    accepting: JoinHandle<()>,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let taken = spans.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, taken.clone()));
            }
        });
        Self { address, spans, accepting }
    }

    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Serves the requests of one connection. An unexpected request closes the connection, and the test then fails by
/// timeout.
async fn serve(stream: TcpStream, spans: Arc<Mutex<Vec<Span>>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut line, mut length, mut is_protobuf) = (String::new(), 0, false);
        stream.read_line(&mut line).await.ok()?;
        if line.trim() != "POST /v1/traces HTTP/1.1" {
            return None;
        }
        loop {
            line.clear();
            stream.read_line(&mut line).await.ok()?;
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().ok()?,
                "content-type" => is_protobuf = value == "application/x-protobuf",
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let request = ExportTraceServiceRequest::decode(body.as_slice()).ok().filter(|_| is_protobuf)?;
        spans.lock().extend(read(request));
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

fn read(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_sender in request.resource_spans {
        let sender = of_sender.resource.map(|resource| facts(resource.attributes)).unwrap_or_default();
        for span in of_sender.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Span {
                name: span.name,
                trace: span.trace_id,
                id: span.span_id,
                parent: span.parent_span_id,
                facts: facts(span.attributes),
                sender: sender.clone(),
                began: span.start_time_unix_nano,
                ended: span.end_time_unix_nano,
            });
        }
    }
    spans
}

fn facts(attributes: Vec<KeyValue>) -> Vec<(String, String)> {
    let text = |value| match value {
        any_value::Value::StringValue(text) => text,
        other => format!("{other:?}").trim_matches(|letter: char| !letter.is_ascii_digit()).to_owned(),
    };
    let fact = |fact: KeyValue| Some((fact.key, text(fact.value?.value?)));
    attributes.into_iter().filter_map(fact).collect()
}
