//! Guard of a chat session. It keeps the session registered in its room and records which messages its peer has read.

use std::sync::Arc;

use super::Sessions;
use crate::chat::history::RoomKey;
use crate::chat::hub::{Connection, Place, Registration};
use crate::chat::rooms::RoomOwner;
use crate::domain::{Seq, Side};

/// Keeps a connection registered in a room until it is dropped.
pub(super) struct RoomGuard {
    context: Arc<Sessions>,
    pub(super) key: RoomKey,
    /// Whether the guest's visits must be stored, because the guest left an e-mail address.
    has_contact: bool,
    pub(super) connection: Arc<Connection>,
    registration: Option<Registration>,
}

impl RoomGuard {
    pub(super) fn enter(context: Arc<Sessions>, owner: RoomOwner, connection: Arc<Connection>) -> Self {
        let RoomOwner { key, has_contact, .. } = owner;
        let registration = Some(context.hub.register(Place::Room(key.name), connection.clone()));
        Self { context, key, has_contact, connection, registration }
    }

    /// Records in the background that the peer has read all messages sent to it. Has no effect for a host who is away.
    pub(super) fn note_visit(&self) {
        if !self.connection.is_away() {
            self.note_seen(self.connection.sent());
        }
    }

    /// Records that the host has read the messages up to a sequence number. For a host who is not away, records all
    /// messages sent to the host.
    pub(super) fn note_read(&self, seq: Seq) {
        let sent = self.connection.sent();
        self.note_seen(if self.connection.is_away() { seq.min(sent) } else { sent });
    }

    fn note_seen(&self, through: Seq) {
        let (context, key, side) = (self.context.clone(), self.key, self.connection.side());
        if side == Side::Guest && !self.has_contact {
            return;
        }
        self.context.tracker.spawn(async move {
            let noted = match side {
                Side::Host => context.rooms.check(key, through).await,
                Side::Guest => context.rooms.see_guest(key, through).await,
            };
            if let Err(error) = noted {
                tracing::debug!(%error, room = %key.name, "failed to store read position");
            }
        });
    }
}

impl Drop for RoomGuard {
    fn drop(&mut self) {
        drop(self.registration.take());
        self.note_visit();
        self.context.members.report_soon(self.key.name);
    }
}
