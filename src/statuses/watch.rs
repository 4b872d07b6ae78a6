//! What guests of this node are told of the hosts whom they watch, and hosts of the guests.
//!
//! A status reaches a guest on two ways: he asks, or it changes. What is read and what is heard may overtake each other; their
//! versions say which is newer.
//!
//! **Invariant:** after everything that was heard and read, each guest was told last what is newest of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use futures_util::StreamExt as _;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::RETRY;
use crate::broker::Unavailable;
use crate::clock::Clock;
use crate::domain::{HostUuid, Side, WireOffset};
use crate::hub::{Connection, Hub, Topic};
use crate::presence::{Presence, PresenceSink, Status};
use crate::protocol::status::status_frame;
use crate::protocol::{Close, frame};

/// How long a host must be gone who is found gone after something was missed. A store that has lost what it knew is told it again
/// within this time, by the nodes that have him.
const SETTLING: Duration = Duration::from_secs(5);

/// How many statuses are asked for at once.
const AT_ONCE: usize = 32;

/// The service.
#[derive(Clone)]
pub struct Watch {
    hub: Arc<Hub>,
    presence: Arc<dyn Presence>,
    clock: Arc<dyn Clock>,
    /// Where the time in a status is shown.
    wire: WireOffset,
    settling: Duration,
    /// Of each host who is watched here, the newest that is known.
    known: Arc<DashMap<HostUuid, Status>>,
    /// Whether a comparison is to be made that has not begun.
    is_due: Arc<AtomicBool>,
    one_at_a_time: Arc<Mutex<()>>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

impl Watch {
    /// For a node's connections; times are `shown_at` the clock and the offset of the wire.
    pub fn new(
        hub: Arc<Hub>,
        presence: Arc<dyn Presence>,
        shown_at: (Arc<dyn Clock>, WireOffset),
        tracker: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let ((clock, wire), settling) = (shown_at, SETTLING);
        let (known, is_due, one_at_a_time) = (Arc::default(), Arc::default(), Arc::default());
        Self { hub, presence, clock, wire, settling, known, is_due, one_at_a_time, tracker, stop }
    }

    /// Tells a guest that the host is online; nothing if he is not.
    ///
    /// # Errors
    /// [`Unavailable`]: nobody knows.
    pub async fn answer(&self, host: HostUuid, guest: &Connection) -> Result<(), Unavailable> {
        let read = self.presence.status(host).await?;
        // Told under the guard, as is what is heard: the order is that of the versions.
        let mut known = self.known.entry(host).or_default();
        if read.online && read.version > known.version {
            // That he has left is news to the others, too, who hear of it by the event.
            *known = read;
        }
        let is_outdated = read.version < known.version;
        if if is_outdated { known.online } else { read.online } {
            guest.notify(Topic::HostStatus, frame::text(&self.frame(true)));
        }
        Ok(())
    }

    /// Forgets a host whom nobody watches here any more.
    pub(super) fn forget_unwatched(&self, host: HostUuid) {
        self.known.remove_if(&host, |_, _| !self.hub.is_watched(host));
    }

    /// Closes the status sockets of a host who no longer shows whether they are online. Guests receive `offline` first.
    pub fn hide(&self, host: HostUuid) {
        self.hub.end_status(host, &self.frame(false), Close::Unavailable);
    }

    fn frame(&self, online: bool) -> bytes::Bytes {
        status_frame(online, &self.wire.wall_clock(self.clock.now()))
    }

    fn tell(&self, host: HostUuid, online: bool) {
        self.hub.status(host, Side::Guest, Topic::HostStatus, &self.frame(online));
    }

    /// Compares what guests were told with what is true.
    async fn compare(self) {
        let _one = self.one_at_a_time.lock().await;
        // What is missed from now on may be too new for what is read from now on.
        self.is_due.store(false, Ordering::Relaxed);
        let mut hosts: Vec<HostUuid> =
            self.hub.statuses().into_iter().filter(|host| self.hub.is_watched(*host)).collect();
        for is_certain in [false, true] {
            hosts = self.look(hosts, is_certain).await;
            if hosts.is_empty() || self.stop.run_until_cancelled(tokio::time::sleep(self.settling)).await.is_none() {
                return;
            }
        }
    }

    /// Tells what has changed. That somebody has left is told when it is certain; before, those are returned.
    async fn look(&self, hosts: Vec<HostUuid>, is_certain: bool) -> Vec<HostUuid> {
        futures_util::stream::iter(hosts)
            .map(|host| async move { self.look_at(host, is_certain).await.then_some(host) })
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    /// Returns whether he seems to have left.
    async fn look_at(&self, host: HostUuid, is_certain: bool) -> bool {
        let before = self.known.get(&host).map(|known| *known).unwrap_or_default();
        let Some(read) = self.status_at_last(host).await else { return false };
        let seems_gone = {
            let mut known = self.known.entry(host).or_default();
            let was_overtaken = *known != before && read.version < known.version;
            let online = if was_overtaken { known.online } else { read.online };
            if online {
                // Whom nobody told it does not know it: it may be told twice.
                *known = Status { online, version: known.version.max(read.version) };
                self.tell(host, true);
            } else if known.online && is_certain {
                *known = Status { online, version: known.version.max(read.version) };
                self.tell(host, false);
            }
            known.online && !online
        };
        self.forget_unwatched(host);
        seems_gone
    }

    /// `None`: this node ends.
    async fn status_at_last(&self, host: HostUuid) -> Option<Status> {
        loop {
            match self.presence.status(host).await {
                Ok(status) => return Some(status),
                Err(error) => {
                    tracing::debug!(%error, %host, "failed to compare status, retrying");
                    self.stop.run_until_cancelled(tokio::time::sleep(RETRY)).await?;
                }
            }
        }
    }
}

impl PresenceSink for Watch {
    fn presence(&self, host: HostUuid, status: Status) {
        if !self.hub.is_watched(host) {
            return;
        }
        let mut known = self.known.entry(host).or_default();
        // Of the same version may have been read already, but not by all who watch.
        if status.version >= known.version {
            *known = status;
            self.tell(host, status.online);
        }
    }

    fn greeting(&self, host: HostUuid, frame: &[u8]) {
        self.hub.status(host, Side::Host, Topic::GuestOnline, frame);
    }

    fn missed(&self) {
        if !self.is_due.swap(true, Ordering::Relaxed) {
            self.tracker.spawn(self.clone().compare());
        }
    }
}

#[cfg(test)]
mod tests;
