//! Reads the messages of a room from the broker's log. Messages that are missing from the log are read from the
//! database.
//!
//! **Invariant:** every acknowledged message is found. A read before or after a sequence number reads the log before
//! the database, and a message is removed from the log only after it was committed to the database.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::backend::broker::{LogEntry, RecentLog, RoomStates};
use crate::backend::{Backend, Unavailable};
pub use crate::domain::RoomKey;
use crate::domain::{ChatroomId, Message, RoomName, Seq};
use crate::protocol::chat::{StoredFrame, message_frame};
use crate::store::{Store, StoreError};

mod conversation;
mod find;
mod join_frame;

pub use join_frame::JoinFrame;
use join_frame::JoinFrames;

/// Maximum number of messages in a page on a socket.
pub const PAGE: usize = 50;

/// Maximum number of messages in a [`Step`].
const STEP: usize = 128;

/// Maximum size of the messages in a [`Step`], in bytes: 128 KiB, the maximum size of its frame (SPEC 4), minus 64
/// bytes for the enclosing JSON.
const FRAME_BYTES: usize = 128 * 1024 - 64;

/// Maximum size of a page on a socket, in bytes. The value is below the capacity of an outbox (256 KiB).
const SOCKET_PAGE_BYTES: usize = 240 * 1024;

/// Maximum size of a page that HTTP clients request by offset, in bytes.
const PAGE_BYTES: usize = 1024 * 1024;

/// Number of messages that the first read of a log requests. Later reads adapt the number to the size of the messages
/// in the previous read.
const FIRST_READ: usize = 16;

/// Maximum number of messages per read while the log is scanned. The messages are not kept in memory.
const SCAN: usize = 256;

/// Number of sequence numbers above the archived range at which [`History::by_offset`] stops reading each store.
const TAIL: usize = 100_000;

/// Failure to read the broker or the database.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HistoryError {
    /// The broker could not be read.
    #[error(transparent)]
    Broker(#[from] Unavailable),
    /// The database could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Messages after a sequence number, in ascending order, limited to one frame.
#[derive(Debug, Default)]
pub struct Step {
    /// Log entries of the messages, in ascending order.
    pub entries: Vec<LogEntry>,
    /// Whether more messages may exist after these.
    pub more: bool,
    bytes: usize,
}

impl Step {
    /// Adds an entry if it fits, and returns whether it was added. The first entry always fits.
    fn push(&mut self, entry: LogEntry) -> bool {
        let size = entry.frame.len() + 1;
        let fits = self.entries.is_empty() || (self.bytes + size <= FRAME_BYTES && self.entries.len() < STEP);
        if fits {
            self.bytes += size;
            self.entries.push(entry);
        } else {
            self.more = true;
        }
        fits
    }
}

/// Reads the messages of rooms from the broker and the database.
#[derive(Clone)]
pub struct History {
    states: Arc<dyn RoomStates>,
    /// Log of the messages that may not be in the database yet. `None` on a single-node server, where the database is
    /// the log.
    recent: Option<Arc<dyn RecentLog>>,
    store: Store,
    join_frames: JoinFrames,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("store", &self.store).finish_non_exhaustive()
    }
}

impl From<Message> for LogEntry {
    fn from(message: Message) -> Self {
        LogEntry { seq: message.seq, accepted_at: message.accepted_at, frame: message_frame(&message) }
    }
}

impl History {
    /// Creates a reader of a broker and a database.
    pub fn new(backend: &Backend, store: Store) -> Self {
        let recent = backend.cluster.as_ref().map(|cluster| cluster.recent.clone());
        Self { states: backend.states.clone(), recent, store, join_frames: JoinFrames::default() }
    }

    /// Returns the newest log entries, newest first, at most [`PAGE`]. If `before` is set, returns only entries with a
    /// sequence number below it. Returns an empty list on a single-node server, where the database is the log.
    async fn log_before(&self, room: RoomName, before: Option<Seq>) -> Result<Vec<LogEntry>, Unavailable> {
        match &self.recent {
            Some(recent) => recent.log_before(room, before, PAGE).await,
            None => Ok(Vec::new()),
        }
    }

    /// Returns the messages after a sequence number, in ascending order, as many as fit into one frame.
    ///
    /// # Errors
    /// Returns [`HistoryError`] if the broker could not be read, or if the database was needed and could not be read.
    pub async fn after(&self, room: RoomKey, after: Seq) -> Result<Step, HistoryError> {
        let mut step = Step::default();
        let Some(recent) = &self.recent else {
            self.between(room, after, None, &mut step).await?;
            return Ok(step);
        };
        let (mut at, mut mean) = (after, None);
        loop {
            let count = count_within(FRAME_BYTES - step.bytes, mean, STEP + 1 - step.entries.len());
            let log = recent.log_after(room.name, at, count).await?;
            let is_end = log.len() < count;
            if log.is_empty() && at == after && !self.is_up_to_date(room, after).await? {
                self.between(room, after, None, &mut step).await?;
                return Ok(step);
            }
            mean = mean_size(&log);
            for entry in log {
                // Messages between the previous entry and this one are read from the database. They were trimmed from
                // the log, or they precede a change of the Redis epoch.
                if entry.seq > at + 1 && !self.between(room, at, Some(entry.seq - 1), &mut step).await? {
                    return Ok(step);
                }
                at = entry.seq;
                if !step.push(entry) {
                    return Ok(step);
                }
            }
            if is_end {
                return Ok(step);
            }
        }
    }

    /// Returns the newest messages of a room, at most [`PAGE`] messages and 240 KiB, in ascending order. `seq` is the
    /// highest sequence number of the room. `log` contains the newest log entries, newest first. If the database cannot
    /// be read, returns only the messages of `log`.
    ///
    /// # Errors
    /// Returns an error if `log` is empty and the database could not be read.
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
            Err(_) if !log.is_empty() => {
                let mut log = log;
                bound(&mut log);
                log
            }
            page => page?,
        };
        entries.reverse();
        Ok(entries)
    }

    /// Returns the messages before a sequence number, newest first, at most [`PAGE`] messages and 240 KiB. While the
    /// database is unavailable, the page ends at the first message that is missing from the log.
    ///
    /// # Errors
    /// Returns [`HistoryError`] if the broker could not be read. Also returns it if the database could not be read and
    /// the message directly before `before` is missing from the log.
    pub async fn before(&self, room: RoomKey, before: Seq) -> Result<Vec<LogEntry>, HistoryError> {
        let log = self.log_before(room.name, Some(before)).await?;
        let mut known = log.clone();
        match self.page(room, Some(before), log).await {
            Ok(page) => Ok(page),
            Err(error) => {
                // While the database is unavailable, the page consists of the contiguous log entries directly below
                // `before`.
                let mut next = before;
                let follows = |entry: &&LogEntry| {
                    let follows = entry.seq + 1 == next;
                    next = entry.seq;
                    follows
                };
                let contiguous = known.iter().take_while(follows).count();
                known.truncate(contiguous);
                if known.is_empty() {
                    return Err(error.into());
                }
                bound(&mut known);
                Ok(known)
            }
        }
    }

    /// Returns a page below `before`, newest first, at most [`PAGE`] messages and 240 KiB. Messages that are missing
    /// from the log are read from the database.
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
        if above != Some(1) && entries.len() < PAGE && size_of(&entries) < SOCKET_PAGE_BYTES {
            self.fill(room, above, None, &mut entries).await?;
        }
        bound(&mut entries);
        Ok(entries)
    }

    /// Adds messages from the database with sequence numbers between `floor` and `above`, both exclusive, newest first.
    async fn fill(
        &self,
        room: RoomKey,
        above: Option<Seq>,
        floor: Option<Seq>,
        entries: &mut Vec<LogEntry>,
    ) -> Result<(), StoreError> {
        let want = PAGE.saturating_sub(entries.len());
        let rows = self.store.messages().before(room, above, want as u64).await?;
        entries.extend(rows.into_iter().filter(|row| floor.is_none_or(|floor| row.seq > floor)).map(LogEntry::from));
        Ok(())
    }

    /// Adds messages from the database after `after`, up to and including `through`. Returns `false` if the step is
    /// full, or if [`STEP`] rows were read and more may follow.
    async fn between(
        &self,
        room: RoomKey,
        after: Seq,
        through: Option<Seq>,
        step: &mut Step,
    ) -> Result<bool, StoreError> {
        let rows = self.store.messages().between(room, after, through, STEP as u64).await?;
        let full = rows.len() == STEP;
        for row in rows {
            if !step.push(row.into()) {
                return Ok(false);
            }
        }
        step.more |= full;
        Ok(!full)
    }

    /// Returns whether the broker contains the room and its highest sequence number there is at most `seq`.
    async fn is_up_to_date(&self, room: RoomKey, seq: Seq) -> Result<bool, Unavailable> {
        let status = self.states.status(&[room.name]).await?.into_iter().flatten().next();
        Ok(status.is_some_and(|status| status.seq <= seq))
    }

    /// Returns the number of messages in a room and one page by offset from the newest (SPEC 3, `chat-messages`). The
    /// page ends at about 1 MiB.
    ///
    /// # Errors
    /// Returns [`HistoryError`] if the broker or the database could not be read.
    pub async fn by_offset(&self, room: RoomKey, offset: u64, limit: u64) -> Result<(u64, Vec<Message>), HistoryError> {
        let Some(archived) = self.archived(room).await? else {
            let count = self.store.rooms().count_messages(room, None).await?;
            return Ok((count, self.store.messages().page(room, None, offset, limit, PAGE_BYTES).await?));
        };
        // Collects the sequence numbers above the archived range from both stores: after a failover, messages that are
        // missing from the log may be in the database.
        let mut fresh: BTreeSet<Seq> =
            self.store.messages().seqs_between(room, archived, TAIL as u64).await?.into_iter().collect();
        if let Some(recent) = &self.recent {
            fresh.extend(log_numbers(&**recent, room.name, archived, TAIL).await?);
        }
        let count = fresh.len() as u64 + self.store.rooms().count_messages(room, Some(archived)).await?;
        let mut page: Vec<Message> = Vec::new();
        let mut bytes = 0;
        let mut of_page = fresh.iter().rev().skip(offset as usize).take(limit as usize).copied().peekable();
        while let Some(highest) = of_page.peek().copied() {
            let read = self.before(room, highest.saturating_add(1)).await?;
            let lowest = read.last().map_or(highest, |entry| entry.seq);
            let wanted: BTreeSet<Seq> = std::iter::from_fn(|| of_page.next_if(|seq| *seq >= lowest)).collect();
            for message in read.iter().filter(|entry| wanted.contains(&entry.seq)) {
                bytes += message.frame.len();
                if bytes > PAGE_BYTES && !page.is_empty() {
                    return Ok((count, page));
                }
                page.extend(read_frame(room.chatroom, message));
            }
        }
        let missing = limit.saturating_sub(page.len() as u64);
        if missing > 0 && bytes < PAGE_BYTES {
            let older = offset.saturating_sub(fresh.len() as u64);
            let left = PAGE_BYTES - bytes;
            page.extend(self.store.messages().page(room, Some(archived), older, missing, left).await?);
        }
        Ok((count, page))
    }

    async fn archived(&self, room: RoomKey) -> Result<Option<Seq>, Unavailable> {
        if self.recent.is_none() {
            return Ok(None);
        }
        Ok(self.states.status(&[room.name]).await?.into_iter().flatten().next().map(|status| status.archived))
    }
}

/// Returns the sequence numbers after `after` in the log of a room, in ascending order. Stops reading when at least
/// `most` numbers are found. Holds the messages of only one read in memory.
///
/// # Errors
/// Returns [`Unavailable`] if the broker could not be read.
pub(crate) async fn log_numbers(
    recent: &dyn RecentLog,
    room: RoomName,
    after: Seq,
    most: usize,
) -> Result<Vec<Seq>, Unavailable> {
    let (mut numbers, mut mean) = (Vec::new(), None);
    loop {
        let count = count_within(FRAME_BYTES, mean, SCAN);
        let log = recent.log_after(room, numbers.last().copied().unwrap_or(after), count).await?;
        numbers.extend(log.iter().map(|entry| entry.seq));
        if log.len() < count || numbers.len() >= most {
            return Ok(numbers);
        }
        mean = mean_size(&log);
    }
}

/// Returns the number of messages that a read must request to receive about `bytes` bytes. Redis limits a read only by
/// count. `mean` is the mean message size of the previous read.
fn count_within(bytes: usize, mean: Option<usize>, most: usize) -> usize {
    mean.map_or(FIRST_READ, |mean| (bytes / mean.max(1)).max(FIRST_READ)).min(most)
}

fn mean_size(entries: &[LogEntry]) -> Option<usize> {
    size_of(entries).checked_div(entries.len())
}

fn size_of(entries: &[LogEntry]) -> usize {
    entries.iter().map(|entry| entry.frame.len() + 1).sum()
}

/// Truncates a page for a socket to at most [`PAGE`] messages and [`SOCKET_PAGE_BYTES`]. Keeps at least one message.
fn bound(entries: &mut Vec<LogEntry>) {
    let mut bytes = 0;
    let fits = |entry: &&LogEntry| {
        bytes += entry.frame.len() + 1;
        bytes <= SOCKET_PAGE_BYTES
    };
    let fitting = entries.iter().take_while(fits).count().max(1);
    entries.truncate(fitting.min(PAGE));
}

/// Decodes the message in a log entry.
fn read_frame(chatroom: ChatroomId, entry: &LogEntry) -> Option<Message> {
    let stored: StoredFrame<'_> = serde_json::from_slice(&entry.frame).ok()?;
    stored.into_message(chatroom, entry.accepted_at)
}

#[cfg(test)]
mod tests;
