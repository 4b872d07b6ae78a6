//! TCP proxy between nodes and one of their stores, which can be cut.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Whole,
    /// Existing and new connections are reset.
    Cut,
    /// Connections stay and new ones open, but carry nothing: a lost route.
    Silent,
}

pub struct Proxy {
    pub address: SocketAddr,
    wire: watch::Sender<Wire>,
    /// Connections that receive nothing, by the ports that the target sees.
    deaf: watch::Sender<Vec<u16>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (wire, watched) = watch::channel(Wire::Whole);
        let (deaf, deafened) = watch::channel(Vec::new());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target, watched.clone(), deafened.clone()));
            }
        });
        Self { address, wire, deaf, accepting }
    }

    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }

    /// Keeps connections open but drops all responses to them, by the ports that the target sees.
    pub fn deafen(&self, ports: Vec<u16>) {
        self.deaf.send_replace(ports);
    }

    /// Resets open connections and continues to accept new ones.
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
    deaf: watch::Receiver<Vec<u16>>,
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
    let there = tokio::spawn(copy(from_client, to_server, wire.clone(), None));
    let back = tokio::spawn(copy(from_server, to_client, wire, Some((deaf, port))));
    let (stop_there, stop_back) = (there.abort_handle(), back.abort_handle());
    tokio::select! {
        _ = there => {}
        _ = back => {}
        _ = cut.wait_for(|wire| *wire == Wire::Cut) => {}
    }
    stop_there.abort();
    stop_back.abort();
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut wire: watch::Receiver<Wire>,
    deaf: Option<(watch::Receiver<Vec<u16>>, u16)>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        if wire.wait_for(|wire| *wire != Wire::Silent).await.is_err() || *wire.borrow() == Wire::Cut {
            // Not an orderly close: data in flight is lost.
            let _reset = to.as_ref().set_zero_linger();
            return;
        }
        if deaf.as_ref().is_some_and(|(deaf, port)| deaf.borrow().contains(port)) {
            continue;
        }
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}
