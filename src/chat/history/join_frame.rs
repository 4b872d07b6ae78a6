//! JoinFrame: the frame with the newest messages that a client receives when it joins a room. It is built once and
//! shared by all clients that join until a newer message arrives. After a node stops, all its clients join at the same
//! time.
//!
//! **Invariant:** a join frame is sent only if its newest message is the room's highest sequence number in the broker.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;

use super::{History, HistoryError, PAGE, RoomKey};
use crate::backend::broker::LogEntry;
use crate::domain::{RoomName, Seq};
use crate::protocol::chat::history_frame;
use crate::protocol::frame;

/// How long a join frame is cached. Far shorter than the retention period, so that it contains no purged messages.
const TTL: Duration = Duration::from_secs(10);

/// Maximum size of the cached join_frames in bytes.
const CAPACITY: u64 = 8 * 1024 * 1024;

/// The newest messages of a room, encoded as one frame.
#[derive(Debug)]
pub struct JoinFrame {
    /// Lowest sequence number in the frame; 0 without messages.
    pub first: Seq,
    /// Highest sequence number in the frame; 0 without messages.
    pub newest: Seq,
    /// Encoded WebSocket frame; `None` without messages.
    pub framed: Option<Bytes>,
}

impl JoinFrame {
    fn new(entries: &[LogEntry]) -> Self {
        let json = history_frame(entries.iter().map(|entry| &*entry.frame), false);
        Self {
            first: entries.first().map_or(0, |entry| entry.seq),
            newest: entries.last().map_or(0, |entry| entry.seq),
            framed: (!entries.is_empty()).then(|| frame::text(&json)),
        }
    }
}

/// Cache of join_frames by room.
#[derive(Clone)]
pub(super) struct JoinFrames(Cache<RoomName, Arc<JoinFrame>>);

impl Default for JoinFrames {
    fn default() -> Self {
        let weight = |_: &RoomName, frame: &Arc<JoinFrame>| {
            frame.framed.as_ref().map_or(1, |bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX))
        };
        Self(Cache::builder().max_capacity(CAPACITY).weigher(weight).time_to_live(TTL).build())
    }
}

impl History {
    /// Returns the cached join frame of a room. It is valid only if `newest` is still the room's highest sequence number.
    pub async fn cached_join_frame(&self, room: RoomName) -> Option<Arc<JoinFrame>> {
        self.join_frames.0.get(&room).await
    }

    /// Returns the join frame of a room whose highest sequence number is `seq`. `log` contains its newest log entries,
    /// newest first, at most [`PAGE`]; with `None` they are read from the broker.
    ///
    /// # Errors
    /// If the broker could not be read, or if SQL could not be read and the log is empty.
    pub async fn join_frame(
        &self,
        room: RoomKey,
        seq: Seq,
        log: Option<Vec<LogEntry>>,
    ) -> Result<Arc<JoinFrame>, HistoryError> {
        let log = match log {
            Some(log) => log,
            None if self.has_log => self.broker.log_before(room.name, None, PAGE).await?,
            None => Vec::new(),
        };
        let newest = Arc::new(JoinFrame::new(&self.newest(room, seq, log).await?));
        if newest.newest == seq && newest.framed.is_some() {
            self.join_frames.0.insert(room.name, newest.clone()).await;
        }
        Ok(newest)
    }
}
