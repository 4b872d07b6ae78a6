//! Notifies the guests of this node of the status of the hosts that they watch, and hosts of present guests.
//!
//! A guest's status comes from two sources: a read on request, and events of changes. A read and an event may overtake
//! each other; their versions show which is newer.
//!
//! **Invariant:** after all reads and events are handled, the last status sent to each guest is the newest of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use futures_util::StreamExt as _;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::RETRY;
use crate::backend::broker::Unavailable;
use crate::backend::presence::{Presence, PresenceSink, Status};
use crate::chat::hub::{Connection, Hub, Topic};
use crate::domain::clock::Clock;
use crate::domain::{HostUuid, Side, WireOffset};
use crate::protocol::status::status_frame;
use crate::protocol::{Close, frame};

/// How long a host must be offline after events were missed before guests are notified. A store that has lost presence
/// receives it again within this time, from the nodes with the host's sockets.
const SETTLING: Duration = Duration::from_secs(5);

/// Number of concurrent reads.
const AT_ONCE: usize = 32;

/// Notifies watching guests.
#[derive(Clone)]
pub struct Watch {
    hub: Arc<Hub>,
    presence: Arc<dyn Presence>,
    clock: Arc<dyn Clock>,
    /// Offset of the times in status frames.
    wire: WireOffset,
    settling: Duration,
    /// Newest known status of each watched host.
    known: Arc<DashMap<HostUuid, Status>>,
    /// Whether a comparison is scheduled and has not begun.
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
    /// Creates the notifier of a node's connections. `shown_at`: clock and offset of the times in status frames.
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

    /// Sends `online` to a guest if the host is online, else nothing.
    ///
    /// # Errors
    /// [`Unavailable`]: the status cannot be read.
    pub async fn answer(&self, host: HostUuid, guest: &Connection) -> Result<(), Unavailable> {
        let read = self.presence.status(host).await?;
        // Sent under the guard, as for events, so that frames keep the order of the versions.
        let mut known = self.known.entry(host).or_default();
        if read.online && read.version > known.version {
            // Only an `online` status is stored: the other guests must still be notified of `offline` by its event.
            *known = read;
        }
        let is_outdated = read.version < known.version;
        if if is_outdated { known.online } else { read.online } {
            guest.notify(Topic::HostStatus, frame::text(&self.frame(true)));
        }
        Ok(())
    }

    /// Forgets a host without watching guests on this node.
    pub(super) fn forget_unwatched(&self, host: HostUuid) {
        self.known.remove_if(&host, |_, _| !self.hub.is_watched(host));
    }

    /// Closes the status sockets of a host who no longer shows whether they are online. Guests receive `offline` first.
    pub fn hide(&self, host: HostUuid) {
        self.hub.close_status(host, &self.frame(false), Close::Unavailable);
    }

    fn frame(&self, online: bool) -> bytes::Bytes {
        status_frame(online, &self.wire.wall_clock(self.clock.now()))
    }

    fn notify_guests(&self, host: HostUuid, online: bool) {
        self.hub.status(host, Side::Guest, Topic::HostStatus, &self.frame(online));
    }

    /// Compares the last status sent to guests with the current one.
    async fn compare(self) {
        let _one = self.one_at_a_time.lock().await;
        // Events missed from here on may be newer than the reads below, and schedule another comparison.
        self.is_due.store(false, Ordering::Relaxed);
        let mut hosts: Vec<HostUuid> =
            self.hub.statuses().into_iter().filter(|host| self.hub.is_watched(*host)).collect();
        for is_certain in [false, true] {
            hosts = self.compare_hosts(hosts, is_certain).await;
            if hosts.is_empty() || self.stop.run_until_cancelled(tokio::time::sleep(self.settling)).await.is_none() {
                return;
            }
        }
    }

    /// Reads the hosts' statuses and notifies guests of changes, of `offline` only if `is_certain`. Returns the hosts
    /// that seem to be offline otherwise.
    async fn compare_hosts(&self, hosts: Vec<HostUuid>, is_certain: bool) -> Vec<HostUuid> {
        futures_util::stream::iter(hosts)
            .map(|host| async move { self.compare_host(host, is_certain).await.then_some(host) })
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    /// Compares one host. Returns whether the host seems to be offline.
    async fn compare_host(&self, host: HostUuid, is_certain: bool) -> bool {
        let before = self.known.get(&host).map(|known| *known).unwrap_or_default();
        let Some(read) = self.read_status_until_success(host).await else { return false };
        let seems_offline = {
            let mut known = self.known.entry(host).or_default();
            let was_overtaken = *known != before && read.version < known.version;
            let online = if was_overtaken { known.online } else { read.online };
            if online {
                // A guest may not have received the status yet, so it is sent even if others receive it twice.
                *known = Status { online, version: known.version.max(read.version) };
                self.notify_guests(host, true);
            } else if known.online && is_certain {
                *known = Status { online, version: known.version.max(read.version) };
                self.notify_guests(host, false);
            }
            known.online && !online
        };
        self.forget_unwatched(host);
        seems_offline
    }

    /// Reads a status, and retries until it succeeds. `None`: this node stops.
    async fn read_status_until_success(&self, host: HostUuid) -> Option<Status> {
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
        // An equal version may have been read already, but not sent to every watching guest.
        if status.version >= known.version {
            *known = status;
            self.notify_guests(host, status.online);
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
