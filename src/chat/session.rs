//! Sessions: the state of admitted connections. A session handles the frames that its socket receives and queues the
//! frames that it sends.
//!
//! [`Sessions`] creates a [`ChatSession`] or a [`StatusSession`] from a [`Handshake`], or returns a [`Refusal`]. The
//! task that owns the socket passes text frames to `receive`, polls `drive`, and writes the frames in the outbox of the
//! connection.
//!
//! **Invariant:** this module does not depend on a socket type.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::accounts::hosts::Hosts;
use crate::accounts::limits::Budgets;
use crate::accounts::{Accounts, AuthError};
use crate::backend::broker::Bus;
use crate::chat::history::History;
use crate::chat::hub::{Connection, Hub, Identity};
use crate::chat::relay::{Members, Relay};
use crate::chat::rooms::Rooms;
use crate::chat::statuses::Statuses;
use crate::domain::Rng;
use crate::domain::clock::Clock;
use crate::domain::{Host, HostId, Origin, WireOffset};
use crate::protocol::chat::pong_frame;
use crate::protocol::{Close, frame};

mod chat;
mod status;
mod throttle;

pub use chat::ChatSession;
pub use status::StatusSession;
pub use throttle::Rate;
pub(crate) use throttle::TokenBucket;

/// Parameters with which a client connects.
#[derive(Clone, Debug, Default)]
pub struct Handshake {
    /// The `Origin` header.
    pub origin: Option<String>,
    /// Query parameter `token`, decoded. The original admin page replaces the dots of the token with slashes (SPEC 4).
    pub token: Option<String>,
    /// Query parameter `after`.
    pub after: Option<String>,
    /// Whether the query parameter `v` requests the frames of later protocol versions ([`wants_extras`]). It applies to
    /// chat and status sockets.
    pub extras: bool,
}

/// Returns whether a query parameter `v` requests the frames that were added after the first protocol version (SPEC 4):
/// its value must be 2 or higher. A value that is not a number stands for the first version.
pub fn wants_extras(version: &str) -> bool {
    let is_number = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    is_number && version.parse::<u64>().unwrap_or(u64::MAX) >= 2
}

/// Response to a connection that is not admitted: a close code and an optional last frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Frame that is sent before the close.
    pub frame: Option<Bytes>,
    /// Close code and reason.
    pub close: Close,
}

impl From<Close> for Refusal {
    fn from(close: Close) -> Self {
        Self { frame: None, close }
    }
}

/// Limits of a session.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// Maximum number of sockets per side in a room, counted over all nodes; `None` if unlimited.
    pub room_sockets: Option<u32>,
    /// Maximum rate of messages per socket; `None` if unlimited.
    pub rate: Option<Rate>,
}

/// Creates sessions and provides the services that they use.
pub struct Sessions {
    /// Authenticates hosts by token.
    pub accounts: Accounts,
    /// Cache of hosts.
    pub hosts: Hosts,
    /// Rooms and their states.
    pub rooms: Rooms,
    /// Reads the messages of rooms.
    pub history: History,
    /// Submits messages to the broker.
    pub relay: Relay,
    /// Relays notices to the other nodes.
    pub bus: Arc<dyn Bus>,
    /// Reports the connection counts of rooms.
    pub members: Members,
    /// This node's connections.
    pub hub: Arc<Hub>,
    /// Status sockets of this node and the presence of their hosts.
    pub statuses: Statuses,
    /// Source of the current time.
    pub clock: Arc<dyn Clock>,
    /// Random source for message ids and retry delays.
    pub rng: Rng,
    /// Offset of the clients' wall-clock time from UTC.
    pub wire: WireOffset,
    /// Limits of a session.
    pub limits: SessionLimits,
    /// Daily byte limits of hosts.
    pub budgets: Budgets,
    /// Runs tasks that may continue after their session has ended.
    pub tracker: tokio_util::task::TaskTracker,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Identifies the peer. A host presents a token. A guest presents none and is admitted if the `Origin` header
    /// matches a site of the host.
    async fn identify(&self, handshake: &Handshake, host: &Host) -> Result<Identity, Close> {
        match &handshake.token {
            Some(token) => {
                let claims = self.accounts.authenticate(&token.replace('/', ".")).await;
                let claims = claims.map_err(|error| match error {
                    AuthError::Fault(_) => self.try_later(),
                    _ => Close::Unauthenticated,
                })?;
                Ok(Identity::Host { host: claims.host, sid: claims.sid.into() })
            }
            None => {
                let origin = handshake.origin.as_deref().and_then(Origin::parse);
                let allowed = origin.is_some_and(|origin| origin.is_allowed(host.service_domain.as_deref()));
                if allowed { Ok(Identity::Guest) } else { Err(Close::Forbidden) }
            }
        }
    }

    /// Returns the host. Returns an error if the account is deleted or could not be read.
    async fn active_host(&self, id: HostId) -> Result<Arc<Host>, Close> {
        match self.hosts.by_id(id).await {
            Ok(Some(host)) if !host.is_deleted => Ok(host),
            Ok(_) => Err(Close::NotFound),
            Err(error) => {
                tracing::warn!(%error, "failed to read host of socket, closing socket");
                Err(self.try_later())
            }
        }
    }

    /// Returns the encoded response to a `ping`. The response is sent only to the socket that sent the `ping`.
    fn pong(&self) -> Bytes {
        frame::text(&pong_frame(&self.wire.wall_clock(self.clock.now())))
    }

    fn try_later(&self) -> Close {
        Close::TryLater { retry: Duration::from_millis(1_000 + self.rng.below(4_000)) }
    }
}

/// Session of a chat socket or a status socket.
#[derive(Debug)]
pub enum Session {
    /// Session of a chat socket.
    Chat(ChatSession),
    /// Session of a status socket.
    Status(StatusSession),
}

impl Session {
    /// Returns the handle of the socket.
    pub fn connection(&self) -> &Arc<Connection> {
        match self {
            Session::Chat(session) => session.connection(),
            Session::Status(session) => session.connection(),
        }
    }

    /// Handles a text frame.
    ///
    /// # Errors
    /// Returns the close with which the socket must be closed.
    pub fn receive(&mut self, text: &str) -> Result<(), Close> {
        match self {
            Session::Chat(session) => session.receive(text),
            Session::Status(session) => session.receive(text),
        }
    }

    /// Returns whether the session accepts another frame now.
    pub fn read_readiness(&mut self) -> ReadReadiness {
        match self {
            Session::Chat(session) => session.read_readiness(),
            Session::Status(session) => session.read_readiness(),
        }
    }

    /// Executes one step of the pending work. Cancel safe: after the future was dropped, the method can be called
    /// again.
    ///
    /// # Errors
    /// Returns the close with which the socket must be closed.
    pub async fn drive(&mut self) -> Result<(), Close> {
        match self {
            Session::Chat(session) => session.drive().await,
            Session::Status(session) => session.drive().await,
        }
    }

    /// Returns the ping interval and the idle timeout of the socket.
    pub fn heartbeat(&self) -> Heartbeat {
        match self {
            // A host whose network connection fails must be offline within 20 s (SPEC 5), so these intervals are
            // shorter.
            Session::Status(session) if session.connection().side().is_host() => {
                Heartbeat { ping: Duration::from_secs(10), idle_timeout: Duration::from_secs(15) }
            }
            // The ping interval is below half of 60 s, the usual idle timeout of proxies.
            _ => Heartbeat { ping: Duration::from_secs(25), idle_timeout: Duration::from_secs(60) },
        }
    }
}

/// State that determines whether the next frame of a socket may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadReadiness {
    /// The next frame may be read.
    Ready,
    /// No frame may be read until the pending work completes or the window of unacknowledged messages is no longer
    /// full.
    Busy,
    /// No frame may be read before this instant.
    Until(tokio::time::Instant),
}

/// Intervals used to detect an unresponsive peer.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    /// Interval between pings.
    pub ping: Duration,
    /// Idle timeout: the socket is closed after this duration without received data.
    pub idle_timeout: Duration,
}

/// Work that must complete before the session accepts another frame.
type Work = std::pin::Pin<Box<dyn Future<Output = Result<(), Close>> + Send>>;

/// Polls the future in the slot and empties the slot when the future completes. Waits forever if the slot is empty.
async fn run<T>(slot: &mut Option<std::pin::Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match slot {
        Some(work) => {
            let result = work.await;
            *slot = None;
            result
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_from_2_on_asks_for_extras_and_other_text_does_not() {
        for version in ["2", "3", "02", "99999999999999999999999999"] {
            assert!(wants_extras(version), "{version}");
        }
        for version in ["", "0", "1", "-2", "+2", "2.0", " 2", "v2", "two", "２"] {
            assert!(!wants_extras(version), "{version}");
        }
    }
}
