//! Recovery after a store was restored to an earlier state.
//!
//! SQL and the broker both hold a generation. The leader raises it in SQL first, then in the broker: at the start of
//! each leadership and every 5 s. SQL below the broker means that SQL was restored to an earlier state; the broker
//! below SQL means that Redis was. Accepting and archiving report inconsistencies that occur between two increments
//! ([`Recovery::suspect`]).
//!
//! Recovery makes the sequence number of every room jump and compares each room of the broker with its row. The state
//! is taken from SQL, messages that are in the log but not in SQL are archived again, and messages of rooms that SQL
//! has lost become dead letters. The first node of a cluster makes the same comparison before it accepts messages,
//! because no running node has observed the stores.
//!
//! **Invariant:** the generation is raised only after a completed recovery, so an interrupted recovery is repeated.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::backend::broker::queue::{ArchiveQueue, Lost};
use crate::backend::broker::recovery::{Reconciled, Recovery, WentBack};
use crate::backend::broker::{Broker, Partition, Unavailable};
use crate::chat::history::log_numbers;
use crate::chat::metrics::ArchiveMetrics;
use crate::domain::{InstallationId, Room, RoomName, Seq};
use crate::node::leader::Leader;
use crate::node::metrics::RecoveryMetrics;
use crate::store::{Installation, InstallationMode, Store, StoreError};

/// Interval between comparisons of the generations, and between increments by the leader. A restore to a state at least
/// this much older is detected even if all affected rooms are idle.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

/// How long the generation in SQL may be below that of the broker before a node that is not the leader stops using the
/// broker. The leader needs time to detect it, and minutes to recover 100,000 rooms.
const GRACE: Duration = Duration::from_secs(300);

/// Number of rooms that are compared concurrently.
const AT_ONCE: usize = 32;

/// Maximum number of messages per log that are compared with SQL.
const LOG: usize = 100_000;

/// Reason of the dead letters.
const LOST: &str = "sql has lost this room";

/// A store that recovery needs is unavailable. The next tick starts again.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The broker is unavailable.
    #[error(transparent)]
    Broker(#[from] Unavailable),
    /// SQL is unavailable.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Result of a recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Number of compared rooms.
    pub rooms: u64,
    /// Number of rooms whose sequence number was below that in SQL.
    pub behind: u64,
    /// Number of messages that are archived again.
    pub archived_again: u64,
    /// Number of rooms that SQL has lost.
    pub lost_rooms: u64,
    /// Number of messages of these rooms that became dead letters.
    pub dead_letters: u64,
}

/// Compares the stores of one node, and recovers them while the node is the leader.
pub struct Recoverer {
    installation: InstallationId,
    store: Store,
    broker: Arc<dyn Broker>,
    queue: Arc<dyn ArchiveQueue>,
    recovery: Arc<dyn Recovery>,
    behind_since: Option<Instant>,
    metrics: RecoveryMetrics,
    archive_metrics: ArchiveMetrics,
}

impl std::fmt::Debug for Recoverer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recoverer").field("installation", &self.installation).finish_non_exhaustive()
    }
}

impl Recoverer {
    /// Creates a recoverer over the stores of one installation.
    pub fn new(
        installation: InstallationId,
        store: Store,
        broker: Arc<dyn Broker>,
        queue: Arc<dyn ArchiveQueue>,
        recovery: Arc<dyn Recovery>,
    ) -> Self {
        let (metrics, archive_metrics) = (RecoveryMetrics::default(), ArchiveMetrics::default());
        Self { installation, store, broker, queue, recovery, behind_since: None, metrics, archive_metrics }
    }

    /// Compares the generations every [`INTERVAL`] until `stop` is cancelled.
    pub async fn run(mut self, leader: Leader, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Some(Err(error)) = stop.run_until_cancelled(self.tick(leader.is_leading())).await {
                tracing::debug!(%error, "failed to compare generations, retrying");
            }
        }
    }

    /// Compares the generations once. Returns the result if a recovery was necessary.
    ///
    /// # Errors
    /// [`RecoveryError`]: the generation was not raised, and the next call starts again.
    pub async fn tick(&mut self, leads: bool) -> Result<Option<Recovered>, RecoveryError> {
        // The broker is read first. The leader raises SQL before the broker, so in this order SQL is never lower.
        let known = self.recovery.generation().await?;
        let is_own = |row: &Installation| row.id == self.installation && row.mode == InstallationMode::Cluster;
        let Some(row) = self.store.installation().await?.filter(is_own) else {
            // SQL was restored to before its first start, belongs to another installation, or is now served by a single
            // node.
            self.recovery.suspend(true);
            return Ok(None);
        };
        let is_behind = known.is_some_and(|known| row.generation < known);
        if !leads {
            self.behind_since = is_behind.then(|| self.behind_since.unwrap_or_else(Instant::now));
            self.recovery.suspend(self.behind_since.is_some_and(|since| since.elapsed() > GRACE));
            return Ok(None);
        }
        self.recovery.suspend(false);
        let went_back = if is_behind {
            Some(WentBack::Sql)
        } else if known.is_some_and(|known| known + 1 < row.generation) {
            Some(WentBack::Redis)
        } else {
            self.recovery.suspect().await?
        };
        let recovered = match went_back {
            Some(store) => Some(self.recover(store).await?),
            None => None,
        };
        let next = known.unwrap_or_default().max(row.generation) + 1;
        self.store.raise_generation(next).await?;
        self.recovery.raise_generation(next).await?;
        Ok(recovered)
    }

    /// Compares every room of the broker with its row. The first node of a cluster calls this before it accepts
    /// messages.
    ///
    /// # Errors
    /// [`RecoveryError`]: call again.
    pub async fn compare(&self) -> Result<Recovered, RecoveryError> {
        let known = self.recovery.generation().await?;
        let row = self.store.installation().await?;
        let is_behind = row.zip(known).is_some_and(|(row, known)| row.generation < known);
        let store = if is_behind { WentBack::Sql } else { WentBack::Redis };
        let compared = self.reconcile_all(store).await?;
        if compared != (Recovered { rooms: compared.rooms, ..Recovered::default() }) {
            let Recovered { rooms, behind, archived_again, lost_rooms, dead_letters } = compared;
            tracing::error!(
                rooms,
                behind,
                archived_again,
                lost_rooms,
                dead_letters,
                "stores were not in the same state at the start, recovered"
            );
        }
        Ok(compared)
    }

    async fn recover(&self, store: WentBack) -> Result<Recovered, RecoveryError> {
        self.metrics.recoveries.get(store.kind()).increment(1);
        tracing::error!(store = store.store(), "store is in an earlier state, recovering: every room's number jumps");
        for partition in (0..self.broker.partitions()).map(Partition) {
            self.recovery.begin_epoch(partition).await?;
        }
        let all = self.reconcile_all(store).await?;
        let Recovered { rooms, behind, archived_again, lost_rooms, dead_letters } = all;
        tracing::warn!(
            store = store.store(),
            rooms,
            behind,
            archived_again,
            lost_rooms,
            dead_letters,
            "store recovered"
        );
        Ok(all)
    }

    async fn reconcile_all(&self, store: WentBack) -> Result<Recovered, RecoveryError> {
        let mut all = Recovered::default();
        for partition in (0..self.broker.partitions()).map(Partition) {
            let mut from = None;
            loop {
                let page = self.recovery.rooms(partition, from).await?;
                self.reconcile(store, &page.rooms, &mut all).await?;
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
            self.recovery.clear_suspect(partition).await?;
        }
        Ok(all)
    }

    async fn reconcile(&self, store: WentBack, names: &[RoomName], all: &mut Recovered) -> Result<(), RecoveryError> {
        let rows = self.store.rooms_named(names).await?;
        let rows: HashMap<RoomName, Room> = rows.into_iter().map(|row| (row.name, row)).collect();
        let rooms: Vec<(RoomName, Option<Room>)> = names.iter().map(|name| (*name, rows.get(name).cloned())).collect();
        let outcomes = futures_util::stream::iter(rooms).map(|(name, row)| self.reconcile_room(store, name, row));
        let outcomes: Vec<Recovered> = outcomes.buffer_unordered(AT_ONCE).try_collect().await?;
        for outcome in outcomes {
            all.rooms += 1;
            all.behind += outcome.behind;
            all.archived_again += outcome.archived_again;
            all.lost_rooms += outcome.lost_rooms;
            all.dead_letters += outcome.dead_letters;
        }
        Ok(())
    }

    async fn reconcile_room(
        &self,
        store: WentBack,
        name: RoomName,
        row: Option<Room>,
    ) -> Result<Recovered, RecoveryError> {
        let mut outcome = Recovered::default();
        let Some(status) = self.broker.status(&[name]).await?.pop().flatten() else { return Ok(outcome) };
        match row {
            // Redis was restored to before the deletion of the room.
            None if store == WentBack::Redis => self.broker.bury(name).await?,
            Some(row) if row.id == status.chatroom => {
                let is_forced = store == WentBack::Sql || status.archived > row.last_seq;
                let missing = if is_forced { self.missing(&row).await? } else { Vec::new() };
                let (state, version, stored) = (row.state(), row.state_version, row.last_seq);
                outcome.behind = u64::from(stored > status.seq);
                if is_forced || version > status.version || stored > status.seq {
                    let room = Reconciled { room: name, chatroom: row.id, state, version, stored, is_forced, missing };
                    outcome.archived_again = self.recovery.reconcile(&room).await?.unwrap_or_default();
                }
            }
            _ => {
                if let Lost::Now(dead) = self.queue.lose_room(name, status.chatroom, LOST, row.is_some()).await? {
                    self.archive_metrics.dead_letters.increment(dead);
                    tracing::error!(room = %name, messages = dead, "sql has lost a room, dead-lettered its messages");
                    (outcome.lost_rooms, outcome.dead_letters) = (1, dead);
                }
            }
        }
        Ok(outcome)
    }

    /// Returns the sequence numbers that a room's log has and SQL lacks.
    async fn missing(&self, row: &Room) -> Result<Vec<Seq>, RecoveryError> {
        let mut numbers = log_numbers(&*self.broker, row.name, row.purged_through, LOG).await?;
        let Some(first) = numbers.first() else { return Ok(numbers) };
        let stored: HashSet<Seq> = self.store.seqs_from(row.id, *first).await?.into_iter().collect();
        numbers.retain(|seq| !stored.contains(seq));
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests;
