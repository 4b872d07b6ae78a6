//! Streams a whole conversation in parts. Archived messages are read from SQL in large parts; later messages are read
//! from the log and SQL.

use futures_util::Stream;

use super::{History, HistoryError, RoomKey, read_frame};
use crate::domain::{Message, Seq};
use crate::store::StoreError;

/// Target size of one read from SQL in bytes, and bounds for the number of messages per read.
const PART_BYTES: usize = 512 * 1024;
const PART: std::ops::RangeInclusive<u64> = 32..=1_000;

/// Progress of the stream.
#[derive(Clone, Copy)]
enum Phase {
    /// No message was read yet, and the archived range is unknown.
    Start,
    /// Messages up to this sequence number are read from SQL, because the room is archived up to it. `None`: all
    /// messages are read from SQL.
    Archived(Option<Seq>),
    /// Messages above the archived range are read from the log and SQL.
    Fresh,
    /// All messages were read.
    Over,
}

struct ConversationReader {
    history: History,
    room: RoomKey,
    after: Seq,
    /// The room's `purged_through` value when the stream started.
    purged_through: Seq,
    phase: Phase,
    /// Number of messages that the next read from SQL requests.
    part: u64,
}

impl History {
    /// Streams all messages of a room, ascending, in parts.
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
    /// Fails if the room was deleted or purged during the stream, because the conversation would be incomplete.
    async fn is_whole(&self) -> Result<(), HistoryError> {
        let room = self.history.store.rooms().get(self.room.chatroom).await?;
        if room.is_some_and(|room| room.purged_through == self.purged_through) {
            Ok(())
        } else {
            Err(StoreError::Unavailable("the conversation was deleted while it was read".to_owned()).into())
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
                // If the messages were short, the next read requests more of them.
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
