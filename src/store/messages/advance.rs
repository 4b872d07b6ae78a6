//! Statements shared by archiving and appending: one updates the rooms of a batch, and one inserts its messages.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{CaseStatement, Expr, Value};
use sea_orm::{
    ColumnTrait, ConnectionTrait as _, DatabaseTransaction, DbBackend, DbErr, EntityTrait, QueryFilter, Statement,
};

use crate::domain::Message;
use crate::store::counts::Counts;
use crate::store::entity::chatroom;
use crate::store::{millis, to_column};

/// Maximum number of rooms per UPDATE on SQLite. Each room adds eight CASE arms, which SQLite evaluates for each row,
/// so the cost grows with the square of this number.
const ROOMS_PER_STATEMENT: usize = 50;

/// Maximum number of rows per INSERT. Each row has seven parameters. SQLite accepts 32,766 parameters per statement,
/// and MySQL accepts 65,535.
const ROWS_PER_STATEMENT: usize = 1_000;

// MariaDB copies a LONGTEXT column into a shorter text column without a check: of 70,000 bytes, a TEXT column receives
// 4,464. The result of CONCAT is checked like any other value.

/// The join order is fixed, so that the server looks up rooms by primary key and locks no other row.
const UPDATE_ROOMS: &str = "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (
    id BIGINT PATH '$[0]' ERROR ON ERROR,
    last_seq BIGINT PATH '$[1]' ERROR ON ERROR,
    latest_msg LONGTEXT PATH '$[2]' ERROR ON ERROR,
    latest_msg_at DATETIME(3) PATH '$[3]' ERROR ON ERROR,
    updated_at DATETIME(3) PATH '$[4]' ERROR ON ERROR,
    last_life LONGTEXT PATH '$[5]' ERROR ON ERROR,
    message_count BIGINT PATH '$[6]' ERROR ON ERROR,
    unread_count BIGINT PATH '$[7]' ERROR ON ERROR,
    counted_through BIGINT PATH '$[8]' ERROR ON ERROR
)) AS new STRAIGHT_JOIN chatroom ON chatroom.id = new.id SET
    chatroom.last_seq = new.last_seq,
    chatroom.latest_msg = CONCAT(new.latest_msg),
    chatroom.latest_msg_at = new.latest_msg_at,
    chatroom.updated_at = new.updated_at,
    chatroom.last_life = new.last_life,
    chatroom.message_count = new.message_count,
    chatroom.unread_count = new.unread_count,
    chatroom.counted_through = new.counted_through";

/// The statement is built without the query builder, which allocates several times per value.
const INSERT_MESSAGES: &str = "INSERT INTO chat_message
    (chatroom_id, seq, is_host, message, datetime, message_id, accepted_at) VALUES";

/// Leaves an existing row unchanged. INSERT IGNORE must not be used, because it would also suppress data errors.
const KEEP_ROW_OF_MYSQL: &str = " ON DUPLICATE KEY UPDATE seq = VALUES(seq)";
const KEEP_ROW_OF_SQLITE: &str = " ON CONFLICT (chatroom_id, seq) DO UPDATE SET seq = excluded.seq";

/// Values of a room row after its newest message. The caller holds the room's lock and guarantees that no value
/// decreases.
pub(in crate::store) struct Advance<'a> {
    pub(in crate::store) id: i64,
    pub(in crate::store) last_seq: i64,
    pub(in crate::store) latest_msg: &'a str,
    pub(in crate::store) latest_msg_at: DateTime<Utc>,
    pub(in crate::store) updated_at: DateTime<Utc>,
    /// Redis epoch in which `last_seq` was assigned, if known.
    pub(in crate::store) last_epoch: Option<&'a str>,
    /// Counts that include the messages of this batch.
    pub(in crate::store) counts: Counts,
}

/// Updates the rows of `rooms`.
pub(in crate::store) async fn advance_rooms(tx: &DatabaseTransaction, rooms: &[Advance<'_>]) -> Result<(), DbErr> {
    if rooms.is_empty() {
        return Ok(());
    }
    if tx.get_database_backend() == DbBackend::MySql {
        return advance_rooms_of_mysql(tx, rooms).await;
    }
    for chunk in rooms.chunks(ROOMS_PER_STATEMENT) {
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
            .col_expr(chatroom::Column::LastEpoch, each(|room| room.last_epoch.map(str::to_owned).into()))
            .col_expr(chatroom::Column::MessageCount, each(|room| room.counts.message_count.into()))
            .col_expr(chatroom::Column::UnreadCount, each(|room| room.counts.unread_count.into()))
            .col_expr(chatroom::Column::CountedThrough, each(|room| room.counts.counted_through.into()))
            .filter(chatroom::Column::Id.is_in(chunk.iter().map(|room| room.id)))
            .exec(tx)
            .await?;
    }
    Ok(())
}

/// Updates the rows of `rooms` with one statement whose only parameter is a JSON document. The server prepares the
/// statement once per connection, and its cost per room is constant.
async fn advance_rooms_of_mysql(tx: &DatabaseTransaction, rooms: &[Advance<'_>]) -> Result<(), DbErr> {
    let rows = rooms.iter().map(|room| {
        (
            room.id,
            room.last_seq,
            room.latest_msg,
            column_time(room.latest_msg_at),
            column_time(room.updated_at),
            room.last_epoch,
            room.counts.message_count,
            room.counts.unread_count,
            room.counts.counted_through,
        )
    });
    let rows = serde_json::to_string(&rows.collect::<Vec<_>>()).map_err(|error| DbErr::Json(error.to_string()))?;
    tx.execute_raw(Statement::from_sql_and_values(DbBackend::MySql, UPDATE_ROOMS, [rows.into()])).await?;
    Ok(())
}

/// Inserts messages. Existing rows stay unchanged.
pub(in crate::store) async fn insert_messages(tx: &DatabaseTransaction, messages: &[&Message]) -> Result<(), DbErr> {
    let backend = tx.get_database_backend();
    let on_conflict = if backend == DbBackend::MySql { KEEP_ROW_OF_MYSQL } else { KEEP_ROW_OF_SQLITE };
    for chunk in messages.chunks(ROWS_PER_STATEMENT) {
        let mut sql = String::with_capacity(INSERT_MESSAGES.len() + chunk.len() * 24 + on_conflict.len());
        sql.push_str(INSERT_MESSAGES);
        let mut values = Vec::with_capacity(chunk.len() * 7);
        for (at, message) in chunk.iter().enumerate() {
            sql.push_str(if at == 0 { " (?, ?, ?, ?, ?, ?, ?)" } else { ", (?, ?, ?, ?, ?, ?, ?)" });
            values.extend([
                message.chatroom.0.into(),
                to_column(message.seq).into(),
                message.side.is_host().into(),
                message.text.as_str().into(),
                message.datetime.to_string().into(),
                message.id.as_str().into(),
                Value::from(millis(message.accepted_at)),
            ]);
        }
        sql.push_str(on_conflict);
        tx.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    }
    Ok(())
}

/// Formats a time as a `DATETIME(3)`, in UTC.
fn column_time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}
