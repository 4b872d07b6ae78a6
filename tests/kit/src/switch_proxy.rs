//! A TCP proxy whose target can be changed for new connections.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// TCP proxy with a replaceable target. Each connection keeps the target that was set when it was accepted.
pub struct SwitchProxy {
    pub address: SocketAddr,
    target: watch::Sender<SocketAddr>,
    /// Connections are numbered from 1 as they are accepted. Those up to this number no longer forward data.
    frozen: watch::Sender<usize>,
    accepted: watch::Receiver<usize>,
    accepting: JoinHandle<()>,
}

impl SwitchProxy {
    pub async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (target, targets) = watch::channel(target);
        let (frozen, freezing) = watch::channel(0);
        let (count, accepted) = watch::channel(0);
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let number = *count.borrow() + 1;
                count.send_replace(number);
                let (target, mut freezing) = (*targets.borrow(), freezing.clone());
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        () = until_frozen(&mut freezing, number) => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, target, frozen, accepted, accepting }
    }

    /// Sets the target of new connections.
    pub fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    /// Stops forwarding on all existing connections without closing them. Returns the number of connections that were
    /// accepted so far.
    pub fn freeze(&self) -> usize {
        let accepted = *self.accepted.borrow();
        self.frozen.send_replace(accepted);
        accepted
    }
}

async fn until_frozen(freezing: &mut watch::Receiver<usize>, number: usize) {
    if freezing.wait_for(|frozen| *frozen >= number).await.is_err() {
        // The sender is dropped with the proxy. A connection that is still open then continues to forward data.
        std::future::pending::<()>().await;
    }
}

impl Drop for SwitchProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
