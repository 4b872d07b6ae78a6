//! A room's messages, wherever they are: the broker's log first, SQL for what the log no longer has.
//!
//! **Invariant:** a message that was acknowledged is found. The log is read before SQL, and what leaves the log is in SQL.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::{Broker, LogEntry, Unavailable};
pub use crate::domain::RoomKey;
use crate::domain::{ChatroomId, Message, Seq, WallClock};
use crate::protocol::chat::{StoredFrame, message_frame};
use crate::store::{Store, StoreError};

mod conversation;
mod greeting;

pub use greeting::Greeting;
use greeting::Greetings;

/// The messages of a page.
pub const PAGE: usize = 50;

/// The most messages that are read at once on the way to the present.
const STEP: usize = 128;

/// The most bytes that are sent at once on the way to the present (SPEC 4: 128 KiB a frame), less room for the wrapping.
const STEP_BYTES: usize = 128 * 1024 - 64;

/// The most messages of a room that may wait for SQL and still be listed by offset.
const TAIL: usize = 100_000;

/// The broker or SQL could not be read: what is missing is unknown, so nothing is answered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HistoryError {
    /// The broker.
    #[error(transparent)]
    Broker(#[from] Unavailable),
    /// SQL.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A step toward the present, ascending.
#[derive(Debug, Default)]
pub struct Step {
    /// The messages.
    pub entries: Vec<LogEntry>,
    /// Whether there are more right now.
    pub more: bool,
    bytes: usize,
}

impl Step {
    /// Takes an entry if it still fits. The first always does.
    fn push(&mut self, entry: LogEntry) -> bool {
        let size = entry.frame.len() + 1;
        let fits = self.entries.is_empty() || (self.bytes + size <= STEP_BYTES && self.entries.len() < STEP);
        if fits {
            self.bytes += size;
            self.entries.push(entry);
        } else {
            self.more = true;
        }
        fits
    }
}

/// Reads messages.
#[derive(Clone)]
pub struct History {
    broker: Arc<dyn Broker>,
    store: Store,
    /// Whether the broker keeps a log of its own beside SQL.
    has_log: bool,
    greetings: Greetings,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("has_log", &self.has_log).finish_non_exhaustive()
    }
}

impl From<Message> for LogEntry {
    fn from(message: Message) -> Self {
        LogEntry { seq: message.seq, accepted_at: message.accepted_at, frame: message_frame(&message) }
    }
}

impl History {
    /// Over a broker and SQL.
    pub fn new(broker: Arc<dyn Broker>, store: Store) -> Self {
        let has_log = broker.archive_queue().is_some();
        Self { broker, store, has_log, greetings: Greetings::default() }
    }

    /// What follows a number, ascending, as much as goes at once.
    ///
    /// # Errors
    /// If the broker, or SQL where it is needed, could not be read.
    pub async fn after(&self, room: RoomKey, after: Seq) -> Result<Step, HistoryError> {
        let log = if self.has_log { self.broker.log_after(room.name, after, STEP).await? } else { Vec::new() };
        let mut step = Step { more: log.len() == STEP, ..Step::default() };
        if log.is_empty() {
            if self.has_log && self.is_level(room, after).await? {
                return Ok(step);
            }
            self.between(room, after, None, &mut step).await?;
            return Ok(step);
        }
        let mut at = after;
        for entry in log {
            // Before the log's first, and where a broker's life ended, SQL may know more.
            if entry.seq > at + 1 && !self.between(room, at, Some(entry.seq - 1), &mut step).await? {
                return Ok(step);
            }
            at = entry.seq;
            if !step.push(entry) {
                return Ok(step);
            }
        }
        Ok(step)
    }

    /// The newest messages, ascending, at most [`PAGE`], of a room whose highest number is `seq`; `log` is what the broker
    /// has of them, newest first. With SQL away it is all there is.
    ///
    /// # Errors
    /// If SQL could not be read, and the broker has nothing.
    pub(crate) async fn newest(
        &self,
        room: RoomKey,
        seq: Seq,
        log: Vec<LogEntry>,
    ) -> Result<Vec<LogEntry>, HistoryError> {
        if seq == 0 && log.is_empty() {
            return Ok(log);
        }
        let mut entries = match self.page(room, None, log.clone()).await {
            Err(_) if !log.is_empty() => log,
            page => page?,
        };
        entries.reverse();
        Ok(entries)
    }

    /// The messages before a number, newest first, at most [`PAGE`].
    ///
    /// # Errors
    /// If the broker or SQL could not be read.
    pub async fn before(&self, room: RoomKey, before: Seq) -> Result<Vec<LogEntry>, HistoryError> {
        let log = if self.has_log { self.broker.log_before(room.name, Some(before), PAGE).await? } else { Vec::new() };
        Ok(self.page(room, Some(before), log).await?)
    }

    /// A page below `before`, newest first: the log, and what SQL has where the log has nothing.
    async fn page(&self, room: RoomKey, before: Option<Seq>, log: Vec<LogEntry>) -> Result<Vec<LogEntry>, StoreError> {
        let mut entries: Vec<LogEntry> = Vec::with_capacity(PAGE);
        let mut above = before;
        for entry in log {
            if above.is_some_and(|above| entry.seq + 1 < above) {
                self.fill(room, above, Some(entry.seq), &mut entries).await?;
            }
            above = Some(entry.seq);
            entries.push(entry);
        }
        if above != Some(1) && entries.len() < PAGE {
            self.fill(room, above, None, &mut entries).await?;
        }
        entries.truncate(PAGE);
        Ok(entries)
    }

    /// Adds what SQL has below `above` and above `floor`, newest first.
    async fn fill(
        &self,
        room: RoomKey,
        above: Option<Seq>,
        floor: Option<Seq>,
        entries: &mut Vec<LogEntry>,
    ) -> Result<(), StoreError> {
        let want = PAGE.saturating_sub(entries.len());
        let rows = self.store.messages_before(room, above, want as u64).await?;
        entries.extend(rows.into_iter().filter(|row| floor.is_none_or(|floor| row.seq > floor)).map(LogEntry::from));
        Ok(())
    }

    /// Adds what SQL has after `after` and up to `through`. `false`: the step is full.
    async fn between(
        &self,
        room: RoomKey,
        after: Seq,
        through: Option<Seq>,
        step: &mut Step,
    ) -> Result<bool, StoreError> {
        let rows = self.store.messages_between(room, after, through, STEP as u64).await?;
        let full = rows.len() == STEP;
        for row in rows {
            if !step.push(row.into()) {
                return Ok(false);
            }
        }
        step.more |= full;
        Ok(!full)
    }

    /// Whether nothing was ever given a number above this one, as far as the broker knows.
    async fn is_level(&self, room: RoomKey, seq: Seq) -> Result<bool, Unavailable> {
        let status = self.broker.status(&[room.name]).await?.into_iter().flatten().next();
        Ok(status.is_some_and(|status| status.seq <= seq))
    }

    /// The number of the message that a wall clock means (SPEC 4, `request`): the one this socket was sent first, if it bears
    /// it; else the oldest that bears it; else the first that was accepted from then on. `None`: all are older.
    ///
    /// # Errors
    /// If the broker or SQL could not be read.
    pub async fn find(
        &self,
        room: RoomKey,
        shown: &WallClock,
        oldest_sent: Option<Seq>,
        instant: Option<chrono::DateTime<chrono::Utc>>,
    ) -> Result<Option<Seq>, HistoryError> {
        if let Some(oldest) = oldest_sent {
            let entry = self.before(room, oldest.saturating_add(1)).await?.into_iter().next();
            if entry.is_some_and(|entry| entry.seq == oldest && bears(&entry.frame, shown)) {
                return Ok(Some(oldest));
            }
        }
        // What may not be in SQL yet is read first; it is younger than what is.
        let fresh = match self.archived(room).await? {
            Some(archived) => self.broker.log_after(room.name, archived, TAIL).await?,
            None => Vec::new(),
        };
        let first = |is_it: &dyn Fn(&LogEntry) -> bool| fresh.iter().find(|entry| is_it(entry)).map(|entry| entry.seq);
        if let Some(seq) = self.store.seq_of_datetime(room, shown.whole_seconds()).await? {
            return Ok(Some(seq));
        }
        if let Some(seq) = first(&|entry| bears(&entry.frame, shown)) {
            return Ok(Some(seq));
        }
        let Some(instant) = instant else { return Ok(None) };
        let stored = self.store.seq_accepted_at(room, instant).await?;
        Ok(stored.or_else(|| first(&|entry| entry.accepted_at >= instant)))
    }

    /// A page by offset from the newest, and how many messages there are (SPEC 3, `chat-messages`).
    ///
    /// # Errors
    /// If the broker or SQL could not be read.
    pub async fn by_offset(&self, room: RoomKey, offset: u64, limit: u64) -> Result<(u64, Vec<Message>), HistoryError> {
        let Some(archived) = self.archived(room).await? else {
            let count = self.store.count_messages(room, None).await?;
            return Ok((count, self.store.page_messages(room, None, offset, limit).await?));
        };
        // What may not be in SQL yet, from both: after a failover SQL may know more than the log.
        let log = self.broker.log_after(room.name, archived, TAIL).await?;
        let rows = self.store.messages_between(room, archived, None, TAIL as u64).await?;
        let mut tail: BTreeMap<Seq, Message> = log
            .iter()
            .filter_map(|entry| read_frame(room.chatroom, entry))
            .map(|message| (message.seq, message))
            .collect();
        tail.extend(rows.into_iter().map(|row| (row.seq, row)));
        let fresh = tail.len() as u64;
        let count = fresh + self.store.count_messages(room, Some(archived)).await?;
        let mut page: Vec<Message> = tail.into_values().rev().skip(offset as usize).take(limit as usize).collect();
        let missing = limit.saturating_sub(page.len() as u64);
        if missing > 0 {
            let older = offset.saturating_sub(fresh);
            page.extend(self.store.page_messages(room, Some(archived), older, missing).await?);
        }
        Ok((count, page))
    }

    async fn archived(&self, room: RoomKey) -> Result<Option<Seq>, Unavailable> {
        if !self.has_log {
            return Ok(None);
        }
        Ok(self.broker.status(&[room.name]).await?.into_iter().flatten().next().map(|status| status.archived))
    }
}

/// A message out of its frame.
fn read_frame(chatroom: ChatroomId, entry: &LogEntry) -> Option<Message> {
    let stored: StoredFrame<'_> = serde_json::from_slice(&entry.frame).ok()?;
    stored.into_message(chatroom, entry.accepted_at)
}

fn bears(frame: &Bytes, shown: &WallClock) -> bool {
    serde_json::from_slice::<StoredFrame<'_>>(frame)
        .is_ok_and(|stored| stored.datetime.get(..19) == Some(shown.whole_seconds()))
}

#[cfg(test)]
mod tests;
