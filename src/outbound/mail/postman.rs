//! Dispatcher: sends e-mails from the outbox, within the limits on sent e-mails.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::smtp::{Failure, Sender};
use crate::domain::clock::Clock;
use crate::domain::metric::LabelValue as _;
use crate::outbound::metrics::{LimitScope, LimitedMail, MailMetrics, MailOutcome};
use crate::store::{Departure, DueMail, MailQuotas, MailScope, OutgoingMail, Store, StoreError};

/// Polling interval of the outbox, in addition to wake-ups.
const INTERVAL: Duration = Duration::from_secs(5);

/// Number of e-mails taken at once.
const BATCH: u64 = 10;

/// Lease on taken e-mails. After it, another node may send them.
const LEASE: TimeDelta = TimeDelta::minutes(5);

/// Delay before the first retry; doubled at each further one.
const FIRST_RETRY: TimeDelta = TimeDelta::seconds(5);

/// Maximum delay between retries.
const LAST_RETRY: TimeDelta = TimeDelta::minutes(10);

/// Wakes the dispatcher when an e-mail was written. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Waker(Arc<Notify>);

impl Waker {
    /// Wakes the dispatcher of this node.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Sends the e-mails that are due. Any number of nodes may run one each.
pub struct Postman {
    store: Store,
    sender: Arc<dyn Sender>,
    quotas: MailQuotas,
    clock: Arc<dyn Clock>,
    waker: Waker,
    metrics: MailMetrics,
}

impl Postman {
    /// Creates a dispatcher from the outbox of `store` to `sender`, without limits.
    pub fn new(store: Store, sender: Arc<dyn Sender>, clock: Arc<dyn Clock>, waker: Waker) -> Self {
        Self { store, sender, quotas: MailQuotas::default(), clock, waker, metrics: MailMetrics::default() }
    }

    /// Sets the limits on sent e-mails.
    #[must_use]
    pub fn with_quotas(mut self, quotas: MailQuotas) -> Self {
        self.quotas = quotas;
        self
    }

    /// Sends e-mails until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let more = match self.round().await {
                Ok(sent) => sent == BATCH as usize,
                Err(error) => {
                    tracing::debug!(%error, "failed to read e-mail queue, retrying");
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

    /// Sends the e-mails that are due now, at most one batch. Returns how many were taken.
    ///
    /// # Errors
    /// SQL failed; e-mails that were taken become due again when their lease ends.
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
            // An e-mail without a recipient is written so that an unknown address takes as long as a known one.
            if !due.mail.recipient.is_empty() {
                self.count(MailOutcome::Expired);
                tracing::warn!(mail = due.id, subject = due.mail.subject, "e-mail expired before it could be sent");
            }
            return self.store.drop_mail(due).await;
        }
        let (departure, body) = match self.store.depart(due, &self.quotas, now).await? {
            Departure::Leaves { id, body } => (id, body),
            Departure::Gone => return Ok(()),
            Departure::Limited { scope, until } => return self.delay(due, scope, until).await,
        };
        match self.sender.send(&OutgoingMail { body, ..due.mail.clone() }).await {
            Ok(()) => {
                self.count(MailOutcome::Sent);
                self.store.remove_mail(due.id).await
            }
            Err(Failure::Permanent(why)) => {
                self.count(MailOutcome::Refused);
                tracing::warn!(mail = due.id, subject = due.mail.subject, why, "e-mail rejected");
                self.store.remove_mail(due.id).await
            }
            Err(Failure::Unknown(why)) if due.mail.at_most_once => {
                self.count(MailOutcome::Unknown);
                tracing::warn!(mail = due.id, subject = due.mail.subject, why, "e-mail may or may not have been sent");
                self.store.remove_mail(due.id).await
            }
            Err(failure) => {
                if matches!(failure, Failure::Temporary(_)) {
                    self.store.undo_departure(departure).await?;
                }
                self.count(MailOutcome::Failed);
                let why = failure.to_string();
                tracing::warn!(mail = due.id, attempts = due.attempts + 1, why, "failed to send e-mail, retrying");
                let wait = FIRST_RETRY * 2_i32.saturating_pow(due.attempts.min(10));
                self.store.put_off_mail(due.id, now + wait.min(LAST_RETRY)).await
            }
        }
    }

    fn count(&self, outcome: MailOutcome) {
        self.metrics.mails.get(outcome).increment(1);
    }

    /// Delays an e-mail over a limit, together with others that the same limit applies to.
    async fn delay(&self, due: &DueMail, scope: MailScope, until: DateTime<Utc>) -> Result<(), StoreError> {
        let delayed = self.store.delay_mails(due, scope, until, self.clock.now()).await?;
        let (scope, class) = (LimitScope::from(scope), LimitedMail::from(due.mail.kind.class()));
        self.metrics.limited.get((scope, class)).increment(delayed);
        let (scope, class) = (scope.value(), class.value());
        let host = due.mail.host.map(|host| host.0);
        tracing::warn!(mail = due.id, class, scope, host, delayed, %until, "e-mail rate limited, delayed");
        Ok(())
    }
}

#[cfg(test)]
mod tests;
