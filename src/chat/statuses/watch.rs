//! Notifies the guests on this node of the status of the hosts that they watch, and notifies hosts that guests are
//! present.
//!
//! The status of a host comes from reads, which guests request, and from change events. Both may arrive in any order.
//! Their versions determine which is newer.
//!
//! **Invariant:** after all reads and events are handled, the last status sent to each guest is the newest one.

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

/// After missed events, guests are notified of `offline` only if the host is still offline after this time. If a store
/// has lost presence, the nodes with the host's sockets report it again within this time.
const SETTLING: Duration = Duration::from_secs(5);

/// Number of concurrent reads.
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
    /// Whether a comparison is scheduled but has not started yet.
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
    /// Creates the notifier for the connections of a node. `shown_at` contains the clock and the offset of the times in
    /// status frames.
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
        // The frame is sent while the map entry is locked. Frames for events are sent under the same lock, so all
        // frames are sent in the order of their versions.
        let mut known = self.known.entry(host).or_default();
        if read.online && read.version > known.version {
            // `offline` is not stored, because the event that reports it must still notify the other guests.
            *known = read;
        }
        let is_outdated = read.version < known.version;
        if if is_outdated { known.online } else { read.online } {
            guest.notify(Topic::HostStatus, frame::text(&self.frame(true)));
        }
        Ok(())
    }

    /// Removes the known status of a host that no guest on this node watches.
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

    /// Compares the last status sent to guests with the current one.
    async fn compare(self) {
        let _one = self.one_at_a_time.lock().await;
        // Events that are missed from here on may be newer than the reads below. They schedule another comparison.
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

    /// Reads the statuses of hosts and notifies guests of changes. Notifies them of `offline` only if `is_certain` is
    /// `true`. Otherwise returns the hosts that appear to be offline.
    async fn compare_hosts(&self, hosts: Vec<HostUuid>, is_certain: bool) -> Vec<HostUuid> {
        futures_util::stream::iter(hosts)
            .map(|host| async move { self.compare_host(host, is_certain).await.then_some(host) })
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    /// Compares one host. Returns whether the host appears to be offline.
    async fn compare_host(&self, host: HostUuid, is_certain: bool) -> bool {
        let before = self.known.get(&host).map(|known| *known).unwrap_or_default();
        let Some(read) = self.read_status_until_success(host).await else { return false };
        let seems_offline = {
            let mut known = self.known.entry(host).or_default();
            let was_overtaken = *known != before && read.version < known.version;
            let online = if was_overtaken { known.online } else { read.online };
            if online {
                // The status is sent even if guests may receive it twice, because some might not have received it yet.
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

    /// Reads a status, and retries until the read succeeds. Returns `None` if this node stops.
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
        // An equal version may have been read for one guest, but not sent to the others.
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
