//! A TCP proxy between nodes and a store. It can close connections or stop forwarding on them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How a [`Proxy`] treats its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Whole,
    /// Existing connections are closed, and new connections are reset.
    Cut,
    /// Connections stay open, and no data is forwarded, as after the loss of a network route.
    Silent,
}

pub struct Proxy {
    pub address: SocketAddr,
    wire: watch::Sender<Wire>,
    /// Local ports of connections to the target. Responses on these connections are dropped.
    muted: watch::Sender<Vec<u16>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (wire, watched) = watch::channel(Wire::Whole);
        let (muted, muted_ports) = watch::channel(Vec::new());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target, watched.clone(), muted_ports.clone()));
            }
        });
        Self { address, wire, muted, accepting }
    }

    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }

    /// Drops the responses of the target on the connections with these local ports.
    pub fn mute(&self, ports: Vec<u16>) {
        self.muted.send_replace(ports);
    }

    /// Closes all open connections. New connections are forwarded again when this function returns.
    pub async fn reset(&self) {
        self.set(Wire::Cut);
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.set(Wire::Whole);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(
    client: TcpStream,
    target: SocketAddr,
    mut wire: watch::Receiver<Wire>,
    muted: watch::Receiver<Vec<u16>>,
) {
    if wire.wait_for(|wire| *wire != Wire::Silent).await.is_err() || *wire.borrow() == Wire::Cut {
        let _reset = client.set_zero_linger();
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    for stream in [&client, &server] {
        let _quick = stream.set_nodelay(true);
    }
    let Ok(port) = server.local_addr().map(|address| address.port()) else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let mut cut = wire.clone();
    let forth = tokio::spawn(copy(from_client, to_server, wire.clone(), None));
    let back = tokio::spawn(copy(from_server, to_client, wire, Some((muted, port))));
    let (stop_forth, stop_back) = (forth.abort_handle(), back.abort_handle());
    tokio::select! {
        _ = forth => {}
        _ = back => {}
        _ = cut.wait_for(|wire| *wire == Wire::Cut) => {}
    }
    stop_forth.abort();
    stop_back.abort();
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut wire: watch::Receiver<Wire>,
    muted: Option<(watch::Receiver<Vec<u16>>, u16)>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        if wire.wait_for(|wire| *wire != Wire::Silent).await.is_err() || *wire.borrow() == Wire::Cut {
            // With zero linger, closing the socket resets the connection and discards data in flight.
            let _reset = to.as_ref().set_zero_linger();
            return;
        }
        if muted.as_ref().is_some_and(|(muted, port)| muted.borrow().contains(port)) {
            continue;
        }
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}
