//! Builds and caches join frames. A join frame contains the newest messages of a room and is sent to a client that
//! joins the room. One frame serves all clients that join before a newer message arrives. The cache matters most after
//! a node stops, because all clients of that node join other nodes at the same time.
//!
//! **Invariant:** a cached join frame is sent only if its newest message is the newest message of the room in the
//! broker.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;

use super::{History, HistoryError, RoomKey};
use crate::backend::broker::LogEntry;
use crate::domain::{RoomName, Seq};
use crate::protocol::chat::history_frame;
use crate::protocol::frame;

/// Time for which a join frame is cached. A cached frame contains purged messages for at most this time.
const TTL: Duration = Duration::from_secs(10);

/// Maximum total size of the cached join frames, in bytes.
const CAPACITY: u64 = 8 * 1024 * 1024;

/// The newest messages of a room, encoded as one frame.
#[derive(Debug)]
pub struct JoinFrame {
    /// Lowest sequence number in the frame; 0 if the room has no messages.
    pub first: Seq,
    /// Highest sequence number in the frame; 0 if the room has no messages.
    pub newest: Seq,
    /// Encoded WebSocket frame; `None` if the room has no messages.
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

/// Cache of join frames by room.
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
    /// Returns the join frame of a room whose highest sequence number is `seq`. Nothing is read for a room without
    /// messages.
    ///
    /// # Errors
    /// Returns [`HistoryError`] if the broker could not be read, or if the log is empty and the database could not be
    /// read.
    pub async fn join_frame(&self, room: RoomKey, seq: Seq) -> Result<Arc<JoinFrame>, HistoryError> {
        if seq == 0 {
            return Ok(Arc::new(JoinFrame { first: 0, newest: 0, framed: None }));
        }
        if let Some(cached) = self.join_frames.0.get(&room.name).await.filter(|cached| cached.newest == seq) {
            return Ok(cached);
        }
        let log = self.log_before(room.name, None).await?;
        let newest = Arc::new(JoinFrame::new(&self.newest(room, seq, log).await?));
        if newest.newest == seq && newest.framed.is_some() {
            self.join_frames.0.insert(room.name, newest.clone()).await;
        }
        Ok(newest)
    }
}
