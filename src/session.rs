//! Sessions: what a connection knows after it was admitted. Frames in, frames out.
//!
//! A [`ChatSession`] or [`StatusSession`] is made by [`Sessions`] from a [`Handshake`]; who is not admitted gets a [`Refusal`], and
//! no session. The task that owns the socket hands text to `receive`, lets `drive` run, and sends what is in the connection's outbox.
//!
//! **Invariant:** no socket type is named here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::accounts::{Accounts, AuthError};
use crate::broker::Broker;
use crate::clock::{Chance, Clock};
use crate::domain::{Host, HostId, Origin, WireOffset};
use crate::history::History;
use crate::hosts::Hosts;
use crate::hub::{Connection, Hub, Identity};
use crate::limits::Budgets;
use crate::protocol::chat::pong_frame;
use crate::protocol::{Close, frame};
use crate::relay::{Members, Relay};
use crate::rooms::Rooms;
use crate::statuses::Statuses;

mod chat;
mod status;
mod throttle;

pub use chat::ChatSession;
pub use status::StatusSession;
pub use throttle::Rate;
pub(crate) use throttle::Throttle;

/// What a client says of itself when it connects.
#[derive(Clone, Debug, Default)]
pub struct Handshake {
    /// The `Origin` header.
    pub origin: Option<String>,
    /// The `token` of the query, decoded. The real admin page writes slashes for its dots (SPEC 4).
    pub token: Option<String>,
    /// The `after` of the query.
    pub after: Option<String>,
    /// Whether the `v` of the query asks for the frames of later versions ([`wants_extras`]), on either kind of socket.
    pub extras: bool,
}

/// Whether a `v` asks for the frames that were added since the first version (SPEC 4): 2 or any later version. What is not a
/// number is a client of the first version.
pub fn wants_extras(version: &str) -> bool {
    let is_number = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    is_number && version.parse::<u64>().unwrap_or(u64::MAX) >= 2
}

/// A connection that was not admitted: a last frame, perhaps, and a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Sent before the close.
    pub frame: Option<Bytes>,
    /// The code.
    pub close: Close,
}

impl From<Close> for Refusal {
    fn from(close: Close) -> Self {
        Self { frame: None, close }
    }
}

/// How much a session may take.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// Sockets of one side in a room, on all nodes; `None` for any number.
    pub room_sockets: Option<u32>,
    /// Messages of a socket; `None` for as fast as it goes.
    pub rate: Option<Rate>,
}

/// What sessions are made of.
pub struct Sessions {
    /// Who is a host.
    pub accounts: Accounts,
    /// Hosts at hand.
    pub hosts: Hosts,
    /// Rooms.
    pub rooms: Rooms,
    /// Their messages.
    pub history: History,
    /// Where messages go in.
    pub relay: Relay,
    /// Where notices go in.
    pub broker: Arc<dyn Broker>,
    /// Who is in which room.
    pub members: Members,
    /// This node's connections.
    pub hub: Arc<Hub>,
    /// Who is online.
    pub statuses: Statuses,
    /// The present.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub chance: Chance,
    /// Where the clients' clocks hang.
    pub wire: WireOffset,
    /// How much a session may take.
    pub limits: SessionLimits,
    /// Bytes per host and day.
    pub budgets: Budgets,
    /// What a session leaves behind runs here.
    pub tracker: tokio_util::task::TaskTracker,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Who is connecting: a guest from one of the host's sites, or a host by his token.
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

    /// The host, if he is there for visitors.
    async fn active_host(&self, id: HostId) -> Result<Arc<Host>, Close> {
        match self.hosts.by_id(id).await {
            Ok(Some(host)) if !host.is_deleted => Ok(host),
            Ok(_) => Err(Close::NotFound),
            Err(error) => {
                tracing::warn!(%error, "failed to authenticate socket, client retries later");
                Err(self.try_later())
            }
        }
    }

    /// The framed response to a `ping`. It is sent to one socket only and calls no store.
    fn pong(&self) -> Bytes {
        frame::text(&pong_frame(&self.wire.wall_clock(self.clock.now())))
    }

    fn try_later(&self) -> Close {
        Close::TryLater { retry: Duration::from_millis(1_000 + self.chance.below(4_000)) }
    }
}

/// A session of either kind.
#[derive(Debug)]
pub enum Session {
    /// On the chat socket.
    Chat(ChatSession),
    /// On the status socket.
    Status(StatusSession),
}

impl Session {
    /// Its handle.
    pub fn connection(&self) -> &Arc<Connection> {
        match self {
            Session::Chat(session) => session.connection(),
            Session::Status(session) => session.connection(),
        }
    }

    /// Takes a text frame.
    ///
    /// # Errors
    /// The end of the socket.
    pub fn receive(&mut self, text: &str) -> Result<(), Close> {
        match self {
            Session::Chat(session) => session.receive(text),
            Session::Status(session) => session.receive(text),
        }
    }

    /// Whether it takes another frame now; if only time is in the way, until when.
    pub fn appetite(&mut self) -> Appetite {
        match self {
            Session::Chat(session) => session.appetite(),
            Session::Status(session) => session.appetite(),
        }
    }

    /// Does what is to be done; returns when something was. May be dropped and called again.
    ///
    /// # Errors
    /// The end of the socket.
    pub async fn drive(&mut self) -> Result<(), Close> {
        match self {
            Session::Chat(session) => session.drive().await,
            Session::Status(session) => session.drive().await,
        }
    }

    /// How often its socket is pinged, and how long it may be silent.
    pub fn heartbeat(&self) -> Heartbeat {
        match self {
            // SPEC 5: a host whose network was cut is offline within 20 s.
            Session::Status(session) if session.connection().side().is_host() => {
                Heartbeat { ping: Duration::from_secs(10), silence: Duration::from_secs(15) }
            }
            // Half of the usual proxy's 60 s.
            _ => Heartbeat { ping: Duration::from_secs(25), silence: Duration::from_secs(60) },
        }
    }
}

/// Whether a session takes a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appetite {
    /// Yes.
    Hungry,
    /// Not before its work or its window says so.
    Busy,
    /// Not before then.
    Until(tokio::time::Instant),
}

/// How a silent peer is found out.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    /// Pinged this often.
    pub ping: Duration,
    /// Closed when nothing came for so long.
    pub silence: Duration,
}

/// Something a session waits for before it takes the next frame.
type Work = std::pin::Pin<Box<dyn Future<Output = Result<(), Close>> + Send>>;

/// Polls what is there; for ever if nothing is.
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
