//! Which hosts have sockets on this node, told to [`Presence`]; and what presence says, told to the guests who watch.
//!
//! Presence hears only of 0 ↔ 1: the first socket of a host at once, the last one's end after a moment, as a host who reloads
//! his page is not gone (SPEC 5).
//!
//! **Invariant:** presence hears that a host has left only when he has been gone without a break for as long as the end of his
//! last socket allows.

use std::sync::Arc;
use std::time::Duration;

use dashmap::{DashMap, DashSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::domain::{HostUuid, Side, WireOffset};
use crate::hub::{Connection, Hub, Place, Registration};
use crate::presence::{Presence, PresenceSink};
use crate::protocol::Close;
use crate::protocol::status::status_frame;
use crate::turns::Turns;

/// How long until presence is told again that was away.
const RETRY: Duration = Duration::from_millis(500);

/// How long a host may be gone and still be online.
#[derive(Clone, Copy, Debug)]
pub struct Grace {
    /// After he, or his network, has ended his last socket.
    pub usual: Duration,
    /// After this node has, because it goes away: he was told when to come back, to another.
    pub drained: Duration,
}

/// The service.
#[derive(Clone)]
pub struct Statuses {
    hub: Arc<Hub>,
    presence: Arc<dyn Presence>,
    grace: Grace,
    told: Arc<DashSet<HostUuid>>,
    /// When a host without a socket here may be called gone.
    due: Arc<DashMap<HostUuid, Instant>>,
    turns: Turns,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl std::fmt::Debug for Statuses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Statuses").field("grace", &self.grace).field("told", &self.told.len()).finish_non_exhaustive()
    }
}

impl Statuses {
    /// For a node's connections.
    pub fn new(
        hub: Arc<Hub>,
        presence: Arc<dyn Presence>,
        grace: Grace,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self { hub, presence, grace, told: Arc::default(), due: Arc::default(), turns: Turns::default(), tracker, stop }
    }

    /// The port behind it.
    pub fn presence(&self) -> &Arc<dyn Presence> {
        &self.presence
    }

    /// Registers a socket at a host's status, and tells presence if it is the host's own.
    pub fn register(&self, host: HostUuid, connection: Arc<Connection>) -> StatusGuard {
        let registration = self.hub.register(Place::Status(host), connection.clone());
        if connection.side() == Side::Host {
            self.tracker.spawn(self.clone().tell(host));
        }
        StatusGuard { statuses: self.clone(), host, connection, registration: Some(registration) }
    }

    /// Tells presence what is true now, until it has heard it.
    async fn tell(self, host: HostUuid) {
        let _turn = self.turns.take(host.as_bytes()).await;
        loop {
            let here = self.hub.status_hosts(host) > 0;
            if here == self.told.contains(&host) {
                return;
            }
            if !here && self.due.get(&host).is_some_and(|due| *due > Instant::now()) {
                // Whoever set the time comes back then.
                return;
            }
            let told = if here { self.presence.enter(host).await } else { self.presence.leave(host).await };
            match told {
                Ok(()) if here => {
                    self.told.insert(host);
                }
                Ok(()) => {
                    self.told.remove(&host);
                    self.due.remove_if(&host, |_, due| *due <= Instant::now());
                }
                Err(error) if self.stop.is_cancelled() => {
                    tracing::warn!(%error, %host, "presence was not told of a host any more");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, %host, "presence does not know of a host yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// A socket is at a host's status while this lives.
#[derive(Debug)]
pub struct StatusGuard {
    statuses: Statuses,
    host: HostUuid,
    connection: Arc<Connection>,
    registration: Option<Registration>,
}

impl Drop for StatusGuard {
    fn drop(&mut self) {
        if self.connection.side() == Side::Guest {
            return;
        }
        let grace = match self.connection.ending() {
            // Who logged out is gone at once; who closed a page may be opening the next.
            Some(Close::Unauthenticated) => Duration::ZERO,
            Some(Close::Restarting { .. }) => self.statuses.grace.drained,
            _ => self.statuses.grace.usual,
        };
        let (statuses, host, due) = (self.statuses.clone(), self.host, Instant::now() + grace);
        // Before the socket is gone: nobody may find the host gone without a time.
        statuses.due.insert(host, due);
        drop(self.registration.take());
        self.statuses.tracker.spawn(async move {
            tokio::time::sleep_until(due).await;
            statuses.tell(host).await;
        });
    }
}

/// What hears presence: tells the guests who watch, and the hosts who are greeted.
#[derive(Clone)]
pub struct StatusDeliveries {
    /// This node's connections.
    pub hub: Arc<Hub>,
    /// For the time in a status.
    pub clock: Arc<dyn Clock>,
    /// Where that time is shown.
    pub wire: WireOffset,
}

impl PresenceSink for StatusDeliveries {
    fn presence(&self, host: HostUuid, online: bool) {
        let frame = status_frame(online, &self.wire.wall_clock(self.clock.now()));
        self.hub.status(host, Side::Guest, &frame);
    }

    fn greeting(&self, host: HostUuid, frame: &[u8]) {
        self.hub.status(host, Side::Host, frame);
    }

    fn missed(&self) {
        // Guests ask again when they write; the next change is told as ever.
        tracing::debug!("status events may have been missed");
    }
}
