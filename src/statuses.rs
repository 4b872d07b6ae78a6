//! Which hosts have sockets on this node, told to [`Presence`]; and what presence says, told to the guests who watch ([`Watch`]).
//!
//! Presence hears only of 0 ↔ 1: the first socket of a host at once, the last one's end after a moment, as a host who reloads
//! his page is not gone (SPEC 5). Of whom a node sends away because it ends, presence may never hear: then his time is that of
//! the node's lease.
//!
//! **Invariant:** presence hears that a host has left only when he has been gone without a break for as long as the end of his
//! last socket allows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::{DashMap, DashSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::Unavailable;
use crate::coalesce::Coalescer;
use crate::domain::{HostUuid, Side};
use crate::hub::{Connection, Hub, Place, Registration};
use crate::presence::Presence;
use crate::protocol::Close;
use crate::turns::Turns;

mod watch;

pub use watch::Watch;

/// How long until presence is told again that was away.
const RETRY: Duration = Duration::from_millis(500);

/// At most one notice that a guest is present goes from this node to a host per interval, however many guests send one.
const GUEST_INTERVAL: Duration = Duration::from_secs(1);

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
    watch: Watch,
    grace: Grace,
    told: Arc<DashSet<HostUuid>>,
    /// When a host without a socket here may be called gone.
    due: Arc<DashMap<HostUuid, Instant>>,
    turns: Turns,
    /// Hosts whom guests of this node have notified of their presence.
    guests: Coalescer<HostUuid>,
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
        watch: Watch,
        grace: Grace,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (told, due, turns) = (Arc::default(), Arc::default(), Turns::default());
        let guests = Coalescer::new(GUEST_INTERVAL, tracker.clone(), stop.clone());
        Self { hub, presence, watch, grace, told, due, turns, guests, tracker, stop }
    }

    /// Notifies a host's status sockets that a guest is present: the first time at once, then once per second with the
    /// newest notice of this node's guests. The notice does not name the guest, so one stands for all.
    ///
    /// # Errors
    /// [`Unavailable`]: the notice was sent now, and failed.
    pub async fn greet(&self, host: HostUuid, notice: Bytes) -> Result<(), Unavailable> {
        if !self.guests.is_first(host, || notice.clone()) {
            return Ok(());
        }
        let presence = self.presence.clone();
        self.guests.follow(host, move |notice| {
            let presence = presence.clone();
            async move {
                if let Err(error) = presence.greet(host, notice).await {
                    tracing::debug!(%error, %host, "failed to notify host of guest");
                }
            }
        });
        self.presence.greet(host, notice).await
    }

    /// The port behind it.
    pub fn presence(&self) -> &Arc<dyn Presence> {
        &self.presence
    }

    /// What guests are told.
    pub fn watch(&self) -> &Watch {
        &self.watch
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
                    tracing::warn!(%error, %host, "gave up reporting host presence");
                    return;
                }
                Err(error) => {
                    // As often as there are hosts: that the broker is away is told once.
                    tracing::debug!(%error, %host, "failed to report host presence, retrying");
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
            drop(self.registration.take());
            self.statuses.watch.forget_unwatched(self.host);
            return;
        }
        let (grace, outlives_us) = match self.connection.ending() {
            // Who logged out is gone at once; who closed a page may be opening the next.
            Some(Close::Unauthenticated) => (Duration::ZERO, false),
            Some(Close::Restarting { .. }) => (self.statuses.grace.drained, true),
            _ => (self.statuses.grace.usual, false),
        };
        let (statuses, host, due) = (self.statuses.clone(), self.host, Instant::now() + grace);
        // Before the socket is gone: nobody may find the host gone without a time.
        statuses.due.insert(host, due);
        drop(self.registration.take());
        self.statuses.tracker.spawn(async move {
            let wait = tokio::time::sleep_until(due);
            if outlives_us {
                // What is left of a node that has ended lasts as long as its lease.
                if statuses.stop.clone().run_until_cancelled_owned(wait).await.is_none() {
                    return;
                }
            } else {
                wait.await;
            }
            statuses.tell(host).await;
        });
    }
}
