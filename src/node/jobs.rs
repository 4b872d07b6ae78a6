//! Periodic jobs that run once per cluster, on the leader; see [`TABLE`].
//!
//! **Invariant:** a step of a job is one conditional statement, or is idempotent. It is correct on any node, at any
//! time and concurrently with any other, so the leader's lease only avoids duplicate work. An interrupted job continues
//! at the next run.
//!
//! Steps are small. After each, the job pauses for four times the duration of the step, so that a busy database is
//! loaded less.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::backend::broker::{Broker, RoomStatus, Unavailable};
use crate::backend::presence::Presence;
use crate::chat::rooms::Rooms;
use crate::domain::Room;
use crate::domain::clock::{Agreement, Clock};
use crate::node::leader::Leader;
use crate::node::metrics::{JobMetrics, JobName, JobOutcome, JobRun};
use crate::store::{PurgedRoom, Store, StoreError};

mod table;

pub use table::{Duty, Entry, TABLE};

/// Interval at which the leader checks which jobs are due.
const TICK: Duration = Duration::from_secs(1);

/// Interval at which the metric of waiting e-mails is updated.
const MAILS_INTERVAL: Duration = Duration::from_secs(15);

/// Pause after a step, as a multiple of its duration: a job uses at most a fifth of one connection's time. A million
/// rows take minutes.
const REST: u32 = 4;

/// Margin before expired rows are deleted. It covers clock skew, the ten minutes in which a confirmed code can be used,
/// and e-mails that the dispatcher still has to count as expired.
const KEPT: TimeDelta = TimeDelta::hours(1);

/// Maximum number of purged rooms per step. Few rooms have a thousand messages, and each takes several statements.
const ROOMS_A_STEP: u64 = 50;

/// Configuration of the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long the messages of a closed room are kept.
    pub message_retention: Duration,
    /// Time without a message after which a room is closed; `None` turns this off.
    pub idle_close: Option<Duration>,
}

/// Why a job failed.
#[derive(Debug, thiserror::Error)]
pub enum DutyError {
    /// SQL failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker or the presence driver is unavailable.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The clocks of this machine and the stores disagree or are not measured yet, so no clock can be relied on.
    #[error("the clocks of this machine and of the stores disagree, or are not measured")]
    ClockSkew,
}

/// Result of one step of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    /// Number of rows changed.
    rows: u64,
    /// Whether more rows may be due.
    more: bool,
}

impl Step {
    /// Result of a step with a limit of `batch` rows: a full batch may not have been the last.
    fn of(rows: u64, batch: u64) -> Self {
        Self { rows, more: rows >= batch }
    }
}

/// Runs the jobs of [`TABLE`]. Clones share the drivers.
#[derive(Clone)]
pub struct Duties {
    store: Store,
    clock: Arc<dyn Clock>,
    clocks: Agreement,
    settings: Settings,
    broker: Option<Arc<dyn Broker>>,
    presence: Option<Arc<dyn Presence>>,
    rooms: Option<Rooms>,
    metrics: Arc<JobMetrics>,
}

impl std::fmt::Debug for Duties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Duties").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Duties {
    /// Creates the jobs over SQL alone, as used by a command beside a single node.
    pub fn new(store: Store, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        Self {
            store,
            clock,
            clocks: Agreement::assumed(),
            settings,
            broker: None,
            presence: None,
            rooms: None,
            metrics: Arc::default(),
        }
    }

    /// Makes jobs fail with [`DutyError::ClockSkew`] while the clocks disagree.
    #[must_use]
    pub fn while_clocks_agree(mut self, clocks: Agreement) -> Self {
        self.clocks = clocks;
        self
    }

    /// Adds the drivers of a cluster.
    #[must_use]
    pub fn with_cluster(mut self, broker: Arc<dyn Broker>, presence: Arc<dyn Presence>) -> Self {
        (self.broker, self.presence) = (Some(broker), Some(presence));
        self
    }

    /// Publishes room changes at once through `rooms`. Without it, the running nodes publish them within seconds.
    #[must_use]
    pub fn telling(mut self, rooms: Rooms) -> Self {
        self.rooms = Some(rooms);
        self
    }

    /// Runs each job when it is due, while this node is the leader. Returns when `stop` is cancelled.
    pub async fn run(self, leader: Leader, stop: CancellationToken) {
        let mut due = [Instant::now(); TABLE.len()];
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked: Option<Instant> = None;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if looked.is_none_or(|looked| looked.elapsed() >= MAILS_INTERVAL) {
                looked = Some(Instant::now());
                self.show_mails(leader.is_leading()).await;
            }
            for (entry, due) in TABLE.iter().zip(&mut due) {
                let goes_on = || leader.is_leading() && !stop.is_cancelled();
                if goes_on() && *due <= Instant::now() {
                    self.tell(entry, self.look_after(entry, goes_on).await);
                    *due = Instant::now() + entry.every;
                }
            }
        }
    }

    /// Updates the metric of waiting e-mails. Only the leader queries SQL.
    async fn show_mails(&self, leads: bool) {
        let waiting = if leads { self.store.waiting_mails().await } else { Ok(0) };
        match waiting {
            Ok(waiting) => self.metrics.mails_waiting.set(waiting as f64),
            Err(error) => tracing::debug!(%error, "failed to read length of e-mail queue"),
        }
    }

    /// Runs every job once. Returns the number of rows that each changed.
    ///
    /// # Errors
    /// Per job; a failure does not prevent the others.
    pub async fn run_once(&self) -> Vec<(&'static Entry, Result<u64, DutyError>)> {
        let mut outcomes = Vec::with_capacity(TABLE.len());
        for entry in &TABLE {
            outcomes.push((entry, self.look_after(entry, || true).await));
        }
        outcomes
    }

    fn tell(&self, entry: &Entry, outcome: Result<u64, DutyError>) {
        match outcome {
            Ok(0) => {}
            Ok(rows) => tracing::info!(duty = entry.name, rows, "job finished"),
            Err(error) => tracing::warn!(%error, duty = entry.name, "job failed, retrying"),
        }
    }

    /// Runs the steps of one job while `goes_on` returns true.
    async fn look_after(&self, entry: &Entry, goes_on: impl Fn() -> bool) -> Result<u64, DutyError> {
        let began = Instant::now();
        let (mut walked, mut total) = (None, 0);
        let outcome = loop {
            let step_began = Instant::now();
            match self.step(entry, &mut walked).await {
                Ok(Step { rows, more }) => {
                    self.metrics.rows.find(JobName(entry.name)).increment(rows);
                    total += rows;
                    if !more || !goes_on() {
                        break Ok(total);
                    }
                }
                Err(error) => break Err(error),
            }
            tokio::time::sleep(step_began.elapsed() * REST).await;
        };
        let (name, is_done) = (JobName(entry.name), outcome.is_ok());
        if is_done {
            let now = self.clock.now().timestamp_millis() as f64 / 1_000.0;
            self.metrics.last_success.find(name).set(now);
        }
        let run = JobRun(name, if is_done { JobOutcome::Done } else { JobOutcome::Failed });
        self.metrics.runs.find(run).increment(1);
        self.metrics.duration.find(name).record(began.elapsed().as_secs_f64());
        outcome
    }

    async fn step(&self, entry: &Entry, walked: &mut Option<Room>) -> Result<Step, DutyError> {
        let (batch, now) = (entry.batch, self.clock.now());
        // Checked after the clock was read; see `Agreement`.
        if !self.clocks.holds() {
            return Err(DutyError::ClockSkew);
        }
        match entry.duty {
            Duty::DeleteEmpty => self.delete_empty(walked, now, batch).await,
            Duty::CloseIdle => self.close_idle(walked, now, batch).await,
            Duty::Purge => Ok(Step::of(self.store.purge_rooms(self.closed_before(now), batch).await?, batch)),
            Duty::DeleteMessages => self.delete_messages(batch).await,
            Duty::GiveUpEvents => Ok(Step::of(self.store.give_up_webhook_events(now, batch).await?, batch)),
            Duty::Forget(what) => Ok(Step::of(self.store.delete_expired(what, now - KEPT, batch).await?, batch)),
            Duty::AdoptOrphans => Ok(Step { rows: self.orphans(true).await?, more: false }),
        }
    }

    /// Returns the number of rows that a job would change now. Changes nothing.
    ///
    /// # Errors
    /// [`DutyError`].
    pub async fn count(&self, duty: Duty) -> Result<u64, DutyError> {
        let (store, now) = (&self.store, self.clock.now());
        let counted = match duty {
            Duty::DeleteEmpty => match self.idle_since(now) {
                Some(since) => store.count_empty_rooms(since).await?,
                None => 0,
            },
            Duty::CloseIdle => match self.idle_since(now) {
                Some(since) => store.count_idle_rooms(since).await?,
                None => 0,
            },
            Duty::Purge => store.count_rooms_to_purge(self.closed_before(now)).await?,
            Duty::DeleteMessages => {
                store.count_messages_to_purge(self.closed_before(now)).await? + store.count_purged_messages().await?
            }
            Duty::GiveUpEvents => store.count_webhook_events_to_give_up(now).await?,
            Duty::Forget(what) => store.count_expired(what, now - KEPT).await?,
            Duty::AdoptOrphans => self.orphans(false).await?,
        };
        Ok(counted)
    }

    async fn orphans(&self, adopt: bool) -> Result<u64, Unavailable> {
        match &self.presence {
            Some(presence) => presence.adopt_orphans(adopt).await,
            None => Ok(0),
        }
    }

    /// Rooms closed before this time are purged (SPEC 6.4).
    fn closed_before(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        ago(now, self.settings.message_retention)
    }

    /// Rooms without a message since this time are closed or deleted (SPEC 6.5, 6.6).
    fn idle_since(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Some(ago(now, self.settings.idle_close?))
    }

    /// Deletes rooms that never had a message (SPEC 6.6). Without a broker, SQL alone decides, and the running node
    /// disconnects the clients of such a room.
    async fn delete_empty(&self, walked: &mut Option<Room>, now: DateTime<Utc>, batch: u64) -> Result<Step, DutyError> {
        let Some(since) = self.idle_since(now) else { return Ok(Step::of(0, batch)) };
        let rooms = self.store.empty_rooms(since, walked.as_ref(), batch).await?;
        let (found, mut deleted) = (rooms.len() as u64, 0);
        for room in &rooms {
            if let Some(broker) = &self.broker
                && !broker.bury_empty(room.name, room.state_version + 1).await?
            {
                continue;
            }
            if let Some(event) = self.store.delete_empty_room(room.name, now).await? {
                deleted += 1;
                if let Some(rooms) = &self.rooms {
                    rooms.tell(&event).await;
                }
            }
        }
        *walked = rooms.into_iter().last().or(walked.take());
        Ok(Step { rows: deleted, more: found >= batch })
    }

    /// Closes idle rooms, as their hosts could.
    async fn close_idle(&self, walked: &mut Option<Room>, now: DateTime<Utc>, batch: u64) -> Result<Step, DutyError> {
        let Some(since) = self.idle_since(now) else { return Ok(Step::of(0, batch)) };
        let rooms = self.store.idle_rooms(since, walked.as_ref(), batch).await?;
        let (found, mut closed) = (rooms.len() as u64, 0);
        let statuses = match &self.broker {
            Some(broker) => broker.status(&rooms.iter().map(|room| room.name).collect::<Vec<_>>()).await?,
            None => vec![None; rooms.len()],
        };
        for (room, status) in rooms.iter().zip(&statuses) {
            // After an outage of SQL, the newest messages of a room may not be archived yet.
            if is_behind(room, status.as_ref()) {
                continue;
            }
            if let Some(event) = self.store.close_idle_room(room.name, since, now).await? {
                closed += 1;
                if let Some(rooms) = &self.rooms {
                    rooms.tell(&event).await;
                }
            }
        }
        *walked = rooms.into_iter().last().or(walked.take());
        Ok(Step { rows: closed, more: found >= batch })
    }

    /// Deletes the message rows of purged rooms.
    async fn delete_messages(&self, batch: u64) -> Result<Step, DutyError> {
        let rooms = self.store.purged_rooms(ROOMS_A_STEP).await?;
        let mut more = rooms.len() as u64 == ROOMS_A_STEP;
        let mut deleted = 0;
        for room in rooms {
            let (rows, is_finished) = self.delete_messages_of(room, batch - deleted).await?;
            deleted += rows;
            more |= !is_finished;
            if deleted >= batch {
                more = true;
                break;
            }
        }
        Ok(Step { rows: deleted, more })
    }

    /// Returns the number of deleted rows, and whether the purge of the room is complete.
    async fn delete_messages_of(&self, room: PurgedRoom, limit: u64) -> Result<(u64, bool), DutyError> {
        if let Some(broker) = &self.broker {
            broker.purge(room.name, room.through).await?;
        }
        let rows = self.store.delete_messages(room.id, limit).await?;
        let is_finished = rows < limit && self.store.finish_purge(room).await?;
        Ok((rows, is_finished))
    }
}

fn is_behind(room: &Room, status: Option<&RoomStatus>) -> bool {
    status.is_some_and(|status| status.seq > room.last_seq)
}

/// `now - span`, but at least 1970: a span may exceed the range of `DateTime`.
fn ago(now: DateTime<Utc>, span: Duration) -> DateTime<Utc> {
    let then = TimeDelta::from_std(span).ok().and_then(|span| now.checked_sub_signed(span));
    then.unwrap_or_default().max(DateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
