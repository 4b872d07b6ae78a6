//! Notifier: e-mails recipients who were not in a room when a message arrived (SPEC 8).
//!
//! The store records due notifications in the same transaction as the messages ([`Store::archive`], [`Store::append`]).
//! A minute later the notifier decides whether the recipients are still absent, have unread messages and want e-mail:
//! per room for a guest, for all rooms together for a host. Every node runs one. Each decision is one transaction that
//! locks the rooms and also writes the e-mail to the outbox. So an e-mail is written once, and the outbox sends it at
//! most once.

mod letter;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::backend::broker::{Broker, RoomStatus, Unavailable};
use crate::domain::clock::Clock;
use crate::domain::{ChatroomId, HostId, RoomName, Side};
use crate::outbound::mail::Waker;
use crate::outbound::metrics::{Decision, NotificationMetrics, Recipient};
use crate::store::{DueNotification, HostDigestOutcome, Settled, Store, StoreError};

pub use letter::{Letters, service_domain};

/// Polling interval of due notifications.
const INTERVAL: Duration = Duration::from_secs(5);

/// Maximum number of notifications read per round.
const BATCH: u64 = 100;

/// Why a round failed. Undecided notifications stay due.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// The broker is unavailable, so the members of the rooms are unknown.
    #[error(transparent)]
    Broker(#[from] Unavailable),
    /// SQL failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Decides who is e-mailed. Any number of nodes may run one each.
pub struct Notifier {
    store: Store,
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    letters: Letters,
    mail: Waker,
    metrics: NotificationMetrics,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifier").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Notifier {
    /// Creates a notifier. `broker` reports the members of rooms; `mail` wakes the mail dispatcher.
    pub fn new(store: Store, broker: Arc<dyn Broker>, clock: Arc<dyn Clock>, letters: Letters, mail: Waker) -> Self {
        Self { store, broker, clock, letters, mail, metrics: NotificationMetrics::default() }
    }

    /// Decides due notifications until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let more = match self.round().await {
                Ok(looked) => looked == BATCH as usize,
                Err(error) => {
                    tracing::debug!(%error, "failed to collect notifications, retrying");
                    false
                }
            };
            if !more && stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none() {
                return;
            }
        }
    }

    /// Decides the notifications that are due now. Returns the number of decisions.
    ///
    /// # Errors
    /// [`RoundError`].
    pub async fn round(&self) -> Result<usize, RoundError> {
        let now = self.clock.now();
        let due = self.store.due_notifications(now, BATCH).await?;
        let (to_hosts, others): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|due| due.to == Side::Host && due.host.is_some());
        let mut decided = 0;
        let mut hosts: BTreeMap<HostId, Vec<DueNotification>> = BTreeMap::new();
        for due in to_hosts {
            if let Some(host) = due.host {
                hosts.entry(host).or_default().push(due);
            }
        }
        let mut pending = Vec::new();
        for (host, due) in hosts {
            let rooms: Vec<ChatroomId> = due.iter().map(|due| due.chatroom).collect();
            if self.store.defer_digest(host, &rooms, now).await? {
                decided += rooms.len();
            } else {
                pending.push((host, self.pending_rooms(host, due).await?));
            }
        }
        // Queried after the rooms' sequence numbers: a member who left since then left before the next message.
        let members = self.members(pending.iter().flat_map(|(_, rooms)| rooms).chain(&others)).await?;
        for due in &others {
            let is_present = members.include(due);
            let settled = self.store.settle_notification(due, is_present, self.clock.now(), &self.writer()).await?;
            decided += usize::from(self.record(due.to, settled));
        }
        for (host, rooms) in pending {
            let rooms: Vec<_> = rooms.into_iter().map(|due| (members.include(&due), due)).collect();
            let outcome = self.store.settle_host(host, &rooms, self.clock.now(), &self.writer()).await?;
            if let HostDigestOutcome::Settled(settled) = outcome {
                decided += settled.into_iter().filter(|settled| self.record(Side::Host, *settled)).count();
            }
        }
        Ok(decided)
    }

    /// Returns all rooms with a pending digest for a host. Rows written by a node of an earlier release are found only
    /// once they are due.
    async fn pending_rooms(&self, host: HostId, due: Vec<DueNotification>) -> Result<Vec<DueNotification>, StoreError> {
        let mut rooms = self.store.pending_rooms_of(host).await?;
        let known: Vec<ChatroomId> = rooms.iter().map(|room| room.chatroom).collect();
        rooms.extend(due.into_iter().filter(|due| !known.contains(&due.chatroom)));
        Ok(rooms)
    }

    async fn members(&self, due: impl Iterator<Item = &DueNotification>) -> Result<Members, RoundError> {
        let names: Vec<RoomName> = due.filter_map(|due| due.room).collect();
        let found = if names.is_empty() { Vec::new() } else { self.broker.status(&names).await? };
        Ok(Members(names.into_iter().zip(found).filter_map(|(name, status)| Some((name, status?))).collect()))
    }

    fn writer(&self) -> letter::Writer<'_> {
        self.letters.at(self.clock.now())
    }

    /// Counts a decision and wakes the mail dispatcher. Returns `false` if nothing was decided.
    fn record(&self, to: Side, settled: Settled) -> bool {
        let outcome = match settled {
            Settled::Mailed => Decision::Mailed,
            Settled::Asked => Decision::Asked,
            Settled::Unconsented => Decision::Unconsented,
            Settled::Present => Decision::Present,
            Settled::Read => Decision::Read,
            Settled::Closed => Decision::Closed,
            Settled::Unwanted => Decision::Unwanted,
            Settled::Changed => return false,
        };
        let to = if to.is_host() { Recipient::Host } else { Recipient::Guest };
        self.metrics.decisions.get((to, outcome)).increment(1);
        if settled.has_mail() {
            self.mail.wake();
        }
        true
    }
}

/// Members of rooms, counted over all nodes.
struct Members(HashMap<RoomName, RoomStatus>);

impl Members {
    /// Returns whether the recipient is in the room.
    fn include(&self, due: &DueNotification) -> bool {
        let status = due.room.and_then(|room| self.0.get(&room));
        status.is_some_and(|status| match due.to {
            Side::Host => status.hosts > 0,
            Side::Guest => status.guests > 0,
        })
    }
}

#[cfg(test)]
mod tests;
