//! Mail dispatcher: sends e-mails from the outbox and applies the limits on sent e-mails.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::smtp::{MailError, MailSender};
use crate::domain::clock::Clock;
use crate::domain::metric::LabelValue as _;
use crate::outbound::metrics::{LimitScope, LimitedMail, MailMetrics, MailOutcome};
use crate::store::{DueMail, MailQuotas, MailScope, OutgoingMail, SendDecision, Store, StoreError};

/// Interval at which the outbox is polled. Wake-ups cause additional polls.
const INTERVAL: Duration = Duration::from_secs(5);

/// Maximum number of e-mails claimed at once.
const BATCH: u64 = 10;

/// Duration of a claim on e-mails. After this time, another node may claim them.
const LEASE: TimeDelta = TimeDelta::minutes(5);

/// Delay before the first retry. Each further retry doubles the delay.
const FIRST_RETRY: TimeDelta = TimeDelta::seconds(5);

/// Maximum delay between retries.
const LAST_RETRY: TimeDelta = TimeDelta::minutes(10);

/// Handle that wakes the mail dispatcher of this node. Clones wake the same dispatcher.
#[derive(Clone, Debug, Default)]
pub struct MailWaker(Arc<Notify>);

impl MailWaker {
    /// Wakes the dispatcher. Must be called after an e-mail was written to the outbox.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Sends due e-mails. Every node can run a dispatcher.
pub struct MailDispatcher {
    store: Store,
    sender: Arc<dyn MailSender>,
    quotas: MailQuotas,
    clock: Arc<dyn Clock>,
    waker: MailWaker,
    metrics: MailMetrics,
}

impl MailDispatcher {
    /// Creates a dispatcher without limits. It sends the e-mails in the outbox of `store` with `sender`.
    pub fn new(store: Store, sender: Arc<dyn MailSender>, clock: Arc<dyn Clock>, waker: MailWaker) -> Self {
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
                    tracing::debug!(%error, "failed to process e-mail queue, retrying");
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

    /// Sends the e-mails that are due now, at most one batch. Returns the number of claimed e-mails.
    ///
    /// # Errors
    /// Returns an error if the database fails. Claimed e-mails become due again when the claim expires.
    pub async fn round(&self) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let due = self.store.mails().claim_due(BATCH, now, now + LEASE).await?;
        for mail in &due {
            self.deliver(mail).await?;
        }
        Ok(due.len())
    }

    async fn deliver(&self, due: &DueMail) -> Result<(), StoreError> {
        let now = self.clock.now();
        if now >= due.mail.expires_at {
            // An e-mail without a recipient is never sent and does not count as expired. It is written so that a
            // request for an unknown address takes as long as a request for a known address.
            if !due.mail.recipient.is_empty() {
                self.count(MailOutcome::Expired);
                tracing::warn!(mail = due.id, subject = due.mail.subject, "e-mail expired, not sent");
            }
            return self.store.mails().discard(due).await;
        }
        let (departure, body) = match self.store.mails().begin_send(due, &self.quotas, now).await? {
            SendDecision::Send { id, body } => (id, body),
            SendDecision::NotWaiting => return Ok(()),
            SendDecision::Limited { scope, until } => return self.delay(due, scope, until).await,
        };
        match self.sender.send(&OutgoingMail { body, ..due.mail.clone() }).await {
            Ok(()) => {
                self.count(MailOutcome::Sent);
                self.store.mails().remove(due.id).await
            }
            Err(MailError::Permanent(why)) => {
                self.count(MailOutcome::Refused);
                tracing::warn!(mail = due.id, subject = due.mail.subject, error = why, "e-mail rejected");
                self.store.mails().remove(due.id).await
            }
            Err(MailError::Unknown(why)) if due.mail.at_most_once => {
                self.count(MailOutcome::Unknown);
                tracing::warn!(
                    mail = due.id,
                    subject = due.mail.subject,
                    error = why,
                    "connection lost while sending e-mail, not retrying"
                );
                self.store.mails().remove(due.id).await
            }
            Err(failure) => {
                if matches!(failure, MailError::Temporary(_)) {
                    self.store.mails().undo_send(departure).await?;
                }
                self.count(MailOutcome::Failed);
                let why = failure.to_string();
                tracing::warn!(
                    mail = due.id,
                    attempts = due.attempts + 1,
                    error = why,
                    "failed to send e-mail, retrying"
                );
                let wait = FIRST_RETRY * 2_i32.saturating_pow(due.attempts.min(10));
                self.store.mails().reschedule(due.id, now + wait.min(LAST_RETRY)).await
            }
        }
    }

    fn count(&self, outcome: MailOutcome) {
        self.metrics.mails.get(outcome).increment(1);
    }

    /// Delays an e-mail that is over a limit, and all other due e-mails under the same limit.
    async fn delay(&self, due: &DueMail, scope: MailScope, until: DateTime<Utc>) -> Result<(), StoreError> {
        let delayed = self.store.mails().delay(due, scope, until, self.clock.now()).await?;
        let (scope, class) = (LimitScope::from(scope), LimitedMail::from(due.mail.kind.class()));
        self.metrics.limited.get((scope, class)).increment(delayed);
        let (scope, class) = (scope.value(), class.value());
        let host = due.mail.host.map(|host| host.0);
        tracing::warn!(mail = due.id, class, scope, host, delayed, %until, "e-mail delayed by rate limit");
        Ok(())
    }
}

#[cfg(test)]
mod tests;
