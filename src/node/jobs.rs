//! Periodic jobs that run once per cluster, on the leader. [`TABLE`] lists them.
//!
//! **Invariant:** each step of a job is a single conditional statement or is idempotent. It is correct on any node, at
//! any time and concurrently with any other step, so the leader lease only prevents duplicate work. An interrupted job
//! continues with its next run.
//!
//! Steps are small. After each step, a job pauses for four times the duration of the step, to limit the load on a busy
//! database.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::backend::broker::{RoomStates, RoomStatus};
use crate::backend::{Backend, ClusterPorts, Unavailable};
use crate::chat::rooms::Rooms;
use crate::domain::Room;
use crate::domain::clock::{Agreement, Clock};
use crate::node::leader::Leader;
use crate::node::metrics::{JobMetrics, JobName, JobOutcome, JobRun};
use crate::store::{PurgedRoom, Store, StoreError};

mod table;

pub use table::{Job, JobEntry, TABLE};

/// Interval at which the leader looks for due jobs.
const TICK: Duration = Duration::from_secs(1);

/// Interval between updates of the metric for waiting e-mails.
const MAILS_INTERVAL: Duration = Duration::from_secs(15);

/// Pause after a step, as a multiple of the duration of the step. A job therefore uses a connection for at most a fifth
/// of the time. A job with a million rows takes minutes.
const REST: u32 = 4;

/// Time for which expired rows are kept. It covers the clock skew, the ten minutes in which a confirmed code can be
/// used, and the time until the dispatcher has counted an e-mail as expired.
const KEPT: TimeDelta = TimeDelta::hours(1);

/// Maximum number of purged rooms whose messages are deleted in one step. It is lower than the batch sizes of the jobs,
/// because each room requires several statements.
const ROOMS_A_STEP: u64 = 50;

/// Settings of the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time for which the messages of a closed room are kept.
    pub message_retention: Duration,
    /// Time without a message after which a room is closed; `None` disables closing.
    pub idle_close: Option<Duration>,
}

/// Reason why a job failed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The database returned an error or is unavailable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker or the presence driver is unavailable.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The skew between the clocks of this machine and of the stores is above the limit or has not been measured, so no
    /// clock is reliable.
    #[error("the clocks of this machine and of the stores disagree, or are not measured")]
    ClockSkew,
}

/// Result of a step, which processes a limited number of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct JobStep {
    /// Number of changed rows.
    rows: u64,
    /// Whether more rows may be due.
    more: bool,
}

impl JobStep {
    /// Returns the result of a step that changed `rows` of at most `batch` rows. After a full batch, more rows may be
    /// due.
    fn of(rows: u64, batch: u64) -> Self {
        Self { rows, more: rows >= batch }
    }
}

/// Runs the jobs of [`TABLE`]. Clones share the drivers.
#[derive(Clone)]
pub struct Jobs {
    store: Store,
    clock: Arc<dyn Clock>,
    clocks: Agreement,
    settings: Settings,
    states: Option<Arc<dyn RoomStates>>,
    cluster: Option<ClusterPorts>,
    rooms: Option<Rooms>,
    metrics: Arc<JobMetrics>,
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Jobs {
    /// Creates jobs that use only the database, without a backend. Commands use them, because a single-node server may
    /// be running at the same time.
    pub fn new(store: Store, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        Self {
            store,
            clock,
            clocks: Agreement::assumed(),
            settings,
            states: None,
            cluster: None,
            rooms: None,
            metrics: Arc::default(),
        }
    }

    /// Makes the jobs fail with [`JobError::ClockSkew`] while the clock skew is above the limit or has not been
    /// measured.
    #[must_use]
    pub fn while_clocks_agree(mut self, clocks: Agreement) -> Self {
        self.clocks = clocks;
        self
    }

    /// Makes the jobs also use the broker and the presence driver of `backend`.
    #[must_use]
    pub fn with_backend(mut self, backend: &Backend) -> Self {
        (self.states, self.cluster) = (Some(backend.states.clone()), backend.cluster.clone());
        self
    }

    /// Publishes room changes at once through `rooms`. Without this setting, the running nodes publish them within
    /// seconds.
    #[must_use]
    pub fn publishing_through(mut self, rooms: Rooms) -> Self {
        self.rooms = Some(rooms);
        self
    }

    /// Runs each job when it is due and while this node is the leader. Returns when `stop` is cancelled.
    pub async fn run(self, leader: Leader, stop: CancellationToken) {
        let mut due = [Instant::now(); TABLE.len()];
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut exported: Option<Instant> = None;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if exported.is_none_or(|exported| exported.elapsed() >= MAILS_INTERVAL) {
                exported = Some(Instant::now());
                self.export_waiting_mails(leader.is_leading()).await;
            }
            for (entry, due) in TABLE.iter().zip(&mut due) {
                let may_continue = || leader.is_leading() && !stop.is_cancelled();
                if may_continue() && *due <= Instant::now() {
                    self.log(entry, self.run_job(entry, may_continue).await);
                    *due = Instant::now() + entry.every;
                }
            }
        }
    }

    /// Updates the metric for waiting e-mails. Only the leader reads their number from the database; other nodes report
    /// 0.
    async fn export_waiting_mails(&self, leads: bool) {
        let waiting = if leads { self.store.mails().count().await } else { Ok(0) };
        match waiting {
            Ok(waiting) => self.metrics.mails_waiting.set(waiting as f64),
            Err(error) => tracing::debug!(%error, "failed to read length of e-mail queue"),
        }
    }

    /// Runs every job once. Returns the number of changed rows for each job.
    ///
    /// # Errors
    /// Each job has its own result. If one job fails, the other jobs still run.
    pub async fn run_once(&self) -> Vec<(&'static JobEntry, Result<u64, JobError>)> {
        let mut outcomes = Vec::with_capacity(TABLE.len());
        for entry in &TABLE {
            outcomes.push((entry, self.run_job(entry, || true).await));
        }
        outcomes
    }

    fn log(&self, entry: &JobEntry, outcome: Result<u64, JobError>) {
        match outcome {
            Ok(0) => {}
            Ok(rows) => tracing::info!(job = entry.name, rows, "job finished"),
            Err(error) => tracing::warn!(%error, job = entry.name, "job failed, retrying"),
        }
    }

    /// Runs the steps of a job while `may_continue` returns `true`. Returns the number of changed rows.
    async fn run_job(&self, entry: &JobEntry, may_continue: impl Fn() -> bool) -> Result<u64, JobError> {
        let began = Instant::now();
        let (mut last_room, mut total) = (None, 0);
        let outcome = loop {
            let step_began = Instant::now();
            match self.step(entry, &mut last_room).await {
                Ok(JobStep { rows, more }) => {
                    self.metrics.rows.find(JobName(entry.name)).increment(rows);
                    total += rows;
                    if !more || !may_continue() {
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

    async fn step(&self, entry: &JobEntry, last_room: &mut Option<Room>) -> Result<JobStep, JobError> {
        let (batch, now) = (entry.batch, self.clock.now());
        // The agreement is checked after the clock was read; [`Agreement`] gives the reason.
        if !self.clocks.holds() {
            return Err(JobError::ClockSkew);
        }
        match entry.job {
            Job::DeleteEmpty => self.delete_empty(last_room, now, batch).await,
            Job::CloseIdle => self.close_idle(last_room, now, batch).await,
            Job::Purge => Ok(JobStep::of(self.store.retention().purge(self.closed_before(now), batch).await?, batch)),
            Job::DeleteMessages => self.delete_messages(batch).await,
            Job::GiveUpEvents => Ok(JobStep::of(self.store.webhooks().give_up_events(now, batch).await?, batch)),
            Job::Forget(what) => Ok(JobStep::of(self.store.expired().delete(what, now - KEPT, batch).await?, batch)),
            Job::AdoptOrphans => Ok(JobStep { rows: self.orphans(true).await?, more: false }),
        }
    }

    /// Returns the number of rows that a job would change now. Does not change any row.
    ///
    /// # Errors
    /// Returns [`JobError`] if the database or the broker is unavailable.
    pub async fn count(&self, job: Job) -> Result<u64, JobError> {
        let (store, now) = (&self.store, self.clock.now());
        let counted = match job {
            Job::DeleteEmpty => match self.idle_since(now) {
                Some(since) => store.rooms().count_empty(since).await?,
                None => 0,
            },
            Job::CloseIdle => match self.idle_since(now) {
                Some(since) => store.rooms().count_idle(since).await?,
                None => 0,
            },
            Job::Purge => store.retention().count_rooms(self.closed_before(now)).await?,
            Job::DeleteMessages => {
                store.retention().count_messages(self.closed_before(now)).await?
                    + store.retention().count_purged_messages().await?
            }
            Job::GiveUpEvents => store.webhooks().count_events_to_give_up(now).await?,
            Job::Forget(what) => store.expired().count(what, now - KEPT).await?,
            Job::AdoptOrphans => self.orphans(false).await?,
        };
        Ok(counted)
    }

    async fn orphans(&self, adopt: bool) -> Result<u64, Unavailable> {
        match &self.cluster {
            Some(cluster) => cluster.presence.adopt_orphans(adopt).await,
            None => Ok(0),
        }
    }

    /// Returns the time before which a room must have been closed to be purged (SPEC 6.4).
    fn closed_before(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        ago(now, self.settings.message_retention)
    }

    /// Returns the time since which a room must have had a message to remain open (SPEC 6.5, 6.6). Returns `None` if
    /// closing is off.
    fn idle_since(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Some(ago(now, self.settings.idle_close?))
    }

    /// Deletes rooms that never had a message (SPEC 6.6). Without a broker, the database alone determines which rooms
    /// are deleted, and the running node disconnects the clients in such a room.
    async fn delete_empty(
        &self,
        last_room: &mut Option<Room>,
        now: DateTime<Utc>,
        batch: u64,
    ) -> Result<JobStep, JobError> {
        let Some(since) = self.idle_since(now) else { return Ok(JobStep::of(0, batch)) };
        let rooms = self.store.rooms().empty(since, last_room.as_ref(), batch).await?;
        let (found, mut deleted) = (rooms.len() as u64, 0);
        for room in &rooms {
            if let Some(states) = &self.states
                && !states.delete_if_empty(room.name, room.state_version + 1).await?
            {
                continue;
            }
            if let Some(event) = self.store.rooms().delete_empty(room.name, now).await? {
                deleted += 1;
                if let Some(rooms) = &self.rooms {
                    rooms.publish(&event).await;
                }
            }
        }
        *last_room = rooms.into_iter().last().or(last_room.take());
        Ok(JobStep { rows: deleted, more: found >= batch })
    }

    /// Closes idle rooms. The effect is the same as if the host closed the room.
    async fn close_idle(
        &self,
        last_room: &mut Option<Room>,
        now: DateTime<Utc>,
        batch: u64,
    ) -> Result<JobStep, JobError> {
        let Some(since) = self.idle_since(now) else { return Ok(JobStep::of(0, batch)) };
        let rooms = self.store.rooms().idle(since, last_room.as_ref(), batch).await?;
        let (found, mut closed) = (rooms.len() as u64, 0);
        let statuses = match &self.states {
            Some(states) => states.status(&rooms.iter().map(|room| room.name).collect::<Vec<_>>()).await?,
            None => vec![None; rooms.len()],
        };
        for (room, status) in rooms.iter().zip(&statuses) {
            // After an outage of the database, the newest messages of a room may be missing from it. The room then only
            // appears to be idle.
            if is_behind(room, status.as_ref()) {
                continue;
            }
            if let Some(event) = self.store.rooms().close_idle(room.name, since, now).await? {
                closed += 1;
                if let Some(rooms) = &self.rooms {
                    rooms.publish(&event).await;
                }
            }
        }
        *last_room = rooms.into_iter().last().or(last_room.take());
        Ok(JobStep { rows: closed, more: found >= batch })
    }

    /// Deletes the message rows of purged rooms.
    async fn delete_messages(&self, batch: u64) -> Result<JobStep, JobError> {
        let rooms = self.store.retention().purged(ROOMS_A_STEP).await?;
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
        Ok(JobStep { rows: deleted, more })
    }

    /// Deletes at most `limit` messages of a purged room. Returns the number of deleted rows, and whether the room has
    /// no more of them.
    async fn delete_messages_of(&self, room: PurgedRoom, limit: u64) -> Result<(u64, bool), JobError> {
        if let Some(cluster) = &self.cluster {
            cluster.recent.purge(room.name, room.through).await?;
        }
        let rows = self.store.messages().delete_invisible(room.id, limit).await?;
        let is_finished = rows < limit && self.store.retention().finish(room).await?;
        Ok((rows, is_finished))
    }
}

fn is_behind(room: &Room, status: Option<&RoomStatus>) -> bool {
    status.is_some_and(|status| status.seq > room.last_seq)
}

/// Returns `now - span`. Returns the Unix epoch if the result would be earlier or is outside the range of `DateTime`.
fn ago(now: DateTime<Utc>, span: Duration) -> DateTime<Utc> {
    let then = TimeDelta::from_std(span).ok().and_then(|span| now.checked_sub_signed(span));
    then.unwrap_or_default().max(DateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
