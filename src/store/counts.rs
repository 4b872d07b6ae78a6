//! What a room's row counts, so that no list has to: its messages, and those that its host has not seen.
//!
//! **Invariant:** the counts are exact for the messages up to `counted_through`, and whoever needs all of them counts what
//! lies above. That is nothing, unless a node of an older release wrote it.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbErr, DerivePartialModel, EntityTrait, ExprTrait,
    QueryFilter, QueryOrder, QuerySelect,
};

use super::entity::{chat_message, chatroom};
use super::{RoomRow, Store, StoreError, from_column, millis, to_column};
use crate::domain::{ChatroomId, Message, RoomCounts, Seq, Side};

/// How many of a room's newest messages are looked at to find those that are younger than "now": whoever looks at a room
/// looks at it now, so only those can be that were accepted within the blink of an eye.
const YOUNGEST: u64 = 1_000;

/// A room's counts while its lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, DerivePartialModel)]
#[sea_orm(entity = "chatroom::Entity")]
pub(super) struct Counts {
    pub(super) message_count: i64,
    pub(super) unread_count: i64,
    pub(super) counted_through: i64,
    pub(super) last_checked_at: Option<DateTime<Utc>>,
}

impl Counts {
    /// Counts what SQL has up to `last_seq` and these counts do not know of.
    pub(super) async fn catch_up(
        &mut self,
        tx: &DatabaseTransaction,
        room: i64,
        last_seq: i64,
        purged_through: i64,
    ) -> Result<(), DbErr> {
        if self.counted_through >= last_seq {
            return Ok(());
        }
        let above = range(room, Ord::max(self.counted_through, purged_through), last_seq);
        self.message_count += count(tx, above.clone()).await?;
        self.unread_count += count(tx, unseen(above, self.last_checked_at)).await?;
        self.counted_through = last_seq;
        Ok(())
    }

    /// Counts a message that is being written.
    pub(super) fn add(&mut self, message: &Message) {
        self.message_count += 1;
        let is_new = self.last_checked_at.is_none_or(|checked| millis(message.accepted_at) > checked);
        self.unread_count += i64::from(message.side == Side::Guest && is_new);
        self.counted_through = Ord::max(self.counted_through, to_column(message.seq));
    }

    /// Writes the counts of a room that is not otherwise written.
    pub(super) async fn write(&self, tx: &DatabaseTransaction, room: i64) -> Result<(), DbErr> {
        chatroom::Entity::update_many()
            .col_expr(chatroom::Column::MessageCount, self.message_count.into())
            .col_expr(chatroom::Column::UnreadCount, self.unread_count.into())
            .col_expr(chatroom::Column::CountedThrough, self.counted_through.into())
            .filter(chatroom::Column::Id.eq(room))
            .exec(tx)
            .await?;
        Ok(())
    }
}

impl From<&chatroom::Model> for RoomCounts {
    fn from(row: &chatroom::Model) -> Self {
        Self {
            messages: from_column(row.message_count),
            unread: from_column(row.unread_count),
            through: from_column(row.counted_through),
        }
    }
}

impl Store {
    /// How many messages a room shows, up to and with `through`. 0 for a room that has no row.
    pub async fn count_messages(&self, room: impl Into<RoomRow>, through: Option<Seq>) -> Result<u64, StoreError> {
        let room = room.into();
        self.run(|| self.count_messages_once(room, through.map(to_column))).await
    }

    async fn count_messages_once(&self, key: RoomRow, through: Option<i64>) -> Result<u64, DbErr> {
        use chatroom::Column::{CountedThrough, LastSeq, MessageCount, PurgedThrough};
        let room = key.id.0;
        let row: Option<(i64, i64, i64, i64)> = chatroom::Entity::find()
            .filter(key.condition())
            .select_only()
            .columns([MessageCount, CountedThrough, PurgedThrough, LastSeq])
            .into_tuple()
            .one(&self.reader)
            .await?;
        let Some((counted, upto, purged, last_seq)) = row else { return Ok(0) };
        // What is written meanwhile lies outside of both ranges.
        let through = Ord::max(through.unwrap_or(last_seq), purged);
        let all = if through >= upto {
            counted + count(&self.reader, range(room, Ord::max(upto, purged), through)).await?
        } else {
            counted - count(&self.reader, range(room, through, upto)).await?
        };
        Ok(from_column(all))
    }

    /// How many messages of guests were accepted after the host last looked and are not counted in the room's row.
    pub async fn uncounted_unread(
        &self,
        room: ChatroomId,
        above: Seq,
        last_checked_at: Option<DateTime<Utc>>,
    ) -> Result<u64, StoreError> {
        let rows = unseen(range(room.0, to_column(above), i64::MAX), last_checked_at);
        Ok(from_column(self.run(|| count(&self.reader, rows.clone())).await?))
    }

    /// Notes that the host had the room open at `at`: what was accepted until then is read. An earlier instant than the
    /// known one changes nothing.
    pub async fn check_room(&self, room: impl Into<RoomRow>, at: DateTime<Utc>) -> Result<(), StoreError> {
        let room = room.into();
        self.run(|| self.check_room_once(room, millis(at))).await
    }

    async fn check_room_once(&self, room: RoomRow, at: DateTime<Utc>) -> Result<(), DbErr> {
        use chatroom::Column::{LastCheckedAt, LatestMsgAt, UnreadCount};
        let id = room.id.0;
        let is_later = Condition::any().add(LastCheckedAt.is_null()).add(Expr::col(LastCheckedAt).lt(at));
        let check = |unread: i64| {
            chatroom::Entity::update_many()
                .col_expr(LastCheckedAt, at.into())
                .col_expr(UnreadCount, unread.into())
                .filter(room.condition())
                .filter(is_later.clone())
        };
        let all_is_older = Condition::any().add(LatestMsgAt.is_null()).add(Expr::col(LatestMsgAt).lte(at));
        if check(0).filter(all_is_older).exec(&self.writer).await?.rows_affected > 0 {
            return Ok(());
        }
        // He looked before, or something came at this very moment.
        let tx = self.begin().await?;
        let Some((purged, through)) = chatroom::Entity::find()
            .filter(room.condition())
            .select_only()
            .columns([chatroom::Column::PurgedThrough, chatroom::Column::CountedThrough])
            .lock_exclusive()
            .into_tuple::<(i64, i64)>()
            .one(&tx)
            .await?
        else {
            return Ok(());
        };
        let youngest: Vec<(bool, DateTime<Utc>)> = chat_message::Entity::find()
            .select_only()
            .columns([chat_message::Column::IsHost, chat_message::Column::AcceptedAt])
            .filter(range(id, purged, through))
            .order_by_desc(chat_message::Column::Seq)
            .limit(YOUNGEST)
            .into_tuple()
            .all(&tx)
            .await?;
        let unread = youngest.iter().filter(|(is_host, accepted_at)| !is_host && *accepted_at > at).count();
        check(to_column(unread as u64)).exec(&tx).await?;
        tx.commit().await
    }
}

/// A room's rows above `after`, up to and with `through`.
fn range(room: i64, after: i64, through: i64) -> Condition {
    Condition::all()
        .add(chat_message::Column::ChatroomId.eq(room))
        .add(chat_message::Column::Seq.gt(after))
        .add(chat_message::Column::Seq.lte(through))
}

/// Of these rows, those that the host has not seen.
fn unseen(rows: Condition, last_checked_at: Option<DateTime<Utc>>) -> Condition {
    let of_guests = rows.add(chat_message::Column::IsHost.eq(false));
    match last_checked_at {
        Some(checked) => of_guests.add(chat_message::Column::AcceptedAt.gt(checked)),
        None => of_guests,
    }
}

async fn count(connection: &impl ConnectionTrait, rows: Condition) -> Result<i64, DbErr> {
    let counted: Option<i64> = chat_message::Entity::find()
        .select_only()
        .column_as(chat_message::Column::Seq.count(), "counted")
        .filter(rows)
        .into_tuple()
        .one(connection)
        .await?;
    Ok(counted.unwrap_or_default())
}
