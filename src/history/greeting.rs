//! What somebody who comes into a room is shown: one frame with the newest messages, written once and handed to everybody
//! who comes until there is a newer one. When a node goes, all its people come back at the same time.
//!
//! **Invariant:** a greeting is handed out only for the number that the broker says is the room's highest.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;

use super::{History, HistoryError, PAGE, RoomKey};
use crate::broker::LogEntry;
use crate::domain::{RoomName, Seq};
use crate::protocol::chat::history_frame;
use crate::protocol::frame;

/// How long a greeting is kept. Short enough that nothing is in it which retention has taken: that comes days later.
const TTL: Duration = Duration::from_secs(10);

/// How many bytes of greetings are kept, at most.
const CAPACITY: u64 = 8 * 1024 * 1024;

/// The newest messages, in one frame.
#[derive(Debug)]
pub struct Greeting {
    /// The lowest number in it; 0 without any message.
    pub first: Seq,
    /// The highest.
    pub newest: Seq,
    /// As it goes out; `None` without any message.
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

/// Greetings at hand.
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
    /// A greeting of a moment ago; good only if its number is still the room's highest.
    pub async fn known_greeting(&self, room: RoomName) -> Option<Arc<Greeting>> {
        self.greetings.0.get(&room).await
    }

    /// The greeting of a room whose highest number is `seq`. `log` is the newest that the broker has, newest first, at most
    /// [`PAGE`]; `None`: it is to be asked.
    ///
    /// # Errors
    /// If the broker could not be read; or SQL, and the broker has nothing.
    pub async fn greeting(
        &self,
        room: RoomKey,
        seq: Seq,
        log: Option<Vec<LogEntry>>,
    ) -> Result<Arc<Greeting>, HistoryError> {
        let log = match log {
            Some(log) => log,
            None if self.has_log => self.broker.log_before(room.name, None, PAGE).await?,
            None => Vec::new(),
        };
        let greeting = Arc::new(Greeting::new(&self.newest(room, seq, log).await?));
        if greeting.newest == seq && greeting.framed.is_some() {
            self.greetings.0.insert(room.name, greeting.clone()).await;
        }
        Ok(greeting)
    }
}
