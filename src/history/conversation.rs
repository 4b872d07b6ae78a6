//! A whole conversation, read in parts: what SQL has for good in large ones, what may still be on its way there as every
//! reader of the present gets it.

use futures_util::Stream;

use super::{History, HistoryError, RoomKey, read_frame};
use crate::domain::{Message, Seq};
use crate::store::StoreError;

/// The bytes of messages that one read of SQL aims at, and the bounds of its count.
const PART_BYTES: usize = 512 * 1024;
const PART: std::ops::RangeInclusive<u64> = 32..=1_000;

/// How far the reading is.
#[derive(Clone, Copy)]
enum Phase {
    /// Nothing is read, and nobody knows what SQL has.
    Start,
    /// In SQL, up to a number that it has for good; `None`: all it has.
    Archived(Option<Seq>),
    /// Above.
    Fresh,
    /// At the end.
    Over,
}

struct Reading {
    history: History,
    room: RoomKey,
    after: Seq,
    /// What retention had taken when the reading began.
    purged_through: Seq,
    phase: Phase,
    /// Messages of the next read of SQL.
    part: u64,
}

impl History {
    /// All messages, ascending, in parts.
    pub fn whole(&self, room: RoomKey) -> impl Stream<Item = Result<Vec<Message>, HistoryError>> + Send + use<> {
        let reading = Reading {
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

impl Reading {
    /// A room that was left, or that retention took, while it was read gave only a part of itself.
    async fn is_whole(&self) -> Result<(), HistoryError> {
        let room = self.history.store.room(self.room.chatroom).await?;
        if room.is_some_and(|room| room.purged_through == self.purged_through) {
            Ok(())
        } else {
            Err(StoreError::Unavailable("the conversation was deleted while it was read".to_owned()).into())
        }
    }

    async fn next_part(&mut self) -> Result<Option<Vec<Message>>, HistoryError> {
        if let Phase::Start = self.phase {
            let room = self.history.store.room(self.room.chatroom).await?;
            self.purged_through = room.map_or(0, |room| room.purged_through);
            self.phase = Phase::Archived(self.history.archived(self.room).await?);
        }
        match self.phase {
            Phase::Start => Ok(None),
            Phase::Over => self.is_whole().await.map(|()| None),
            Phase::Archived(through) => {
                let rows = self.history.store.messages_between(self.room, self.after, through, self.part).await?;
                let bytes: usize = rows.iter().map(|row| row.text.len()).sum();
                // A read of short messages is followed by one of more.
                let fitting = (PART_BYTES / (bytes / rows.len().max(1)).max(1)) as u64;
                let is_end = (rows.len() as u64) < self.part;
                self.part = fitting.min(self.part * 4).clamp(*PART.start(), *PART.end());
                if is_end {
                    self.phase = if self.history.has_log { Phase::Fresh } else { Phase::Over };
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
