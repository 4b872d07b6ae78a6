//! TCP link between a browser and a node that can become silent without a reset, as after a lost route or an expired
//! NAT entry.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Direction in which a connection carries data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Whole,
    /// Carries data in neither direction. Both ends stay open.
    Silent,
    /// Carries only data of the browser.
    ToNode,
    /// Carries only data of the node.
    ToBrowser,
    Reset,
}

impl Flow {
    const fn passes(self, to_node: bool) -> bool {
        match self {
            Self::Whole => true,
            Self::ToNode => to_node,
            Self::ToBrowser => !to_node,
            Self::Silent | Self::Reset => false,
        }
    }
}

struct State {
    /// State of future connections.
    next: Flow,
    /// Page that future connections return for every request, like a captive portal; `None` forwards requests.
    portal: Option<String>,
    open: Vec<watch::Sender<Flow>>,
}

pub struct Link {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

impl Link {
    pub async fn before(node: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State { next: Flow::Whole, portal: None, open: Vec::new() }));
        let shared = state.clone();
        let accepting = tokio::spawn(async move {
            // The connections end when this task ends.
            let mut connections = JoinSet::new();
            while let Ok((browser, _)) = listener.accept().await {
                let mut state = shared.lock();
                if let Some(page) = state.portal.clone() {
                    connections.spawn(answer(browser, page));
                    continue;
                }
                let (flow, watched) = watch::channel(state.next);
                state.open.retain(|open| !open.is_closed());
                state.open.push(flow);
                connections.spawn(carry(browser, node, watched));
            }
        });
        Self { address, state, accepting }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Changes the flow of the open connections. A silent connection stays silent. Future connections carry data in
    /// both directions.
    pub fn set_open(&self, flow: Flow) {
        for open in &self.state.lock().open {
            open.send_if_modified(|before| {
                let changes = *before == Flow::Whole || flow == Flow::Reset;
                if changes {
                    *before = flow;
                }
                changes
            });
        }
    }

    /// Changes the open and the future connections.
    pub fn set_all(&self, flow: Flow) {
        self.state.lock().next = flow;
        self.set_open(flow);
    }

    /// Answers every request with a page, or stops doing so. Open connections are reset.
    pub fn set_portal(&self, page: Option<&str>) {
        self.state.lock().portal = page.map(str::to_owned);
        self.set_open(Flow::Reset);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn answer(mut browser: TcpStream, page: String) {
    let mut request = vec![0; 16 * 1024];
    let Ok(1..) = browser.read(&mut request).await else { return };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n";
    let reply = format!("{head}Content-Length: {}\r\n\r\n{page}", page.len());
    let _sent = browser.write_all(reply.as_bytes()).await;
}

async fn carry(mut browser: TcpStream, node: SocketAddr, mut flow: watch::Receiver<Flow>) {
    let Ok(mut server) = TcpStream::connect(node).await else { return };
    for stream in [&browser, &server] {
        let _quick = stream.set_nodelay(true);
    }
    {
        let (from_browser, to_browser) = browser.split();
        let (from_server, to_server) = server.split();
        let there = copy(from_browser, to_server, flow.clone(), true);
        let back = copy(from_server, to_browser, flow.clone(), false);
        tokio::select! {
            _ = async { tokio::join!(there, back) } => return,
            () = reaches(&mut flow, |flow| flow == Flow::Reset) => {}
        }
    }
    for stream in [&browser, &server] {
        let _reset = stream.set_zero_linger();
    }
}

/// Waits until a flow is in one of these states.
async fn reaches(flow: &mut watch::Receiver<Flow>, is_wanted: impl Fn(Flow) -> bool) {
    while !is_wanted(*flow.borrow_and_update()) {
        if flow.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut flow: watch::Receiver<Flow>,
    to_node: bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        let passes = flow.borrow().passes(to_node);
        if passes && to.write_all(&buffer[..len]).await.is_err() {
            break;
        }
    }
    // A silent link does not forward the end of a stream either.
    reaches(&mut flow, |flow| flow.passes(to_node)).await;
    let _ended = to.shutdown().await;
}

/// Fails unless a future completes in time, and returns its duration.
pub async fn within(what: &str, limit: Duration, seen: impl Future<Output = ()>) -> Duration {
    let began = std::time::Instant::now();
    tokio::time::timeout(limit, seen).await.unwrap_or_else(|_| panic!("not within {limit:?}: {what}"));
    began.elapsed()
}
