//! Finds the message that a client refers to by its displayed time (SPEC 4).

use bytes::Bytes;

use super::{FRAME_BYTES, History, HistoryError, SCAN, count_within, mean_size};
use crate::domain::{RoomKey, Seq, WallClock};
use crate::protocol::chat::StoredFrame;

impl History {
    /// Returns the sequence number of the message that a `request` with the displayed wall-clock time `shown` refers to
    /// (SPEC 4). Returns the first match of:
    /// 1. the oldest message sent to this socket, if it has that wall-clock time
    /// 2. the oldest message in the room with that wall-clock time
    /// 3. the first message accepted at or after `instant`
    ///
    /// Returns `None` if nothing matches.
    ///
    /// # Errors
    /// Returns [`HistoryError`] if the broker or the database could not be read.
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
        // Messages in the database are older than messages that only the log contains, so the database is searched
        // first. If the archiver moves messages from the log to the database during the search, the database is read
        // again.
        let archived = self.archived(room).await?;
        if let Some(seq) = self.store.messages().seq_of_datetime(room, shown.whole_seconds()).await? {
            return Ok(Some(seq));
        }
        let Some(archived) = archived else {
            return Ok(match instant {
                Some(instant) => self.store.messages().seq_accepted_at(room, instant).await?,
                None => None,
            });
        };
        let fresh = self.scan(room, archived, shown, instant).await?;
        if self.archived(room).await? != Some(archived)
            && let Some(seq) = self.store.messages().seq_of_datetime(room, shown.whole_seconds()).await?
        {
            return Ok(Some(seq));
        }
        if fresh.bears.is_some() {
            return Ok(fresh.bears);
        }
        let Some(instant) = instant else { return Ok(None) };
        Ok(self.store.messages().seq_accepted_at(room, instant).await?.or(fresh.accepted))
    }

    /// Searches the log after a sequence number for two messages: the first with the given wall-clock time, and the
    /// first accepted at or after `instant`. Holds the messages of only one read in memory.
    async fn scan(
        &self,
        room: RoomKey,
        after: Seq,
        shown: &WallClock,
        instant: Option<chrono::DateTime<chrono::Utc>>,
    ) -> Result<Found, HistoryError> {
        let (mut at, mut mean, mut found) = (after, None, Found::default());
        let Some(recent) = &self.recent else { return Ok(found) };
        loop {
            let count = count_within(FRAME_BYTES, mean, SCAN);
            let log = recent.log_after(room.name, at, count).await?;
            for entry in &log {
                if found.accepted.is_none() && instant.is_some_and(|instant| entry.accepted_at >= instant) {
                    found.accepted = Some(entry.seq);
                }
                if bears(&entry.frame, shown) {
                    return Ok(Found { bears: Some(entry.seq), ..found });
                }
            }
            if log.len() < count {
                return Ok(found);
            }
            (at, mean) = (log.last().map_or(at, |entry| entry.seq), mean_size(&log));
        }
    }
}

/// Sequence numbers found by a scan of the log.
#[derive(Debug, Default)]
struct Found {
    bears: Option<Seq>,
    accepted: Option<Seq>,
}

fn bears(frame: &Bytes, shown: &WallClock) -> bool {
    serde_json::from_slice::<StoredFrame<'_>>(frame)
        .is_ok_and(|stored| stored.datetime.get(..19) == Some(shown.whole_seconds()))
}
