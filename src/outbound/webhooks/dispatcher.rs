//! Webhook dispatcher: sends events to their receivers.
//!
//! Only the node that holds the lease of a receiver ([`acquire_lease`](crate::store::WebhookRepository::acquire_lease))
//! sends events to it. During one delivery run, several rooms are served concurrently, and the events of a room are
//! sent in order. The first failure ends the run. If the run has delivered no event, it also pauses the receiver. An
//! unavailable or slow receiver therefore does not delay other receivers.
//!
//! An event is marked as delivered after it was sent. If the node crashes in between, the event is sent again with the
//! same id. Delivery is therefore at least once.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt as _, stream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::EventSender;
use super::client::REQUEST_TIMEOUT;
use crate::domain::HostId;
use crate::domain::Rng;
use crate::domain::metric::LabelValue as _;
use crate::outbound::metrics::{WebhookMetrics, WebhookOutcome};
use crate::store::{DeliveryLease, DueWebhook, HostWebhook, Store, StoreError, WebhookEvent};

/// Interval at which due events are polled.
const INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of receivers that a node serves concurrently.
const MAX_RECEIVERS: usize = 128;

/// Maximum number of rooms served concurrently per receiver.
const MAX_ROOMS: usize = 4;

/// Maximum number of events read at once.
const BATCH: u64 = 50;

/// Duration of a lease on a receiver, and minimum remaining duration that is needed to send and mark one event. The
/// lease is renewed while events are sent.
const LEASE: TimeDelta = TimeDelta::seconds(20);
const MIN_LEASE: TimeDelta = TimeDelta::seconds(REQUEST_TIMEOUT.as_secs() as i64 + 3);

/// Time after which a delivery run sends no further events. The limit prevents one receiver from blocking the others.
const TURN: TimeDelta = TimeDelta::seconds(30);

/// Delay before the first retry of an event, growth factor of the delay, and maximum delay.
const FIRST_RETRY: TimeDelta = TimeDelta::seconds(5);
const RETRY_FACTOR: i32 = 4;
const LAST_RETRY: TimeDelta = TimeDelta::hours(6);

/// Pause of a receiver after the first failed delivery run, and maximum pause. A run has failed if an event failed and
/// none was delivered. Each further consecutive failed run doubles the pause.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(5);
const LAST_PAUSE: TimeDelta = TimeDelta::minutes(5);

/// Maximum time until the next delivery run. A later time was written by a clock that was ahead, and is ignored.
const LATEST_TURN: TimeDelta = TimeDelta::minutes(10);

/// Timeout for events that are being sent when the node stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// HTTP status of a receiver that no longer exists (410 Gone).
const GONE: u16 = 410;

/// Sends due events. Every node can run a dispatcher.
#[derive(Clone, Debug)]
pub struct WebhookDispatcher {
    store: Store,
    sender: EventSender,
    rng: Rng,
    metrics: Arc<WebhookMetrics>,
}

impl WebhookDispatcher {
    /// Creates a dispatcher for the events in `store`.
    pub fn new(store: Store, sender: EventSender, rng: Rng) -> Self {
        Self { store, sender, rng, metrics: Arc::default() }
    }

    /// Sends due events until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut turns: JoinSet<HostId> = JoinSet::new();
        let mut served: HashSet<HostId> = HashSet::new();
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = turns.join_next() => match ended {
                    Ok(host) => drop(served.remove(&host)),
                    Err(error) => {
                        tracing::error!(%error, "webhook worker failed");
                        // The host of the failed task is unknown, so all hosts are removed. Delivery runs that are
                        // still active are protected by their leases in the database.
                        served.clear();
                    }
                },
                _ = ticks.tick() => match self.due().await {
                    Ok(due) => {
                        for due in due {
                            if turns.len() < MAX_RECEIVERS && served.insert(due.host) {
                                let (dispatcher, stop) = (self.clone(), stop.clone());
                                turns.spawn(async move {
                                    dispatcher.serve_and_log(due, &stop).await;
                                    due.host
                                });
                            }
                        }
                    }
                    Err(error) => tracing::debug!(%error, "failed to read webhook queue, retrying"),
                },
            }
        }
        while turns.join_next().await.is_some() {}
    }

    /// Serves each due receiver once. Returns the number of these receivers.
    ///
    /// # Errors
    /// Returns an error if the database fails. Events that were not marked as delivered are sent again later.
    pub async fn round(&self) -> Result<usize, StoreError> {
        let (due, stop) = (self.due().await?, CancellationToken::new());
        let count = due.len();
        let turns = stream::iter(due).map(|due| self.serve(due, &stop)).buffer_unordered(MAX_RECEIVERS);
        let ended: Vec<Result<(), StoreError>> = turns.collect().await;
        ended.into_iter().collect::<Result<Vec<()>, StoreError>>()?;
        Ok(count)
    }

    /// Returns the due webhooks, starting with the one that has been due longest.
    async fn due(&self) -> Result<Vec<DueWebhook>, StoreError> {
        let now = self.sender.now();
        let mut due = self.store.webhooks().due(now).await?;
        let oldest = due.iter().map(|due| due.since).min().unwrap_or(now);
        self.metrics.lag.set((now - oldest).as_seconds_f64());
        due.retain(|due| due.next_turn_at <= now || due.next_turn_at > now + LATEST_TURN);
        due.sort_unstable_by_key(|due| due.since.max(due.next_turn_at));
        Ok(due)
    }

    async fn serve_and_log(&self, due: DueWebhook, stop: &CancellationToken) {
        if let Err(error) = self.serve(due, stop).await {
            tracing::debug!(%error, host = due.host.0, "failed to process webhook queue of host, retrying");
        }
    }

    /// Serves one receiver: acquires its lease, sends its events, and releases the lease.
    async fn serve(&self, due: DueWebhook, stop: &CancellationToken) -> Result<(), StoreError> {
        let began = self.sender.now();
        let Some(turn) = self.store.webhooks().acquire_lease(&due, began + LEASE).await? else { return Ok(()) };
        let failed_before = turn.failed_turns;
        let run = DeliveryRun {
            dispatcher: self,
            turn: tokio::sync::Mutex::new(turn),
            began,
            stop,
            has_delivered: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            lost_lease: AtomicBool::new(false),
        };
        let sent = run.send_due(due.host).await;
        let (has_delivered, has_failed) = (run.has_delivered.load(Relaxed), run.has_failed.load(Relaxed));
        let (turn, now) = (run.turn.into_inner(), self.sender.now());
        let (next_turn_at, failed_turns) = match (has_delivered, has_failed) {
            (true, _) => (now, 0),
            (false, true) => (now + self.jitter(pause(failed_before)), failed_before.saturating_add(1)),
            (false, false) => (now, failed_before),
        };
        let host = due.host.0;
        if has_delivered && failed_before >= WARN_AFTER {
            tracing::info!(host, "webhook receiver available");
        } else if !has_delivered && has_failed && should_warn(failed_turns) {
            tracing::warn!(host, failed_runs = failed_turns, "webhook receiver unavailable");
        }
        self.store.webhooks().release_lease(&turn, next_turn_at, failed_turns).await.and(sent)
    }

    /// Returns `span` with a jitter of ±20 %, so that events that failed together are not retried together.
    fn jitter(&self, span: TimeDelta) -> TimeDelta {
        let percent = 80 + i32::try_from(self.rng.below(41)).unwrap_or_default();
        span * percent / 100
    }
}

/// Returns the delay until the next attempt at an event. `attempts` is the number of failed attempts before the current
/// one.
fn retry(attempts: u32) -> TimeDelta {
    (FIRST_RETRY * RETRY_FACTOR.saturating_pow(attempts.min(8))).min(LAST_RETRY)
}

/// Returns the pause of a receiver after a failed delivery run that follows `failed_turns` consecutive failed runs.
fn pause(failed_turns: u32) -> TimeDelta {
    (FIRST_PAUSE * 2_i32.saturating_pow(failed_turns.min(8))).min(LAST_PAUSE)
}

/// Number of consecutive failed delivery runs at which the first warning is logged. The warning is repeated at every
/// twelfth run, about once per hour.
const WARN_AFTER: u32 = 3;

fn should_warn(failed_turns: u32) -> bool {
    failed_turns == WARN_AFTER || failed_turns.is_multiple_of(12)
}

/// Delivery run of one receiver.
struct DeliveryRun<'a> {
    dispatcher: &'a WebhookDispatcher,
    turn: tokio::sync::Mutex<DeliveryLease>,
    began: DateTime<Utc>,
    stop: &'a CancellationToken,
    has_delivered: AtomicBool,
    has_failed: AtomicBool,
    /// Whether another node holds the lease or the host has changed the webhook.
    lost_lease: AtomicBool,
}

impl DeliveryRun<'_> {
    /// Returns whether this run must stop sending events.
    fn is_over(&self) -> bool {
        self.has_failed.load(Relaxed)
            || self.lost_lease.load(Relaxed)
            || self.stop.is_cancelled()
            || self.dispatcher.sender.now() - self.began > TURN
    }

    async fn send_due(&self, host: HostId) -> Result<(), StoreError> {
        let WebhookDispatcher { store, sender, .. } = self.dispatcher;
        while !self.is_over() {
            let due = store.webhooks().due_events(host, sender.now(), BATCH).await?;
            if due.is_empty() {
                break;
            }
            let mut rooms: BTreeMap<i64, Vec<WebhookEvent>> = BTreeMap::new();
            for event in due {
                rooms.entry(event.chatroom.0).or_default().push(event);
            }
            let rooms = stream::iter(rooms.into_values()).map(|events| self.send_in_order(events));
            let ended: Vec<Result<(), StoreError>> = rooms.buffer_unordered(MAX_ROOMS).collect().await;
            ended.into_iter().collect::<Result<Vec<()>, StoreError>>()?;
        }
        Ok(())
    }

    async fn send_in_order(&self, events: Vec<WebhookEvent>) -> Result<(), StoreError> {
        for event in &events {
            if self.is_over() {
                break;
            }
            self.send(event).await?;
        }
        Ok(())
    }

    /// Returns the webhook. Renews the lease first if less than [`MIN_LEASE`] of it remains. Returns `None` if the
    /// lease was lost.
    async fn webhook(&self) -> Result<Option<HostWebhook>, StoreError> {
        let (store, now) = (&self.dispatcher.store, self.dispatcher.sender.now());
        let mut turn = self.turn.lock().await;
        if turn.ends_at - now < MIN_LEASE {
            match store.webhooks().renew_lease(&turn, now + LEASE).await? {
                Some(longer) => *turn = longer,
                None => return Ok(None),
            }
        }
        Ok(Some(turn.webhook.clone()))
    }

    async fn send(&self, event: &WebhookEvent) -> Result<(), StoreError> {
        let WebhookDispatcher { store, sender, metrics, .. } = self.dispatcher;
        let Some(webhook) = self.webhook().await? else {
            self.lost_lease.store(true, Relaxed);
            return Ok(());
        };
        let late = async {
            self.stop.cancelled().await;
            tokio::time::sleep(SHUTDOWN_GRACE).await;
        };
        let attempt = tokio::select! {
            attempt = sender.send(&webhook, &event.event_id, &event.body) => attempt,
            // The node stops before the receiver has responded. The event is not marked as delivered, so another node
            // sends it again.
            () = late => return Ok(()),
        };
        metrics.duration.record(Duration::from_millis(attempt.millis).as_secs_f64());
        if attempt.problem.is_none() {
            metrics.events.get(WebhookOutcome::Delivered).increment(1);
            store.webhooks().record_delivery(event.id, &attempt).await?;
            self.has_delivered.store(true, Relaxed);
            return Ok(());
        }
        self.has_failed.store(true, Relaxed);
        let again = attempt.at + self.dispatcher.jitter(retry(event.attempts));
        let again = (again < event.ends_at).then_some(again);
        let outcome = if again.is_some() { WebhookOutcome::Failed } else { WebhookOutcome::GivenUp };
        metrics.events.get(outcome).increment(1);
        let outcome = outcome.value();
        tracing::debug!(host = webhook.host.0, event = event.event_id, outcome, "failed to deliver webhook event");
        store.webhooks().record_failure(event.id, &attempt, again).await?;
        if attempt.status == Some(GONE) {
            tracing::info!(host = webhook.host.0, "webhook disabled: receiver returned 410");
            store.webhooks().disable(&webhook, attempt.at).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
