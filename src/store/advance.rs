//! What archiving and appending have in common: rooms that move on, rows that are written, a few statements a batch.

use chrono::{DateTime, Utc};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{CaseStatement, Expr, OnConflict, Value};
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter};

use super::counts::Counts;
use super::entity::{chat_message, chatroom};
use super::{millis, to_column};
use crate::domain::Message;

/// Rooms that one UPDATE moves on. Each adds eight CASE arms, which the server walks for each row: the work grows with
/// the square of this.
const ROOMS_A_STATEMENT: usize = 50;

/// Rows that one INSERT writes: seven parameters each, of which SQLite takes 32,766 and MySQL 65,535.
const ROWS_A_STATEMENT: usize = 1_000;

/// A room after its newest message. The caller holds the room's lock and has made sure that nothing falls.
pub(super) struct Advance<'a> {
    pub(super) id: i64,
    pub(super) last_seq: i64,
    pub(super) latest_msg: &'a str,
    pub(super) latest_msg_at: DateTime<Utc>,
    pub(super) updated_at: DateTime<Utc>,
    /// The broker's life in which `last_seq` was given, if known.
    pub(super) last_life: Option<&'a str>,
    /// With the messages of this batch.
    pub(super) counts: Counts,
}

/// Writes the rooms' new ends.
pub(super) async fn advance_rooms(tx: &DatabaseTransaction, rooms: &[Advance<'_>]) -> Result<(), DbErr> {
    for chunk in rooms.chunks(ROOMS_A_STATEMENT) {
        let each = |value: fn(&Advance<'_>) -> Value| -> Expr {
            let arms = CaseStatement::new();
            let arms = chunk
                .iter()
                .fold(arms, |arms, room| arms.case(chatroom::Column::Id.eq(room.id), Expr::value(value(room))));
            arms.into()
        };
        chatroom::Entity::update_many()
            .col_expr(chatroom::Column::LastSeq, each(|room| room.last_seq.into()))
            .col_expr(chatroom::Column::LatestMsg, each(|room| room.latest_msg.into()))
            .col_expr(chatroom::Column::LatestMsgAt, each(|room| room.latest_msg_at.into()))
            .col_expr(chatroom::Column::UpdatedAt, each(|room| room.updated_at.into()))
            .col_expr(chatroom::Column::LastLife, each(|room| room.last_life.map(str::to_owned).into()))
            .col_expr(chatroom::Column::MessageCount, each(|room| room.counts.message_count.into()))
            .col_expr(chatroom::Column::UnreadCount, each(|room| room.counts.unread_count.into()))
            .col_expr(chatroom::Column::CountedThrough, each(|room| room.counts.counted_through.into()))
            .filter(chatroom::Column::Id.is_in(chunk.iter().map(|room| room.id)))
            .exec(tx)
            .await?;
    }
    Ok(())
}

/// Writes messages. One that is there already stays as it is.
pub(super) async fn insert_messages(tx: &DatabaseTransaction, messages: &[&Message]) -> Result<(), DbErr> {
    use chat_message::Column::{ChatroomId, Seq};
    for chunk in messages.chunks(ROWS_A_STATEMENT) {
        let rows = chunk.iter().map(|message| chat_message::ActiveModel {
            chatroom_id: Set(message.chatroom.0),
            seq: Set(to_column(message.seq)),
            is_host: Set(message.side.is_host()),
            message: Set(message.text.clone()),
            datetime: Set(message.datetime.to_string()),
            message_id: Set(message.id.to_string()),
            accepted_at: Set(millis(message.accepted_at)),
        });
        // MySQL: ON DUPLICATE KEY UPDATE seq = VALUES(seq), which is what it was. Never INSERT IGNORE, which would also
        // swallow errors of the data.
        chat_message::Entity::insert_many(rows)
            .on_conflict(OnConflict::columns([ChatroomId, Seq]).update_column(Seq).to_owned())
            .exec_without_returning(tx)
            .await?;
    }
    Ok(())
}
