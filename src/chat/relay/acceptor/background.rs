//! Work that must not delay the calls of an acceptor: seeding rooms, and responses that need the database.

use std::time::Duration;

use parking_lot::Mutex;

use super::Worker;
use super::submissions::Pending;
use crate::chat::rooms::RoomError;
use crate::domain::{RoomName, Seq};
use crate::protocol::{Close, frame};

/// Delay before the messages of a room are retried after the archive queue was full or the room could not be seeded.
pub(super) const FULL_RETRY: Duration = Duration::from_millis(500);

/// Rooms whose messages are no longer held. If the flag is `true`, the messages are sent. Otherwise the room does not
/// exist, and the messages are rejected.
#[derive(Debug, Default)]
pub(super) struct Released {
    pub(super) rooms: Mutex<Vec<(RoomName, bool)>>,
}

impl Worker {
    pub(super) fn closed(&self, pending: &Pending) {
        // The bus also delivers a notice when a room is closed, usually before the one sent here.
        let (rooms, room, connection) = (self.rooms.clone(), pending.submission.room, pending.connection.clone());
        self.shutdown.spawn(async move {
            let notice = rooms.closed_notice(room).await;
            connection.abandon(notice.map(|notice| frame::text(&notice)), Close::Normal);
        });
    }

    pub(super) fn answer_from_history(&self, pending: &Pending, seq: Seq) {
        let (rooms, room, connection) = (self.rooms.clone(), pending.submission.room, pending.connection.clone());
        self.shutdown.spawn(async move {
            match rooms.original(room, seq).await {
                Ok(Some(original)) => connection.answer_duplicate(seq, frame::text(&original)),
                // Retention purged the original. The client reconnects and retries.
                Ok(None) => connection.close(connection.try_later()),
                Err(error) => {
                    tracing::warn!(%error, %room, "failed to read original of duplicate message, closing socket");
                    connection.close(connection.try_later());
                }
            }
        });
    }

    pub(super) fn seed(&self, room: RoomName) {
        let (rooms, released, submissions) = (self.rooms.clone(), self.released.clone(), self.submissions.clone());
        self.shutdown.spawn(async move {
            let exists = match rooms.seed(room).await {
                Ok(()) => true,
                Err(RoomError::NotFound) => false,
                Err(error) => {
                    tracing::warn!(%error, %room, "failed to load room into redis, retrying");
                    tokio::time::sleep(FULL_RETRY).await;
                    true
                }
            };
            released.rooms.lock().push((room, exists));
            submissions.arrived.notify_one();
        });
    }

    pub(super) fn release_later(&self, room: RoomName, after: Duration) {
        let (released, submissions) = (self.released.clone(), self.submissions.clone());
        self.shutdown.spawn(async move {
            tokio::time::sleep(after).await;
            released.rooms.lock().push((room, true));
            submissions.arrived.notify_one();
        });
    }
}
