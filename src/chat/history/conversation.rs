//! Streams a whole conversation in parts: first the archived messages in large parts from the database, then the later
//! messages from the log and the database.

use futures_util::Stream;

use super::{History, HistoryError, RoomKey, read_frame};
use crate::domain::{Message, Seq};
use crate::store::StoreError;

/// Target size of one read from the database in bytes, and the range of the number of messages per read.
const PART_BYTES: usize = 512 * 1024;
const PART: std::ops::RangeInclusive<u64> = 32..=1_000;

/// Progress of the stream.
#[derive(Clone, Copy)]
enum Phase {
    /// No message has been read, and the archived range is unknown.
    Start,
    /// Reads messages up to this sequence number from the database, because the room is archived up to it. `None`:
    /// reads all messages from the database.
    Archived(Option<Seq>),
    /// Reads the messages above the archived range from the log and the database.
    Fresh,
    /// All messages have been read.
    Over,
}

struct ConversationReader {
    history: History,
    room: RoomKey,
    after: Seq,
    /// Value of the room's `purged_through` when the stream started.
    purged_through: Seq,
    phase: Phase,
    /// Number of messages that the next read from the database requests.
    part: u64,
}

impl History {
    /// Streams all messages of a room in ascending order, in parts.
    pub fn whole(&self, room: RoomKey) -> impl Stream<Item = Result<Vec<Message>, HistoryError>> + Send + use<> {
        let reading = ConversationReader {
            history: self.clone(),
            room,
            after: 0,
            purged_through: 0,
            phase: Phase::Start,
            part: *PART.start(),
        };
        futures_util::stream::try_unfold(reading, |mut reading| async move {
            Ok(reading.next_part().await?.map(|part| (part, reading)))
        })
    }
}

impl ConversationReader {
    /// Returns an error if the room has been deleted or purged since the stream started, because the conversation would
    /// be incomplete.
    async fn is_whole(&self) -> Result<(), HistoryError> {
        let room = self.history.store.rooms().get(self.room.chatroom).await?;
        if room.is_some_and(|room| room.purged_through == self.purged_through) {
            Ok(())
        } else {
            Err(StoreError::Unavailable("the conversation was deleted while it was read".into()).into())
        }
    }

    async fn next_part(&mut self) -> Result<Option<Vec<Message>>, HistoryError> {
        if let Phase::Start = self.phase {
            let room = self.history.store.rooms().get(self.room.chatroom).await?;
            self.purged_through = room.map_or(0, |room| room.purged_through);
            self.phase = Phase::Archived(self.history.archived(self.room).await?);
        }
        match self.phase {
            Phase::Start => Ok(None),
            Phase::Over => self.is_whole().await.map(|()| None),
            Phase::Archived(through) => {
                let rows = self.history.store.messages().between(self.room, self.after, through, self.part).await?;
                let bytes: usize = rows.iter().map(|row| row.text.len()).sum();
                let fitting = (PART_BYTES / (bytes / rows.len().max(1)).max(1)) as u64;
                let is_end = (rows.len() as u64) < self.part;
                self.part = fitting.min(self.part * 4).clamp(*PART.start(), *PART.end());
                if is_end {
                    self.phase = if self.history.recent.is_some() { Phase::Fresh } else { Phase::Over };
                }
                self.after = rows.last().map_or(self.after, |row| row.seq);
                Ok(Some(rows))
            }
            Phase::Fresh => {
                let step = self.history.after(self.room, self.after).await?;
                if !step.more {
                    self.phase = Phase::Over;
                }
                self.after = step.entries.last().map_or(self.after, |entry| entry.seq);
                Ok(Some(step.entries.iter().filter_map(|entry| read_frame(self.room.chatroom, entry)).collect()))
            }
        }
    }
}
