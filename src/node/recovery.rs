//! Recovery after a store was restored to an earlier state.
//!
//! The database and the broker each store a generation, which is a counter. The leader raises the generation in the
//! database first and then in the broker, when it becomes leader and every 5 s thereafter. If the generation in the
//! database is lower, the database was restored to an earlier state. If the generation in the broker is lower by more
//! than one, Redis was restored. If a restore occurs between two increments, the generations are equal. Such a restore
//! is detected by the calls that accept or archive messages
//! ([`Recovery::suspect`](crate::backend::broker::recovery::Recovery::suspect)).
//!
//! A recovery makes the sequence number of every room skip ahead, and compares each room of the broker with its row.
//! The state of a room is taken from the database. Messages that are only in the log are archived again. Messages of
//! rooms that are missing from the database become dead letters. The first node of a cluster makes the same comparison
//! before it accepts messages, because no node was running that could have detected a restore.
//!
//! **Invariant:** the generation is raised only after a recovery is complete, so an interrupted recovery is repeated.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::backend::broker::queue::Lost;
use crate::backend::broker::recovery::{Reconciled, WentBack};
use crate::backend::broker::{Partition, RoomStates};
use crate::backend::{Backend, ClusterPorts, Unavailable};
use crate::chat::history::log_numbers;
use crate::chat::metrics::ArchiveMetrics;
use crate::domain::{InstallationId, Room, RoomName, Seq};
use crate::node::leader::Leader;
use crate::node::metrics::RecoveryMetrics;
use crate::store::{Installation, InstallationMode, Store, StoreError};

/// Interval between comparisons of the generations, and between increments by the leader. A restore to a state that is
/// older than this interval is detected even if all affected rooms are idle.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

/// Time for which a node that is not the leader tolerates a lower generation in the database than in the broker. After
/// this time, the node stops using the broker. The leader must detect the restore and complete the recovery within this
/// time; for 100,000 rooms, a recovery takes minutes.
const GRACE: Duration = Duration::from_secs(300);

/// Number of rooms that are compared concurrently.
const AT_ONCE: usize = 32;

/// Maximum number of messages per room log that are compared with the database.
const LOG: usize = 100_000;

/// Reason stored with the dead letters of a room that is missing from the database.
const LOST: &str = "room missing from the database";

/// Error: a recovery could not be completed, because a store is unavailable. The next call to [`Recoverer::tick`]
/// starts the recovery again.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The broker is unavailable.
    #[error(transparent)]
    Broker(#[from] Unavailable),
    /// The database is unavailable.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Result of a recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Number of compared rooms.
    pub rooms: u64,
    /// Number of rooms whose sequence number in the broker was below that in the database.
    pub behind: u64,
    /// Number of messages that will be archived again.
    pub archived_again: u64,
    /// Number of rooms that are missing from the database.
    pub lost_rooms: u64,
    /// Number of dead-lettered messages of missing rooms.
    pub dead_letters: u64,
}

/// Detects stores that were restored to an earlier state. Runs the recovery if this node is the leader.
pub struct Recoverer {
    installation: InstallationId,
    store: Store,
    partitions: u16,
    states: Arc<dyn RoomStates>,
    cluster: ClusterPorts,
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
    /// Creates a recoverer for the stores of an installation. Returns `None` for a single-node server, because it has
    /// only one store.
    pub fn new(installation: InstallationId, store: Store, backend: &Backend) -> Option<Self> {
        let cluster = backend.cluster.clone()?;
        let (partitions, states) = (backend.log.partitions(), backend.states.clone());
        let (metrics, archive_metrics) = (RecoveryMetrics::default(), ArchiveMetrics::default());
        Some(Self { installation, store, partitions, states, cluster, behind_since: None, metrics, archive_metrics })
    }

    /// Compares the generations every [`INTERVAL`] until `stop` is cancelled.
    pub async fn run(mut self, leader: Leader, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Some(Err(error)) = stop.run_until_cancelled(self.tick(leader.is_leading())).await {
                tracing::debug!(%error, "failed to compare store generations or reconcile rooms, retrying");
            }
        }
    }

    /// Compares the generations once. Returns the result of the recovery if one was necessary.
    ///
    /// # Errors
    /// Returns [`RecoveryError`] if a store is unavailable. The generation is then not raised, and the next call starts
    /// the comparison again.
    pub async fn tick(&mut self, leads: bool) -> Result<Option<Recovered>, RecoveryError> {
        // The broker is read first, because the leader raises the generation in the database first. In this order, the
        // value from the database is lower only if the database was restored.
        let known = self.cluster.recovery.generation().await?;
        let is_own = |row: &Installation| row.id == self.installation && row.mode == InstallationMode::Cluster;
        let Some(row) = self.store.installation().get().await?.filter(is_own) else {
            // The database was restored to a state before the first start of the cluster, belongs to another
            // installation, or is now used by a single-node server.
            self.cluster.recovery.suspend(true);
            return Ok(None);
        };
        let is_behind = known.is_some_and(|known| row.generation < known);
        if !leads {
            self.behind_since = is_behind.then(|| self.behind_since.unwrap_or_else(Instant::now));
            self.cluster.recovery.suspend(self.behind_since.is_some_and(|since| since.elapsed() > GRACE));
            return Ok(None);
        }
        self.cluster.recovery.suspend(false);
        let went_back = if is_behind {
            Some(WentBack::Sql)
        } else if known.is_some_and(|known| known + 1 < row.generation) {
            Some(WentBack::Redis)
        } else {
            self.cluster.recovery.suspect().await?
        };
        let recovered = match went_back {
            Some(store) => Some(self.recover(store).await?),
            None => None,
        };
        let next = known.unwrap_or_default().max(row.generation) + 1;
        self.store.installation().raise_generation(next).await?;
        self.cluster.recovery.raise_generation(next).await?;
        Ok(recovered)
    }

    /// Compares every room of the broker with its row in the database. The first node of a cluster calls this method
    /// before it accepts messages.
    ///
    /// # Errors
    /// Returns [`RecoveryError`] if a store is unavailable. The caller must then call this method again.
    pub async fn compare(&self) -> Result<Recovered, RecoveryError> {
        let known = self.cluster.recovery.generation().await?;
        let row = self.store.installation().get().await?;
        let is_behind = row.zip(known).is_some_and(|(row, known)| row.generation < known);
        let store = if is_behind { WentBack::Sql } else { WentBack::Redis };
        let compared = self.reconcile_all(store).await?;
        if compared != (Recovered { rooms: compared.rooms, ..Recovered::default() }) {
            let Recovered { rooms, behind, archived_again, lost_rooms, dead_letters } = compared;
            tracing::error!(
                rooms,
                lagging_rooms = behind,
                archived_again,
                lost_rooms,
                dead_letters,
                "stores inconsistent at start, rooms reconciled"
            );
        }
        Ok(compared)
    }

    async fn recover(&self, store: WentBack) -> Result<Recovered, RecoveryError> {
        self.metrics.recoveries.get(store.kind()).increment(1);
        tracing::error!(store = store.store(), "store restored to an earlier state, reconciling rooms");
        for partition in (0..self.partitions).map(Partition) {
            self.cluster.recovery.begin_epoch(partition).await?;
        }
        let all = self.reconcile_all(store).await?;
        let Recovered { rooms, behind, archived_again, lost_rooms, dead_letters } = all;
        tracing::warn!(
            store = store.store(),
            rooms,
            lagging_rooms = behind,
            archived_again,
            lost_rooms,
            dead_letters,
            "rooms reconciled after store restore"
        );
        Ok(all)
    }

    async fn reconcile_all(&self, store: WentBack) -> Result<Recovered, RecoveryError> {
        let mut all = Recovered::default();
        for partition in (0..self.partitions).map(Partition) {
            let mut from = None;
            loop {
                let page = self.cluster.recovery.rooms(partition, from).await?;
                self.reconcile(store, &page.rooms, &mut all).await?;
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
            self.cluster.recovery.clear_suspect(partition).await?;
        }
        Ok(all)
    }

    async fn reconcile(&self, store: WentBack, names: &[RoomName], all: &mut Recovered) -> Result<(), RecoveryError> {
        let rows = self.store.rooms().by_names(names).await?;
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
        let Some(status) = self.states.status(&[name]).await?.pop().flatten() else { return Ok(outcome) };
        match row {
            // The room was deleted, and Redis was then restored to a state before the deletion.
            None if store == WentBack::Redis => self.cluster.seeding.mark_deleted(name).await?,
            Some(row) if row.id == status.chatroom => {
                let is_forced = store == WentBack::Sql || status.archived > row.last_seq;
                let missing = if is_forced { self.missing(&row).await? } else { Vec::new() };
                let (state, version, stored) = (row.state(), row.state_version, row.last_seq);
                outcome.behind = u64::from(stored > status.seq);
                if is_forced || version > status.version || stored > status.seq {
                    let room = Reconciled { room: name, chatroom: row.id, state, version, stored, is_forced, missing };
                    outcome.archived_again = self.cluster.recovery.reconcile(&room).await?.unwrap_or_default();
                }
            }
            _ => {
                if let Lost::Now(dead) =
                    self.cluster.archive.remove_lost_room(name, status.chatroom, LOST, row.is_some()).await?
                {
                    self.archive_metrics.dead_letters.increment(dead);
                    tracing::error!(room = %name, messages = dead, "room missing from sql, messages dead-lettered");
                    (outcome.lost_rooms, outcome.dead_letters) = (1, dead);
                }
            }
        }
        Ok(outcome)
    }

    /// Returns the sequence numbers that are in the log of a room and missing from the database.
    async fn missing(&self, row: &Room) -> Result<Vec<Seq>, RecoveryError> {
        let mut numbers = log_numbers(&*self.cluster.recent, row.name, row.purged_through, LOG).await?;
        let Some(first) = numbers.first() else { return Ok(numbers) };
        let stored: HashSet<Seq> = self.store.messages().seqs_from(row.id, *first).await?.into_iter().collect();
        numbers.retain(|seq| !stored.contains(seq));
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests;
