//! Reports to [`Presence`] which hosts have status sockets on this node. [`Watch`] notifies guests of the status of
//! hosts.
//!
//! A report is sent only when the first socket of a host opens or the last one closes. The first socket is reported at
//! once. The absence of sockets is reported after a grace period, because a host who reloads a page is not offline
//! (SPEC 5). If a node shuts down before such a report, the presence entries of its hosts expire with the lease of the
//! node.
//!
//! **Invariant:** a host is reported as offline only after a continuous absence. The close code of the last socket
//! determines the required duration.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::{DashMap, DashSet};
use tokio::time::Instant;

use crate::backend::Unavailable;
use crate::backend::keyed_mutex::KeyedMutex;
use crate::backend::presence::Presence;
use crate::backend::shutdown::Shutdown;
use crate::chat::coalesce::Coalescer;
use crate::chat::hub::{Connection, Hub, Place, Registration};
use crate::domain::{HostUuid, Side};
use crate::protocol::Close;

mod watch;

pub use watch::Watch;

/// Delay before a failed report or a failed read of presence is repeated.
const RETRY: Duration = Duration::from_millis(500);

/// Minimum interval between two `online` notices that this node sends to a host about guests. It does not depend on the
/// number of guests.
const GUEST_INTERVAL: Duration = Duration::from_secs(1);

/// Grace periods: the time for which a host without sockets remains online.
#[derive(Clone, Copy, Debug)]
pub struct Grace {
    /// Applies if the client closed the last socket or its network connection failed.
    pub usual: Duration,
    /// Applies if this node closed the last socket to shut down. The client reconnects to another node after the retry
    /// delay in the close frame.
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
    /// For each host without sockets on this node, the instant from which the host may be reported as offline.
    due: Arc<DashMap<HostUuid, Instant>>,
    locks: KeyedMutex,
    /// Coalesces the notices about guests per host.
    guests: Coalescer<HostUuid>,
    shutdown: Shutdown,
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
    pub(crate) fn new(
        hub: Arc<Hub>,
        presence: Arc<dyn Presence>,
        watch: Watch,
        grace: Grace,
        shutdown: Shutdown,
    ) -> Self {
        let (reported, due, locks) = (Arc::default(), Arc::default(), KeyedMutex::default());
        let guests = Coalescer::new(GUEST_INTERVAL, shutdown.clone());
        Self { hub, presence, watch, grace, reported, due, locks, guests, shutdown }
    }

    /// Notifies the status sockets of a host that a guest is present. The first notice is sent at once, later ones at
    /// most once per second. A notice does not identify the guest, so only the newest waiting notice is sent.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if the notice had to be sent at once and the broker could not be reached.
    pub async fn publish_guest(&self, host: HostUuid, notice: Bytes) -> Result<(), Unavailable> {
        if !self.guests.is_first(host, || notice.clone()) {
            return Ok(());
        }
        let presence = self.presence.clone();
        self.guests.follow(host, move |notice| {
            let presence = presence.clone();
            async move {
                if let Err(error) = presence.greet(host, notice).await {
                    tracing::debug!(%error, %host, "failed to notify host of guest presence");
                }
            }
        });
        self.presence.greet(host, notice).await
    }

    /// Returns the interface that stores which hosts are online.
    pub fn presence(&self) -> &Arc<dyn Presence> {
        &self.presence
    }

    /// Returns the [`Watch`], which notifies the guests of this node of the status of hosts.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Registers a status socket of a host until the returned guard is dropped. If the socket is the host's own,
    /// reports the host as online.
    pub fn register(&self, host: HostUuid, connection: Arc<Connection>) -> StatusGuard {
        let registration = self.hub.register(Place::Status(host), connection.clone());
        if connection.side() == Side::Host {
            self.shutdown.spawn(self.clone().report(host));
        }
        StatusGuard { statuses: self.clone(), host, connection, registration: Some(registration) }
    }

    /// Reports the current presence of a host. Repeats the report until it succeeds or the node stops.
    async fn report(self, host: HostUuid) {
        let _lock = self.locks.lock(host.as_bytes()).await;
        loop {
            let here = self.hub.status_hosts(host) > 0;
            if here == self.reported.contains(&host) {
                return;
            }
            if !here && self.due.get(&host).is_some_and(|due| *due > Instant::now()) {
                // The task that set the due time will report the host.
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
                Err(error) if self.shutdown.is_stopping() => {
                    tracing::warn!(%error, %host, "failed to report host presence before shutdown");
                    return;
                }
                Err(error) => {
                    // This event occurs per host, so its level is debug. An unavailable broker is reported elsewhere.
                    tracing::debug!(%error, %host, "failed to report host presence, retrying");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// Keeps a status socket registered until this guard is dropped.
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
            // If the login has ended, there is no grace period. After any other close there is one, because the host
            // may be loading another page or reconnecting.
            Some(Close::Unauthenticated) => (Duration::ZERO, false),
            Some(Close::Restarting { .. }) => (self.statuses.grace.drained, true),
            _ => (self.statuses.grace.usual, false),
        };
        let (statuses, host, due) = (self.statuses.clone(), self.host, Instant::now() + grace);
        // The due time is set before the socket is unregistered, so that every host without sockets has a due time.
        statuses.due.insert(host, due);
        drop(self.registration.take());
        self.statuses.shutdown.spawn(async move {
            let wait = tokio::time::sleep_until(due);
            if outlives_us {
                // If this node stops, it does not report the host: the presence entries expire with the lease of the
                // node.
                if statuses.shutdown.until_stopping(wait).await.is_none() {
                    return;
                }
            } else {
                wait.await;
            }
            statuses.report(host).await;
        });
    }
}
