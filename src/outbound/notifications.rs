//! Notifier: e-mails recipients who were not in a room when a message arrived (SPEC 8).
//!
//! The store records due notifications in the same transaction as the messages
//! ([`archive`](crate::store::MessageRepository::archive), [`append`](crate::store::MessageRepository::append)). A
//! minute later, the notifier decides whether the recipients are still absent, have unread messages and want e-mail. It
//! decides per room for a guest, and for all rooms together for a host.
//!
//! Every node runs a notifier. Each decision is one transaction that locks the rooms and also writes the e-mail to the
//! outbox. Therefore each e-mail is written once and sent at most once.

mod email;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::backend::Unavailable;
use crate::backend::broker::{RoomStates, RoomStatus};
use crate::domain::clock::Clock;
use crate::domain::{ChatroomId, HostId, RoomName, Side};
use crate::outbound::mail::MailWaker;
use crate::outbound::metrics::{Decision, NotificationMetrics, Recipient};
use crate::store::{DueNotification, HostDigestOutcome, NotificationDecision, Store, StoreError};

pub use email::{NotificationWriter, service_domain};

/// Interval at which due notifications are polled.
const INTERVAL: Duration = Duration::from_secs(5);

/// Maximum number of notifications read per round.
const BATCH: u64 = 100;

/// Reason why a round failed. Undecided notifications stay due.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// The broker is unavailable, so the members of the rooms are unknown.
    #[error(transparent)]
    Broker(#[from] Unavailable),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Processes due notifications and queues e-mails to their recipients. Every node can run a notifier.
pub struct Notifier {
    store: Store,
    states: Arc<dyn RoomStates>,
    clock: Arc<dyn Clock>,
    writer: NotificationWriter,
    mail: MailWaker,
    metrics: NotificationMetrics,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifier").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Notifier {
    /// Creates a notifier. `states` reports the members of rooms; `mail` wakes the mail dispatcher.
    pub fn new(
        store: Store,
        states: Arc<dyn RoomStates>,
        clock: Arc<dyn Clock>,
        writer: NotificationWriter,
        mail: MailWaker,
    ) -> Self {
        Self { store, states, clock, writer, mail, metrics: NotificationMetrics::default() }
    }

    /// Processes due notifications until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let more = match self.round().await {
                Ok(looked) => looked == BATCH as usize,
                Err(error) => {
                    tracing::debug!(%error, "failed to process due notifications, retrying");
                    false
                }
            };
            if !more && stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none() {
                return;
            }
        }
    }

    /// Processes the notifications that are due now. Returns the number of decisions.
    ///
    /// # Errors
    /// Returns a [`RoundError`] if the broker or the database fails.
    pub async fn round(&self) -> Result<usize, RoundError> {
        let now = self.clock.now();
        let due = self.store.notifications().due(now, BATCH).await?;
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
            match self.store.notifications().defer_digest(host, &rooms, now).await? {
                Some(postponed) => decided += postponed as usize,
                None => pending.push((host, self.pending_rooms(host, due).await?)),
            }
        }
        // The members are queried after the sequence numbers were read, so that no message is overlooked. If a member
        // leaves and misses a message after this query, that message has a higher sequence number, and the decision
        // detects it.
        let members = self.members(pending.iter().flat_map(|(_, rooms)| rooms).chain(&others)).await?;
        for due in &others {
            let is_present = members.include(due);
            let settled = self.store.notifications().decide(due, is_present, self.clock.now(), &self.writer()).await?;
            decided += usize::from(self.record(due.to, settled));
        }
        for (host, rooms) in pending {
            let rooms: Vec<_> = rooms.into_iter().map(|due| (members.include(&due), due)).collect();
            let outcome =
                self.store.notifications().decide_for_host(host, &rooms, self.clock.now(), &self.writer()).await?;
            if let HostDigestOutcome::Decided(settled) = outcome {
                decided += settled.into_iter().filter(|settled| self.record(Side::Host, *settled)).count();
            }
        }
        Ok(decided)
    }

    /// Returns all rooms with a pending digest for a host. If a node of an earlier release recorded the notification of
    /// a room, the room is included only if it is in `due`.
    async fn pending_rooms(&self, host: HostId, due: Vec<DueNotification>) -> Result<Vec<DueNotification>, StoreError> {
        let mut rooms = self.store.notifications().pending_rooms(host).await?;
        let known: Vec<ChatroomId> = rooms.iter().map(|room| room.chatroom).collect();
        rooms.extend(due.into_iter().filter(|due| !known.contains(&due.chatroom)));
        Ok(rooms)
    }

    async fn members(&self, due: impl Iterator<Item = &DueNotification>) -> Result<RoomMembers, RoundError> {
        let names: Vec<RoomName> = due.filter_map(|due| due.room).collect();
        let found = if names.is_empty() { Vec::new() } else { self.states.status(&names).await? };
        Ok(RoomMembers(names.into_iter().zip(found).filter_map(|(name, status)| Some((name, status?))).collect()))
    }

    fn writer(&self) -> email::DatedWriter<'_> {
        self.writer.at(self.clock.now())
    }

    /// Counts a decision, and wakes the mail dispatcher if an e-mail was written. Returns `false` if nothing was
    /// decided.
    fn record(&self, to: Side, settled: NotificationDecision) -> bool {
        let outcome = match settled {
            NotificationDecision::Mailed => Decision::Mailed,
            NotificationDecision::Asked => Decision::Asked,
            NotificationDecision::Unconsented => Decision::Unconsented,
            NotificationDecision::Present => Decision::Present,
            NotificationDecision::Read => Decision::Read,
            NotificationDecision::Closed => Decision::Closed,
            NotificationDecision::Unwanted => Decision::Unwanted,
            NotificationDecision::Changed => return false,
        };
        let to = if to.is_host() { Recipient::Host } else { Recipient::Guest };
        self.metrics.decisions.get((to, outcome)).increment(1);
        if settled.has_mail() {
            self.mail.wake();
        }
        true
    }
}

/// Numbers of members in rooms, summed over all nodes.
struct RoomMembers(HashMap<RoomName, RoomStatus>);

impl RoomMembers {
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
