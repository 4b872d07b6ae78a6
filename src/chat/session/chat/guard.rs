//! Guard of a chat session. It keeps the session registered in its room and records which messages its peer has read.

use std::sync::Arc;

use super::Sessions;
use crate::chat::history::RoomKey;
use crate::chat::hub::{Connection, Place, Registration};
use crate::chat::rooms::RoomOwner;
use crate::domain::{Seq, Side};

/// Keeps a connection registered in a room until this guard is dropped.
pub(super) struct RoomGuard {
    context: Arc<Sessions>,
    owner: RoomOwner,
    pub(super) connection: Arc<Connection>,
    registration: Option<Registration>,
}

impl RoomGuard {
    pub(super) fn enter(context: Arc<Sessions>, owner: RoomOwner, connection: Arc<Connection>) -> Self {
        let registration = Some(context.hub.register(Place::Room(owner.key.name), connection.clone()));
        Self { context, owner, connection, registration }
    }

    /// Returns the key of the room.
    pub(super) fn key(&self) -> RoomKey {
        self.owner.key
    }

    /// Reads whether the visits of a guest must be stored, unless that is known or the guest has received no messages.
    /// While the database is unavailable, the guest joins nevertheless.
    pub(super) async fn read_contact(&mut self) {
        if self.connection.side() == Side::Guest && self.owner.has_contact.is_none() && self.connection.sent() > 0 {
            self.owner.has_contact = self.context.rooms.has_contact(self.owner).await.ok();
        }
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
        let (context, owner, side) = (self.context.clone(), self.owner, self.connection.side());
        // A guest's visit is needed only for e-mails about missed messages. It is not stored if the guest received no
        // message or left no address.
        if side == Side::Guest && (through == 0 || owner.has_contact == Some(false)) {
            return;
        }
        self.context.tracker.spawn(async move {
            let noted = match side {
                Side::Host => context.rooms.check(owner.key, through).await,
                Side::Guest => context.rooms.see_guest(owner, through).await,
            };
            if let Err(error) = noted {
                tracing::debug!(%error, room = %owner.key.name, "failed to store read position");
            }
        });
    }
}

impl Drop for RoomGuard {
    fn drop(&mut self) {
        drop(self.registration.take());
        self.note_visit();
        self.context.members.report_soon(self.owner.key.name);
    }
}
