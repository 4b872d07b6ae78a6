//! Greeting: the frame with the newest messages that a client receives when it joins a room. It is built once and
//! shared by all clients that join until a newer message arrives. After a node stops, all its clients join at the same
//! time.
//!
//! **Invariant:** a greeting is sent only if its newest message is the room's highest sequence number in the broker.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;

use super::{History, HistoryError, RoomKey};
use crate::backend::broker::LogEntry;
use crate::domain::{RoomName, Seq};
use crate::protocol::chat::history_frame;
use crate::protocol::frame;

/// How long a greeting is cached. Far shorter than the retention period, so that it contains no purged messages.
const TTL: Duration = Duration::from_secs(10);

/// Maximum size of the cached greetings in bytes.
const CAPACITY: u64 = 8 * 1024 * 1024;

/// The newest messages of a room, encoded as one frame.
#[derive(Debug)]
pub struct Greeting {
    /// Lowest sequence number in the frame; 0 without messages.
    pub first: Seq,
    /// Highest sequence number in the frame; 0 without messages.
    pub newest: Seq,
    /// Encoded WebSocket frame; `None` without messages.
    pub framed: Option<Bytes>,
}

impl Greeting {
    fn new(entries: &[LogEntry]) -> Self {
        let json = history_frame(entries.iter().map(|entry| &*entry.frame), false);
        Self {
            first: entries.first().map_or(0, |entry| entry.seq),
            newest: entries.last().map_or(0, |entry| entry.seq),
            framed: (!entries.is_empty()).then(|| frame::text(&json)),
        }
    }
}

/// Cache of greetings by room.
#[derive(Clone)]
pub(super) struct Greetings(Cache<RoomName, Arc<Greeting>>);

impl Default for Greetings {
    fn default() -> Self {
        let weight = |_: &RoomName, greeting: &Arc<Greeting>| {
            greeting.framed.as_ref().map_or(1, |frame| u32::try_from(frame.len()).unwrap_or(u32::MAX))
        };
        Self(Cache::builder().max_capacity(CAPACITY).weigher(weight).time_to_live(TTL).build())
    }
}

impl History {
    /// Returns the cached greeting of a room. It is valid only if `newest` is still the room's highest sequence number.
    pub async fn known_greeting(&self, room: RoomName) -> Option<Arc<Greeting>> {
        self.greetings.0.get(&room).await
    }

    /// Returns the greeting of a room whose highest sequence number is `seq`. `log` contains its newest log entries,
    /// newest first, at most [`PAGE`](super::PAGE); with `None` they are read from the broker.
    ///
    /// # Errors
    /// If the broker could not be read, or if SQL could not be read and the log is empty.
    pub async fn greeting(
        &self,
        room: RoomKey,
        seq: Seq,
        log: Option<Vec<LogEntry>>,
    ) -> Result<Arc<Greeting>, HistoryError> {
        let log = match log {
            Some(log) => log,
            None => self.log_before(room.name, None).await?,
        };
        let greeting = Arc::new(Greeting::new(&self.newest(room, seq, log).await?));
        if greeting.newest == seq && greeting.framed.is_some() {
            self.greetings.0.insert(room.name, greeting.clone()).await;
        }
        Ok(greeting)
    }
}
