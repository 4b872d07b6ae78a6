//! Webhook dispatcher: sends events to their receivers.
//!
//! A receiver is served by one node at a time, which holds its lease ([`Store::take_turn`]). During one turn several
//! rooms are served concurrently, and the events of a room in order. The first failure ends the turn, so that an
//! unavailable or slow receiver is paused and delays no others. An event is marked as delivered after it was sent, so a
//! node that crashes in between sends it again: at least once, with the same id.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt as _, stream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Sender;
use super::wire::TIME_LIMIT;
use crate::domain::HostId;
use crate::domain::clock::Chance;
use crate::domain::metric::LabelValue as _;
use crate::outbound::metrics::{WebhookMetrics, WebhookOutcome};
use crate::store::{DueWebhook, Store, StoreError, Turn, Webhook, WebhookEvent};

/// Polling interval of due events.
const INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of receivers that a node serves concurrently.
const TURNS: usize = 128;

/// Maximum number of rooms served concurrently per receiver.
const ROOMS_AT_ONCE: usize = 4;

/// Maximum number of events read at once.
const BATCH: u64 = 50;

/// Lease on a receiver, renewed while events are sent; and the minimum remaining time of the lease to send and mark one
/// event.
const LEASE: TimeDelta = TimeDelta::seconds(20);
const LEFT: TimeDelta = TimeDelta::seconds(TIME_LIMIT.as_secs() as i64 + 3);

/// Maximum duration of a turn, so that other receivers are served.
const TURN: TimeDelta = TimeDelta::seconds(30);

/// Delay before the first retry of an event, factor for each further one, and maximum.
const FIRST_RETRY: TimeDelta = TimeDelta::seconds(5);
const RETRY_FACTOR: i32 = 4;
const LAST_RETRY: TimeDelta = TimeDelta::hours(6);

/// Pause of a receiver after a turn without a delivered event, doubled after each further one, and maximum.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(5);
const LAST_PAUSE: TimeDelta = TimeDelta::minutes(5);

/// No turn is scheduled further ahead than this: a later time was written by a clock that was ahead.
const LATEST_TURN: TimeDelta = TimeDelta::minutes(10);

/// Time limit for events in flight when the node stops.
const GRACE: Duration = Duration::from_secs(3);

/// HTTP status of a receiver that no longer exists (410 Gone).
const GONE: u16 = 410;

/// Sends due events. Any number of nodes may run one each.
#[derive(Clone, Debug)]
pub struct Courier {
    store: Store,
    sender: Sender,
    chance: Chance,
    metrics: Arc<WebhookMetrics>,
}

impl Courier {
    /// Creates a dispatcher for the events in `store`.
    pub fn new(store: Store, sender: Sender, chance: Chance) -> Self {
        Self { store, sender, chance, metrics: Arc::default() }
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
                        // The host of the failed task is unknown. A turn that is still running holds its lease in SQL.
                        served.clear();
                    }
                },
                _ = ticks.tick() => match self.due().await {
                    Ok(due) => {
                        for due in due {
                            if turns.len() < TURNS && served.insert(due.host) {
                                let (courier, stop) = (self.clone(), stop.clone());
                                turns.spawn(async move {
                                    courier.serve_or_tell(due, &stop).await;
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

    /// Serves all receivers that are due once. Returns how many.
    ///
    /// # Errors
    /// SQL failed; events that were not marked as delivered are sent again later.
    pub async fn round(&self) -> Result<usize, StoreError> {
        let (due, stop) = (self.due().await?, CancellationToken::new());
        let count = due.len();
        let turns = stream::iter(due).map(|due| self.serve(due, &stop)).buffer_unordered(TURNS);
        let ended: Vec<Result<(), StoreError>> = turns.collect().await;
        ended.into_iter().collect::<Result<Vec<()>, StoreError>>()?;
        Ok(count)
    }

    /// Returns the webhooks that are due, the longest waiting first.
    async fn due(&self) -> Result<Vec<DueWebhook>, StoreError> {
        let now = self.sender.now();
        let mut due = self.store.due_webhooks(now).await?;
        let oldest = due.iter().map(|due| due.since).min().unwrap_or(now);
        self.metrics.lag.set((now - oldest).as_seconds_f64());
        due.retain(|due| due.next_turn_at <= now || due.next_turn_at > now + LATEST_TURN);
        due.sort_unstable_by_key(|due| due.since.max(due.next_turn_at));
        Ok(due)
    }

    async fn serve_or_tell(&self, due: DueWebhook, stop: &CancellationToken) {
        if let Err(error) = self.serve(due, stop).await {
            tracing::debug!(%error, host = due.host.0, "webhook delivery run aborted");
        }
    }

    /// Serves one receiver: acquires its lease, sends its events, releases the lease.
    async fn serve(&self, due: DueWebhook, stop: &CancellationToken) -> Result<(), StoreError> {
        let began = self.sender.now();
        let Some(turn) = self.store.take_turn(&due, began + LEASE).await? else { return Ok(()) };
        let failed_turns = turn.failed_turns;
        let serving = Serving {
            courier: self,
            turn: tokio::sync::Mutex::new(turn),
            began,
            stop,
            has_arrived: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            is_lost: AtomicBool::new(false),
        };
        let sent = serving.send_due(due.host).await;
        let (has_arrived, has_failed) = (serving.has_arrived.load(Relaxed), serving.has_failed.load(Relaxed));
        let (turn, now) = (serving.turn.into_inner(), self.sender.now());
        let (next_turn_at, failed_turns) = match (has_arrived, has_failed) {
            (true, _) => (now, 0),
            (false, true) => (now + self.vary(pause(failed_turns)), failed_turns.saturating_add(1)),
            (false, false) => (now, failed_turns),
        };
        let host = due.host.0;
        if has_arrived && failed_turns >= TOLD_AFTER {
            tracing::info!(host, "webhook receiver available");
        } else if !has_arrived && has_failed && is_to_be_told(failed_turns + 1) {
            tracing::warn!(host, turns = failed_turns + 1, "webhook receiver unavailable");
        }
        self.store.end_turn(&turn, next_turn_at, failed_turns).await.and(sent)
    }

    /// Adds jitter of ±20 %, so that events that failed together are not retried together.
    fn vary(&self, span: TimeDelta) -> TimeDelta {
        let percent = 80 + i32::try_from(self.chance.below(41)).unwrap_or_default();
        span * percent / 100
    }
}

/// Delay before the next attempt of an event with this number of earlier failures.
fn retry(attempts: u32) -> TimeDelta {
    (FIRST_RETRY * RETRY_FACTOR.saturating_pow(attempts.min(8))).min(LAST_RETRY)
}

/// Pause of a receiver with this number of earlier failed turns.
fn pause(failed_turns: u32) -> TimeDelta {
    (FIRST_PAUSE * 2_i32.saturating_pow(failed_turns.min(8))).min(LAST_PAUSE)
}

/// Number of failed turns after which a warning is logged. It is repeated at every twelfth, about once per hour.
const TOLD_AFTER: u32 = 3;

fn is_to_be_told(failed_turns: u32) -> bool {
    failed_turns == TOLD_AFTER || failed_turns.is_multiple_of(12)
}

/// A turn in progress.
struct Serving<'a> {
    courier: &'a Courier,
    turn: tokio::sync::Mutex<Turn>,
    began: DateTime<Utc>,
    stop: &'a CancellationToken,
    has_arrived: AtomicBool,
    has_failed: AtomicBool,
    /// Whether another node has the lease, or the host has changed the webhook.
    is_lost: AtomicBool,
}

impl Serving<'_> {
    /// Returns whether the turn must send no further events.
    fn is_over(&self) -> bool {
        self.has_failed.load(Relaxed)
            || self.is_lost.load(Relaxed)
            || self.stop.is_cancelled()
            || self.courier.sender.now() - self.began > TURN
    }

    async fn send_due(&self, host: HostId) -> Result<(), StoreError> {
        let Courier { store, sender, .. } = self.courier;
        while !self.is_over() {
            let due = store.due_webhook_events(host, sender.now(), BATCH).await?;
            if due.is_empty() {
                break;
            }
            let mut rooms: BTreeMap<i64, Vec<WebhookEvent>> = BTreeMap::new();
            for event in due {
                rooms.entry(event.chatroom.0).or_default().push(event);
            }
            let rooms = stream::iter(rooms.into_values()).map(|events| self.send_in_order(events));
            let ended: Vec<Result<(), StoreError>> = rooms.buffer_unordered(ROOMS_AT_ONCE).collect().await;
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

    /// Returns the webhook, after renewing the lease if too little of it remains. `None` if the turn was lost.
    async fn webhook(&self) -> Result<Option<Webhook>, StoreError> {
        let (store, now) = (&self.courier.store, self.courier.sender.now());
        let mut turn = self.turn.lock().await;
        if turn.ends_at - now < LEFT {
            match store.prolong_turn(&turn, now + LEASE).await? {
                Some(longer) => *turn = longer,
                None => return Ok(None),
            }
        }
        Ok(Some(turn.webhook.clone()))
    }

    async fn send(&self, event: &WebhookEvent) -> Result<(), StoreError> {
        let Courier { store, sender, metrics, .. } = self.courier;
        let Some(webhook) = self.webhook().await? else {
            self.is_lost.store(true, Relaxed);
            return Ok(());
        };
        let late = async {
            self.stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        let attempt = tokio::select! {
            attempt = sender.send(&webhook, &event.event_id, &event.body) => attempt,
            // Not marked as delivered: another node sends it again.
            () = late => return Ok(()),
        };
        metrics.duration.record(Duration::from_millis(attempt.millis).as_secs_f64());
        if attempt.problem.is_none() {
            metrics.events.get(WebhookOutcome::Delivered).increment(1);
            store.webhook_event_arrived(event.id, &attempt).await?;
            self.has_arrived.store(true, Relaxed);
            return Ok(());
        }
        self.has_failed.store(true, Relaxed);
        let again = attempt.at + self.courier.vary(retry(event.attempts));
        let again = (again < event.ends_at).then_some(again);
        let outcome = if again.is_some() { WebhookOutcome::Failed } else { WebhookOutcome::GivenUp };
        metrics.events.get(outcome).increment(1);
        let outcome = outcome.value();
        tracing::debug!(host = webhook.host.0, event = event.event_id, outcome, "webhook event not delivered");
        store.webhook_event_missed(event.id, &attempt, again).await?;
        if attempt.status == Some(GONE) {
            tracing::info!(host = webhook.host.0, "webhook disabled: receiver returned 410");
            store.switch_webhook_off(&webhook, attempt.at).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
