//! A webhook receiver that listens on a local HTTP or HTTPS port.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Webhook request that was received.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// Returns whether one of the signatures in the header equals the signature that OpenSSL computes with this secret.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let signed = format!("{}.{}.{}", self.id(), self.header("webhook-timestamp"), self.body);
        let key = STANDARD.decode(secret.strip_prefix("whsec_").expect("a secret")).expect("base64");
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut openssl = Command::new("openssl")
            .args(["dgst", "-sha256", "-mac", "HMAC", "-macopt", &format!("hexkey:{key}"), "-binary"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("openssl");
        openssl.stdin.take().expect("its input").write_all(signed.as_bytes()).expect("openssl reads");
        let mac = openssl.wait_with_output().expect("openssl ends").stdout;
        let expected = format!("v1,{}", STANDARD.encode(mac));
        self.header("webhook-signature").split(' ').any(|signature| signature == expected)
    }
}

/// How the receiver answers a request.
#[derive(Clone, Debug)]
pub enum Reply {
    Status(u16),
    /// Redirect to this URL.
    Redirect(String),
    /// The request is never answered.
    Silence,
    /// Status 200 with a body that never ends.
    Endless,
}

/// Webhook receiver that stops on drop.
pub struct Receiver {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    reply: Arc<Mutex<Reply>>,
    pub connections: Arc<AtomicUsize>,
    listens: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.listens.abort();
    }
}

impl Receiver {
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts a receiver. It accepts TLS connections if an acceptor is given, and unencrypted connections otherwise.
    pub async fn start_with(tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (received, connections) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let reply = Arc::new(Mutex::new(Reply::Status(200)));
        let (stored, replies, counts) = (Arc::clone(&received), reply.clone(), connections.clone());
        let listens = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                counts.fetch_add(1, SeqCst);
                let (stored, replies, tls) = (Arc::clone(&stored), replies.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, stored, replies).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, stored, replies).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, received, reply, connections, listens }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hooks?of=shop", self.address)
    }

    pub fn reply(&self, reply: Reply) {
        *self.reply.lock() = reply;
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().clone()
    }

    /// Returns the webhook ids of the received requests, in order of arrival.
    pub fn ids(&self) -> Vec<String> {
        self.received.lock().iter().map(|received| received.id().to_owned()).collect()
    }

    /// Returns the number of distinct webhook ids that were received.
    pub fn different(&self) -> usize {
        self.ids().into_iter().collect::<HashSet<_>>().len()
    }

    /// Waits until `count` requests have been received, for at most `within`.
    pub async fn wait_for(&self, count: usize, within: Duration) {
        let waiting = async {
            while self.received.lock().len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let came = tokio::time::timeout(within, waiting).await;
        assert!(came.is_ok(), "{count} requests are not received: {:?}", self.ids());
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    stored: Arc<Mutex<Vec<Received>>>,
    replies: Arc<Mutex<Reply>>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let (stored, replies) = (stored.clone(), replies.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            stored.lock().push(Received {
                method: head.method.to_string(),
                path: head.uri.to_string(),
                headers: head.headers,
                body: String::from_utf8(body.to_vec()).expect("UTF-8"),
            });
            let reply = replies.lock().clone();
            let answer = Response::builder();
            let endless = futures_util::stream::repeat_with(|| {
                Ok::<_, Infallible>(hyper::body::Frame::data(Bytes::from_static(&[b'x'; 1024])))
            });
            let nothing = || Full::new(Bytes::from_static(b"thanks")).boxed_unsync();
            let answer = match reply {
                Reply::Status(status) => answer.status(status).body(nothing()),
                Reply::Redirect(to) => answer.status(307).header("location", to).body(nothing()),
                Reply::Endless => answer.body(http_body_util::StreamBody::new(endless).boxed_unsync()),
                Reply::Silence => std::future::pending().await,
            };
            Ok::<_, Infallible>(answer.expect("an answer"))
        }
    });
    // `serve_connection` fails if the client disconnects, which is not an error here.
    let _ended = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
