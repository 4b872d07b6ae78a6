//! TCP link between a browser and a node. It can become silent without a reset, as after a lost route or an expired NAT
//! entry.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Which data a connection forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Whole,
    /// No data is forwarded. Both ends of the connection stay open.
    Silent,
    /// Only data from the browser to the node is forwarded.
    ToNode,
    /// Only data from the node to the browser is forwarded.
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
    /// Flow of connections that are accepted from now on.
    next: Flow,
    /// Page with which the link answers every request on new connections, as a captive portal does. `None` forwards
    /// requests.
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
            // The tasks of all connections are aborted when this task ends.
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

    /// Sets the flow of all open connections. A connection that is not [`Flow::Whole`] can only be reset. New
    /// connections are not affected.
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

    /// Sets the flow of all open and new connections.
    pub fn set_all(&self, flow: Flow) {
        self.state.lock().next = flow;
        self.set_open(flow);
    }

    /// Resets open connections. Answers every request on new connections with `page`, or forwards requests if `page` is
    /// `None`.
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

/// Waits until a flow satisfies `is_wanted`.
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
    // A silent link does not forward the end of a stream.
    reaches(&mut flow, |flow| flow.passes(to_node)).await;
    let _ended = to.shutdown().await;
}

/// Waits for a future and returns the time it took. Fails if it takes longer than `limit`.
pub async fn within(what: &str, limit: Duration, seen: impl Future<Output = ()>) -> Duration {
    let began = std::time::Instant::now();
    tokio::time::timeout(limit, seen).await.unwrap_or_else(|_| panic!("not within {limit:?}: {what}"));
    began.elapsed()
}
