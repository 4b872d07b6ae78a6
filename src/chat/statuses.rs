//! Reports to [`Presence`] which hosts have sockets on this node. [`Watch`] reports the status of hosts to watching
//! guests.
//!
//! Presence receives only changes between zero and one or more sockets: the first socket of a host at once, the end of
//! the last after a grace period, because a host who reloads a page is not offline (SPEC 5). The hosts of a node that
//! shuts down may never be reported as offline; their entries last as long as the node's lease.
//!
//! **Invariant:** a host is reported as offline only after an uninterrupted absence for the grace period of the last
//! socket's close.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::{DashMap, DashSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::broker::Unavailable;
use crate::backend::keyed_mutex::Turns;
use crate::backend::presence::Presence;
use crate::chat::coalesce::Coalescer;
use crate::chat::hub::{Connection, Hub, Place, Registration};
use crate::domain::{HostUuid, Side};
use crate::protocol::Close;

mod watch;

pub use watch::Watch;

/// Delay before a failed report is retried.
const RETRY: Duration = Duration::from_millis(500);

/// Minimum interval between two notices from this node to a host that a guest is present, however many guests send one.
const GUEST_INTERVAL: Duration = Duration::from_secs(1);

/// Grace periods: how long a host without sockets remains online.
#[derive(Clone, Copy, Debug)]
pub struct Grace {
    /// After the client or its network ended the last socket.
    pub usual: Duration,
    /// After this node closed the last socket to shut down. The client reconnects to another node at the given time.
    pub drained: Duration,
}

/// Tracks the status sockets of this node.
#[derive(Clone)]
pub struct Statuses {
    hub: Arc<Hub>,
    presence: Arc<dyn Presence>,
    watch: Watch,
    grace: Grace,
    reported: Arc<DashSet<HostUuid>>,
    /// Time from which a host without sockets on this node may be reported as offline.
    due: Arc<DashMap<HostUuid, Instant>>,
    turns: Turns,
    /// Coalesces the guests' notices per host.
    guests: Coalescer<HostUuid>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl std::fmt::Debug for Statuses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Statuses")
            .field("grace", &self.grace)
            .field("reported", &self.reported.len())
            .finish_non_exhaustive()
    }
}

impl Statuses {
    /// Creates the tracker of a node's connections.
    pub fn new(
        hub: Arc<Hub>,
        presence: Arc<dyn Presence>,
        watch: Watch,
        grace: Grace,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (reported, due, turns) = (Arc::default(), Arc::default(), Turns::default());
        let guests = Coalescer::new(GUEST_INTERVAL, tracker.clone(), stop.clone());
        Self { hub, presence, watch, grace, reported, due, turns, guests, tracker, stop }
    }

    /// Notifies a host's status sockets that a guest is present: the first time at once, then once per second with the
    /// newest notice of this node's guests. The notice does not name the guest, so one replaces all.
    ///
    /// # Errors
    /// [`Unavailable`]: the notice was due now, and failed.
    pub async fn announce_guest(&self, host: HostUuid, notice: Bytes) -> Result<(), Unavailable> {
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

    /// Returns the presence port.
    pub fn presence(&self) -> &Arc<dyn Presence> {
        &self.presence
    }

    /// Returns the part that notifies guests.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Registers a socket at a host's status. Reports the host to presence if the socket is the host's own.
    pub fn register(&self, host: HostUuid, connection: Arc<Connection>) -> StatusGuard {
        let registration = self.hub.register(Place::Status(host), connection.clone());
        if connection.side() == Side::Host {
            self.tracker.spawn(self.clone().report(host));
        }
        StatusGuard { statuses: self.clone(), host, connection, registration: Some(registration) }
    }

    /// Reports the current state to presence, and retries until it succeeds.
    async fn report(self, host: HostUuid) {
        let _turn = self.turns.take(host.as_bytes()).await;
        loop {
            let here = self.hub.status_hosts(host) > 0;
            if here == self.reported.contains(&host) {
                return;
            }
            if !here && self.due.get(&host).is_some_and(|due| *due > Instant::now()) {
                // The task that set the time reports the host then.
                return;
            }
            let reported = if here { self.presence.enter(host).await } else { self.presence.leave(host).await };
            match reported {
                Ok(()) if here => {
                    self.reported.insert(host);
                }
                Ok(()) => {
                    self.reported.remove(&host);
                    self.due.remove_if(&host, |_, due| *due <= Instant::now());
                }
                Err(error) if self.stop.is_cancelled() => {
                    tracing::warn!(%error, %host, "gave up reporting host presence");
                    return;
                }
                Err(error) => {
                    // Logged per host and therefore at debug level: an unavailable broker is reported elsewhere.
                    tracing::debug!(%error, %host, "failed to report host presence, retrying");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// Keeps a socket registered at a host's status until it is dropped.
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
        let (grace, outlives_us) = match self.connection.pending_close() {
            // A logout takes effect at once. A closed page may be followed by the next.
            Some(Close::Unauthenticated) => (Duration::ZERO, false),
            Some(Close::Restarting { .. }) => (self.statuses.grace.drained, true),
            _ => (self.statuses.grace.usual, false),
        };
        let (statuses, host, due) = (self.statuses.clone(), self.host, Instant::now() + grace);
        // Set before the socket is unregistered, so that a host without sockets always has a time.
        statuses.due.insert(host, due);
        drop(self.registration.take());
        self.statuses.tracker.spawn(async move {
            let wait = tokio::time::sleep_until(due);
            if outlives_us {
                // The entries of a stopped node last as long as its lease.
                if statuses.stop.clone().run_until_cancelled_owned(wait).await.is_none() {
                    return;
                }
            } else {
                wait.await;
            }
            statuses.report(host).await;
        });
    }
}
