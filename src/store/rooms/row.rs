//! The row of a room: its key, and its conversion to a [`Room`].

use sea_orm::{ColumnTrait, Condition, DbErr};

use crate::domain::{ChatroomId, HostId, Room, RoomKey, RoomName};
use crate::store::entity::chatroom;
use crate::store::{from_column, parse_column};

/// Key of a room row: the id and, if the caller has it, the name. A row with the same id and another name belongs to
/// another room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomRow {
    /// Id of the row.
    pub id: ChatroomId,
    /// Name that the row must have.
    pub name: Option<RoomName>,
}

impl RoomRow {
    /// Returns the condition that selects the row.
    pub(in crate::store) fn condition(self) -> Condition {
        let row = Condition::all().add(chatroom::Column::Id.eq(self.id.0));
        row.add_option(self.name.map(|name| chatroom::Column::Name.eq(name.as_str())))
    }
}

impl From<ChatroomId> for RoomRow {
    fn from(id: ChatroomId) -> Self {
        Self { id, name: None }
    }
}

impl From<RoomKey> for RoomRow {
    fn from(key: RoomKey) -> Self {
        Self { id: key.chatroom, name: Some(key.name) }
    }
}

pub(in crate::store) fn to_room(row: chatroom::Model) -> Result<Room, DbErr> {
    Ok(Room {
        counts: (&row).into(),
        has_contact: row.guest_email.is_some(),
        id: ChatroomId(row.id),
        host: HostId(row.host_id),
        guest: row.guest,
        name: parse_column("chatroom.name", &row.name)?,
        latest_msg: row.latest_msg,
        latest_msg_at: row.latest_msg_at,
        last_checked_at: row.last_checked_at,
        checked_seq: row.checked_seq.map(from_column),
        is_closed: row.is_closed,
        closed_at: row.closed_at,
        is_fixed: row.is_fixed,
        fixed_at: row.fixed_at,
        created_at: row.created_at,
        updated_at: row.updated_at,
        last_seq: from_column(row.last_seq),
        last_epoch: row.last_epoch,
        state_version: from_column(row.state_version),
        purged_through: from_column(row.purged_through),
    })
}
