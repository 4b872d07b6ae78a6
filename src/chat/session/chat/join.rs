//! Admission to a room: identity of the peer, state of the room, limits, and first frames of the socket.

use std::sync::Arc;

use super::guard::RoomGuard;
use super::{ChatSession, Sessions};
use crate::backend::broker::RoomStatus;
use crate::chat::history::{JoinFrame, RoomKey};
use crate::chat::hub::{Connection, Identity};
use crate::chat::rooms::{RoomError, RoomOwner};
use crate::chat::session::{Handshake, Refusal};
use crate::domain::{Host, RoomChange, RoomName, RoomState, Seq, Side};
use crate::protocol::chat::closed_frame;
use crate::protocol::{Close, frame};

impl Sessions {
    /// Admits a connection to a room.
    ///
    /// # Errors
    /// Returns the [`Refusal`] with the close code of SPEC 4.
    pub async fn open_chat(self: &Arc<Self>, name: &str, handshake: &Handshake) -> Result<ChatSession, Refusal> {
        let name: RoomName = name.parse().map_err(|_| Close::NotFound)?;
        let after = handshake.after.as_deref().map(read_after).transpose()?;
        let (owner, host, identity) = self.identify_member(name, handshake).await?;
        let connection = self.hub.connection_with(identity, handshake.extras);
        // The connection is registered before the history is read, so that it receives messages that are published
        // during the read.
        connection.start_after(0);
        let mut guard = RoomGuard::enter(self.clone(), owner, connection.clone());
        match after {
            Some(after) => self.rejoin(owner.key, &connection, after).await?,
            None => self.join(owner.key, &connection).await?,
        }
        guard.read_contact().await;
        Ok(ChatSession::new(self.clone(), guard, &host, after.is_some()))
    }

    /// Returns the owner of the room, the host, and the identity of the peer. The peer must be a guest or this host.
    async fn identify_member(
        &self,
        name: RoomName,
        handshake: &Handshake,
    ) -> Result<(RoomOwner, Arc<Host>, Identity), Refusal> {
        let owner = self.rooms.owner_for_join(name).await.map_err(|error| self.refusal_of(&error))?;
        let owner = owner.ok_or(Close::NotFound)?;
        let host = self.active_host(owner.host).await?;
        let identity = self.identify(handshake, &host).await?;
        if matches!(&identity, Identity::Host { host, .. } if *host != owner.host) {
            return Err(Close::Forbidden.into());
        }
        Ok((owner, host, identity))
    }

    /// Admits a connection without `after`. Queues the join frame, which may come from the cache.
    async fn join(&self, room: RoomKey, connection: &Connection) -> Result<(), Refusal> {
        let status = self.enter(room, connection, false).await?;
        let newest = self.history.join_frame(room, status.seq).await;
        send_join_frame(connection, &*newest.map_err(|error| self.refusal_of(&error.into()))?, status.seq);
        Ok(())
    }

    /// Admits a connection with `after`, the last sequence number that the client received. The connection catches up
    /// from that number.
    async fn rejoin(&self, room: RoomKey, connection: &Connection, after: Seq) -> Result<(), Refusal> {
        let status = self.enter(room, connection, true).await?;
        self.replay(room, &status, connection, after).await
    }

    /// Reports the connection and checks the limits and the state of the room. Returns the status of the room.
    async fn enter(
        &self,
        room: RoomKey,
        connection: &Connection,
        is_reconnecting: bool,
    ) -> Result<RoomStatus, Refusal> {
        let status = self.members.report(room.name).await.map_err(|error| self.refusal_of(&error))?;
        // Sockets are limited per side, so that guests cannot prevent the host from joining.
        let sockets = match connection.side() {
            Side::Guest => status.guests,
            Side::Host => status.hosts + status.away,
        };
        if self.limits.room_sockets.is_some_and(|limit| sockets > limit) {
            return Err(Close::TooMany.into());
        }
        self.admit_to_state(room, &status, connection.side(), is_reconnecting).await?;
        Ok(status)
    }

    /// Checks the state of the room. A closed room rejects all hosts, and guests who reconnect. A guest who joins
    /// without a sequence number reopens the room.
    async fn admit_to_state(
        &self,
        room: RoomKey,
        status: &RoomStatus,
        side: Side,
        is_reconnecting: bool,
    ) -> Result<(), Refusal> {
        match (status.state, side) {
            (RoomState::Open, _) => Ok(()),
            (RoomState::Deleted, _) => Err(Close::NotFound.into()),
            (RoomState::Closed, Side::Host) => Err(Close::Unavailable.into()),
            (RoomState::Closed, Side::Guest) if is_reconnecting => {
                // A background tab that reconnects must not reopen a room that the host has closed.
                let notice = self.rooms.closed_notice(room.name).await;
                let notice = notice.unwrap_or_else(|| closed_frame(&self.wire.wall_clock(self.clock.now())));
                Err(Refusal { frame: Some(frame::text(&notice)), close: Close::Normal })
            }
            (RoomState::Closed, Side::Guest) => {
                self.rooms.change(room.name, RoomChange::Resume).await.map_err(|error| self.refusal_of(&error))?;
                Ok(())
            }
        }
    }

    /// Starts to catch up after the sequence number that the client sent, or after the highest existing one if that is
    /// lower.
    async fn replay(
        &self,
        room: RoomKey,
        status: &RoomStatus,
        connection: &Connection,
        after: Seq,
    ) -> Result<(), Refusal> {
        let mut known = status.seq;
        if after > known {
            // After a failover, the highest sequence number may be in the database instead of the broker.
            known = known.max(self.rooms.stored_seq(room).await.map_err(|error| self.refusal_of(&error))?);
        }
        connection.start_after(after.min(known));
        Ok(())
    }

    pub(super) fn refusal_of(&self, error: &RoomError) -> Close {
        match error {
            RoomError::NotFound => Close::NotFound,
            RoomError::NotYours => Close::Forbidden,
            RoomError::TooManyPinned | RoomError::Closed => Close::Unavailable,
            RoomError::Unavailable(why) => {
                tracing::warn!(error = why, "chat socket request failed: store unavailable");
                self.try_later()
            }
        }
    }
}

/// Queues the newest messages for a client that joins without a sequence number. `seq` is the highest sequence number
/// that the room had shortly before.
fn send_join_frame(connection: &Connection, frame: &JoinFrame, seq: Seq) {
    if let Some(framed) = &frame.framed {
        connection.push_from_log(framed.clone(), frame.first, frame.newest);
    }
    connection.caught_up(frame.newest, frame.newest);
    if frame.newest < seq {
        // The frame lacks the newest messages, for example because retention purged all messages. If the next read
        // finds no messages either, the socket is up to date.
        connection.catch_up(seq);
    }
}

/// Parses `after`, which must consist of digits. A number that overflows becomes the maximum.
fn read_after(text: &str) -> Result<Seq, Close> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { Ok(text.parse().unwrap_or(Seq::MAX)) } else { Err(Close::BadForm("after is not a number")) }
}
