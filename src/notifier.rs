//! The notifier: mails whoever was not in a room when something came (SPEC 8).
//!
//! That somebody is due is noted with the messages themselves ([`Store::archive`], [`Store::append`]). Here it is decided a
//! minute later: is he still away, is there still something that he has not seen, does he want mails? Every node looks; each
//! decision is one transaction under the room's lock, which also writes the mail into the outbox. So a mail is written once,
//! and the outbox lets it leave at most once.

mod letter;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::broker::{Broker, RoomStatus, Unavailable};
use crate::clock::Clock;
use crate::domain::{RoomName, Side};
use crate::mail::Waker;
use crate::store::{DueNotification, Settled, Store, StoreError};

pub use letter::Letters;

/// How often it is looked who is due.
const INTERVAL: Duration = Duration::from_secs(5);

/// How many are looked at in one round.
const BATCH: u64 = 100;

/// Why a round was not finished: who is due stays so.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// Nobody knows who is in a room.
    #[error(transparent)]
    Broker(#[from] Unavailable),
    /// SQL is away.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The service. Any number of nodes have one each.
pub struct Notifier {
    store: Store,
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    letters: Letters,
    mail: Waker,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifier").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Notifier {
    /// Who is in a room `broker` knows; `mail` wakes the postman.
    pub fn new(store: Store, broker: Arc<dyn Broker>, clock: Arc<dyn Clock>, letters: Letters, mail: Waker) -> Self {
        Self { store, broker, clock, letters, mail }
    }

    /// Until it is told to end.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let more = match self.round().await {
                Ok(looked) => looked == BATCH as usize,
                Err(error) => {
                    tracing::debug!(%error, "notifications wait");
                    false
                }
            };
            if !more && stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none() {
                return;
            }
        }
    }

    /// Decides about those who are due now. Returns for how many something was decided.
    ///
    /// # Errors
    /// [`RoundError`].
    pub async fn round(&self) -> Result<usize, RoundError> {
        let due = self.store.due_notifications(self.clock.now(), BATCH).await?;
        let names: Vec<RoomName> = due.iter().filter_map(|due| due.room).collect();
        // Asked after the rooms' numbers were read: who left since, left before what comes next.
        let found = if names.is_empty() { Vec::new() } else { self.broker.status(&names).await? };
        let statuses: HashMap<RoomName, RoomStatus> =
            names.into_iter().zip(found).filter_map(|(name, status)| Some((name, status?))).collect();
        let mut settled = 0;
        for due in &due {
            let status = due.room.and_then(|room| statuses.get(&room));
            let is_present = status.is_some_and(|status| match due.to {
                Side::Host => status.hosts > 0,
                Side::Guest => status.guests > 0,
            });
            settled += usize::from(self.settle(due, is_present).await? != Settled::Changed);
        }
        Ok(settled)
    }

    async fn settle(&self, due: &DueNotification, is_present: bool) -> Result<Settled, StoreError> {
        let now = self.clock.now();
        let write = |digest: &_| self.letters.write(digest, now);
        let settled = self.store.settle_notification(due, is_present, now, &write).await?;
        let outcome = match settled {
            Settled::Mailed => "mailed",
            Settled::Present => "present",
            Settled::Read => "read",
            Settled::Closed => "closed",
            Settled::Unwanted => "unwanted",
            Settled::Changed => return Ok(settled),
        };
        let to = if due.to.is_host() { "host" } else { "guest" };
        metrics::counter!(crate::metric::NOTIFICATIONS, "to" => to, "outcome" => outcome).increment(1);
        if settled == Settled::Mailed {
            self.mail.wake();
        }
        Ok(settled)
    }
}

#[cfg(test)]
mod tests;
