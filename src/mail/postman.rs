//! Brings mails out of the outbox to a mail server.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::smtp::{Failure, Sender};
use crate::clock::Clock;
use crate::store::{DueMail, Store, StoreError};

/// How often the outbox is looked into when nobody says that there is something.
const INTERVAL: Duration = Duration::from_secs(5);

/// How many mails are taken at once.
const BATCH: u64 = 10;

/// How long a node has for the mails it took; then another may send them.
const LEASE: TimeDelta = TimeDelta::minutes(5);

/// How long after the first failure a mail is tried again; each further one doubles it.
const FIRST_RETRY: TimeDelta = TimeDelta::seconds(5);

/// The longest between two tries.
const LAST_RETRY: TimeDelta = TimeDelta::minutes(10);

/// Says that there is a mail.
#[derive(Clone, Debug, Default)]
pub struct Waker(Arc<Notify>);

impl Waker {
    /// There is a mail.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Sends what is due, again and again. Any number of nodes have one each.
pub struct Postman {
    store: Store,
    sender: Arc<dyn Sender>,
    clock: Arc<dyn Clock>,
    waker: Waker,
}

impl Postman {
    /// From the outbox of `store` to `sender`.
    pub fn new(store: Store, sender: Arc<dyn Sender>, clock: Arc<dyn Clock>, waker: Waker) -> Self {
        Self { store, sender, clock, waker }
    }

    /// Until it is told to end.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let more = match self.round().await {
                Ok(sent) => sent == BATCH as usize,
                Err(error) => {
                    tracing::debug!(%error, "mails wait");
                    false
                }
            };
            if !more {
                tokio::select! {
                    () = self.waker.0.notified() => {}
                    () = tokio::time::sleep(INTERVAL) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }

    /// Sends what is due now. Returns how many mails that were.
    ///
    /// # Errors
    /// SQL is away; what was taken is due again later.
    pub async fn round(&self) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let due = self.store.take_due_mails(BATCH, now, now + LEASE).await?;
        for mail in &due {
            self.deliver(mail).await?;
        }
        Ok(due.len())
    }

    async fn deliver(&self, due: &DueMail) -> Result<(), StoreError> {
        let now = self.clock.now();
        if now >= due.mail.expires_at {
            // A mail to nobody is written so that an address which is unknown takes as long as one that is known.
            if !due.mail.recipient.is_empty() {
                metrics::counter!(crate::metric::MAILS, "outcome" => "expired").increment(1);
                tracing::warn!(mail = due.id, subject = due.mail.subject, "a mail could not be sent in time");
            }
            return self.store.remove_mail(due.id).await;
        }
        if due.mail.at_most_once && !self.store.mail_leaves(due).await? {
            return Ok(());
        }
        match self.sender.send(&due.mail).await {
            Ok(()) => {
                metrics::counter!(crate::metric::MAILS, "outcome" => "sent").increment(1);
                self.store.remove_mail(due.id).await
            }
            Err(Failure::Permanent(why)) => {
                metrics::counter!(crate::metric::MAILS, "outcome" => "refused").increment(1);
                tracing::warn!(mail = due.id, subject = due.mail.subject, why, "a mail was refused for good");
                self.store.remove_mail(due.id).await
            }
            Err(Failure::Unknown(why)) if due.mail.at_most_once => {
                metrics::counter!(crate::metric::MAILS, "outcome" => "unknown").increment(1);
                tracing::warn!(mail = due.id, subject = due.mail.subject, why, "nobody knows whether a mail has left");
                self.store.remove_mail(due.id).await
            }
            Err(Failure::Temporary(why) | Failure::Unknown(why)) => {
                metrics::counter!(crate::metric::MAILS, "outcome" => "failed").increment(1);
                tracing::warn!(mail = due.id, attempts = due.attempts + 1, why, "a mail is tried again");
                let wait = FIRST_RETRY * 2_i32.saturating_pow(due.attempts.min(10));
                self.store.put_off_mail(due.id, now + wait.min(LAST_RETRY)).await
            }
        }
    }
}

#[cfg(test)]
mod tests;
