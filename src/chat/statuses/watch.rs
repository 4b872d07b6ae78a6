//! Notifies the guests on this node of the status of the hosts that they watch, and notifies hosts of the presence of
//! guests.
//!
//! The status of a host is obtained by reads on behalf of guests, and by change events. Results of reads and events
//! arrive in any order. Their versions determine which status is newer.
//!
//! **Invariant:** when all reads and events have been handled, the last status sent to each guest is the newest one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use futures_util::StreamExt as _;
use tokio::sync::Mutex;

use super::RETRY;
use crate::backend::Unavailable;
use crate::backend::presence::{Presence, PresenceSink, Status};
use crate::backend::shutdown::Shutdown;
use crate::chat::hub::{Connection, Hub, Topic};
use crate::domain::clock::Clock;
use crate::domain::{HostUuid, Side, WireOffset};
use crate::protocol::status::status_frame;
use crate::protocol::{Close, frame};

/// Delay before guests are notified of `offline` after missed events, if the host is still offline then. If a store has
/// lost its presence entries, the nodes that have sockets of the host report them again within this time.
const SETTLING: Duration = Duration::from_secs(5);

/// Maximum number of concurrent reads of presence.
const AT_ONCE: usize = 32;

/// Notifies guests of the status of the hosts that they watch.
#[derive(Clone)]
pub struct Watch {
    hub: Arc<Hub>,
    presence: Arc<dyn Presence>,
    clock: Arc<dyn Clock>,
    /// Offset from UTC of the times in status frames.
    wire: WireOffset,
    settling: Duration,
    /// Newest known status of each watched host.
    known: Arc<DashMap<HostUuid, Status>>,
    /// Whether a comparison has been scheduled and has not started yet.
    is_due: Arc<AtomicBool>,
    one_at_a_time: Arc<Mutex<()>>,
    shutdown: Shutdown,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

impl Watch {
    /// Creates the notifier for the guests of a node. `shown_at` consists of the clock and the UTC offset for the times
    /// in status frames.
    pub fn new(
        hub: Arc<Hub>,
        presence: Arc<dyn Presence>,
        shown_at: (Arc<dyn Clock>, WireOffset),
        shutdown: Shutdown,
    ) -> Self {
        let ((clock, wire), settling) = (shown_at, SETTLING);
        let (known, is_due, one_at_a_time) = (Arc::default(), Arc::default(), Arc::default());
        Self { hub, presence, clock, wire, settling, known, is_due, one_at_a_time, shutdown }
    }

    /// Sends `online` to a guest if the host is online. Sends nothing otherwise.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if the status could not be read.
    pub async fn answer(&self, host: HostUuid, guest: &Connection) -> Result<(), Unavailable> {
        let read = self.presence.status(host).await?;
        // The frame is sent while the map entry is locked. Frames of events are sent under the same lock, so all frames
        // are sent in the order of their versions.
        let mut known = self.known.entry(host).or_default();
        if read.online && read.version > known.version {
            // Only `online` is stored. If `offline` were stored and its event were missed, the comparison after the
            // missed event would not notify the other guests.
            *known = read;
        }
        let is_outdated = read.version < known.version;
        if if is_outdated { known.online } else { read.online } {
            guest.notify(Topic::HostStatus, frame::text(&self.frame(true)));
        }
        Ok(())
    }

    /// Removes the stored status of a host that no guest on this node watches.
    pub(super) fn forget_unwatched(&self, host: HostUuid) {
        self.known.remove_if(&host, |_, _| !self.hub.is_watched(host));
    }

    /// Closes the status sockets of a host that disabled the online status. Guests receive `offline` first.
    pub fn hide(&self, host: HostUuid) {
        self.hub.close_status(host, &self.frame(false), Close::Unavailable);
    }

    fn frame(&self, online: bool) -> bytes::Bytes {
        status_frame(online, &self.wire.wall_clock(self.clock.now()))
    }

    fn notify_guests(&self, host: HostUuid, online: bool) {
        self.hub.status(host, Side::Guest, Topic::HostStatus, &self.frame(online));
    }

    /// Compares the statuses last sent to guests with the current ones, and notifies guests of the differences.
    async fn compare(self) {
        let _one = self.one_at_a_time.lock().await;
        // The flag is cleared before the reads. An event that is missed after this point may be newer than the reads
        // and must schedule another comparison.
        self.is_due.store(false, Ordering::Relaxed);
        let mut hosts: Vec<HostUuid> =
            self.hub.statuses().into_iter().filter(|host| self.hub.is_watched(*host)).collect();
        for is_certain in [false, true] {
            hosts = self.compare_hosts(hosts, is_certain).await;
            if hosts.is_empty() || self.shutdown.until_stopping(tokio::time::sleep(self.settling)).await.is_none() {
                return;
            }
        }
    }

    /// Reads the statuses of hosts and sends `online` to the guests of hosts that are online. If `is_certain` is
    /// `true`, also sends `offline` to the guests of hosts that have gone offline; otherwise returns these hosts.
    async fn compare_hosts(&self, hosts: Vec<HostUuid>, is_certain: bool) -> Vec<HostUuid> {
        futures_util::stream::iter(hosts)
            .map(|host| async move { self.compare_host(host, is_certain).await.then_some(host) })
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    /// Compares the status of one host and notifies its guests. Returns whether the host appears to have gone offline
    /// and its guests have not been notified.
    async fn compare_host(&self, host: HostUuid, is_certain: bool) -> bool {
        let before = self.known.get(&host).map(|known| *known).unwrap_or_default();
        let Some(read) = self.read_status_until_success(host).await else { return false };
        let seems_offline = {
            let mut known = self.known.entry(host).or_default();
            let was_overtaken = *known != before && read.version < known.version;
            let online = if was_overtaken { known.online } else { read.online };
            if online {
                // Some guests may not have received this status yet, so it is sent to all guests.
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

    /// Reads a status and retries until the read succeeds. Returns `None` if this node stops.
    async fn read_status_until_success(&self, host: HostUuid) -> Option<Status> {
        loop {
            match self.presence.status(host).await {
                Ok(status) => return Some(status),
                Err(error) => {
                    tracing::debug!(%error, %host, "failed to read host presence, retrying");
                    self.shutdown.until_stopping(tokio::time::sleep(RETRY)).await?;
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
        // A status with the same version may have been sent to only one guest, in response to a read, so it is sent to
        // all guests.
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
            self.shutdown.spawn(self.clone().compare());
        }
    }
}

#[cfg(test)]
mod tests;
