//! Writes the rows of a batch to MySQL with one JSON parameter per statement.
//!
//! The text of a statement does not depend on the number of rows. The server therefore prepares it once per connection,
//! and the cost per room is constant. A `CASE` per room and a list of values per message cost twice the server's CPU.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, Statement};
use serde::Serialize;

use super::advance::Advance;
use crate::domain::Message;
use crate::store::{millis, to_column};

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

/// An existing row stays unchanged. `INSERT IGNORE` must not be used: it would also suppress data errors.
const INSERT_MESSAGES: &str = "INSERT INTO chat_message
    (chatroom_id, seq, is_host, message, datetime, message_id, accepted_at)
SELECT new.chatroom_id, new.seq, new.is_host, CONCAT(new.message), new.datetime, new.message_id, new.accepted_at
FROM JSON_TABLE(?, '$[*]' COLUMNS (
    chatroom_id BIGINT PATH '$[0]' ERROR ON ERROR,
    seq BIGINT PATH '$[1]' ERROR ON ERROR,
    is_host TINYINT PATH '$[2]' ERROR ON ERROR,
    message LONGTEXT PATH '$[3]' ERROR ON ERROR,
    datetime LONGTEXT PATH '$[4]' ERROR ON ERROR,
    message_id LONGTEXT PATH '$[5]' ERROR ON ERROR,
    accepted_at DATETIME(3) PATH '$[6]' ERROR ON ERROR
)) AS new
ON DUPLICATE KEY UPDATE seq = chat_message.seq";

/// Updates the rows of `rooms`.
pub(super) async fn update_rooms(tx: &DatabaseTransaction, rooms: &[Advance<'_>]) -> Result<(), DbErr> {
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
    execute(tx, UPDATE_ROOMS, &rows.collect::<Vec<_>>()).await
}

/// Inserts messages. An existing row stays unchanged.
pub(super) async fn insert_messages(tx: &DatabaseTransaction, messages: &[&Message]) -> Result<(), DbErr> {
    let rows = messages.iter().map(|message| {
        (
            message.chatroom.0,
            to_column(message.seq),
            u8::from(message.side.is_host()),
            message.text.as_str(),
            message.datetime.to_string(),
            message.id.as_str(),
            column_time(millis(message.accepted_at)),
        )
    });
    execute(tx, INSERT_MESSAGES, &rows.collect::<Vec<_>>()).await
}

async fn execute(tx: &DatabaseTransaction, sql: &'static str, rows: &impl Serialize) -> Result<(), DbErr> {
    let rows = serde_json::to_string(rows).map_err(|error| DbErr::Json(error.to_string()))?;
    tx.execute_raw(Statement::from_sql_and_values(DbBackend::MySql, sql, [rows.into()])).await.map(|_| ())
}

/// Formats a time as a `DATETIME(3)`, in UTC.
fn column_time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}
