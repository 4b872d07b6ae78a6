//! WebSocket client that behaves like a browser.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Maximum time for connecting and for sending a frame.
const CONNECT: Duration = Duration::from_secs(5);

/// Origin of the site that the hosts of the tests register.
pub const SHOP: &str = "https://shop.example";

pub struct Socket(WebSocketStream<TcpStream>);

/// What a socket receives.
#[derive(Debug)]
pub enum Event {
    Frame(Value),
    Closed {
        code: u16,
        reason: String,
    },
    /// The connection ended without a close frame.
    Broken,
}

impl Socket {
    /// Connects to a node, with an `Origin` header for a guest. Returns `None` if the node does not accept the
    /// handshake.
    pub async fn open(address: SocketAddr, path: &str, origin: Option<&str>) -> Option<Self> {
        let mut request = format!("ws://{address}{path}").into_client_request().expect("a request");
        if let Some(origin) = origin {
            request.headers_mut().insert("Origin", origin.parse().expect("a header"));
        }
        let opening = async {
            let stream = TcpStream::connect(address).await.ok()?;
            stream.set_nodelay(true).ok()?;
            tokio_tungstenite::client_async(request, stream).await.ok()
        };
        Some(Self(tokio::time::timeout(CONNECT, opening).await.ok()??.0))
    }

    /// Sends a text frame. Returns whether it was written to the connection in time.
    pub async fn send(&mut self, frame: &str) -> bool {
        matches!(tokio::time::timeout(CONNECT, self.0.send(Message::text(frame))).await, Ok(Ok(())))
    }

    /// Receives the next data or close frame. This method is cancel safe.
    pub async fn receive(&mut self) -> Event {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Event::Frame(serde_json::from_str(&text).expect("JSON")),
                Some(Ok(Message::Close(Some(close)))) => {
                    return Event::Closed { code: close.code.into(), reason: close.reason.to_string() };
                }
                Some(Ok(Message::Close(None))) | None => return Event::Broken,
                Some(Ok(_)) => {}
                Some(Err(
                    Error::ConnectionClosed
                    | Error::AlreadyClosed
                    | Error::Io(_)
                    | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
                )) => return Event::Broken,
                Some(Err(error)) => panic!("the server violates the WebSocket protocol: {error}"),
            }
        }
    }

    /// Resets the connection without sending a close frame.
    pub fn drop_hard(self) {
        let _reset = self.0.get_ref().set_zero_linger();
    }
}
