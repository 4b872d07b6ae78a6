//! TCP stream of an upgraded connection.

use std::sync::Arc;

use futures_util::FutureExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::http::{PeerStream, Slot};

/// Upgraded TCP stream, and the bytes that were received after the handshake.
pub(super) struct UpgradedStream {
    pub(super) tcp: TcpStream,
    pub(super) early: Vec<u8>,
    /// Slot of the connection. It is held while the connection is open.
    pub(super) slot: Arc<Slot>,
}

impl UpgradedStream {
    /// Waits for the upgrade. Returns the TCP stream and the bytes that hyper read after the handshake. Returns `None`
    /// if the upgrade fails, for example because the peer disconnected.
    pub(super) async fn open(on_upgrade: OnUpgrade) -> Option<Self> {
        let upgraded: Upgraded = match on_upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => {
                tracing::debug!(%error, "failed to upgrade connection");
                return None;
            }
        };
        match upgraded.downcast::<TokioIo<PeerStream>>() {
            Ok(parts) => {
                let (tcp, slot) = parts.io.into_inner().into_parts();
                Some(Self { tcp, early: parts.read_buf.to_vec(), slot })
            }
            Err(_) => {
                tracing::error!("upgraded connection has unexpected stream type");
                None
            }
        }
    }

    /// Returns whether the peer has disconnected. Does not consume received bytes.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.tcp.peek(&mut [0]).now_or_never(), Some(Ok(0) | Err(_)))
    }
}
