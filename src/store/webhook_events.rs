//! Notes what a host's own systems are to be told, in the very transaction in which it happens.
//!
//! It costs nothing where nobody wants to be told: whether a room's host does is read with the room, not asked for. What is
//! written twice is told once, as the cause of an event is unique.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::{Expr, OnConflict, Query, SubQueryStatement};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, DerivePartialModel, EntityTrait, ExprTrait as _, QueryFilter, QuerySelect,
};

use super::entity::{chatroom, webhook, webhook_event};
use super::{millis, to_column};
use crate::domain::{ChatroomId, Closing, EventKind, EventKinds, HostId, Message, Room};
use crate::protocol::webhook::{self as body, EventRoom};

/// How long it is tried to tell of something.
pub const TRIED_FOR: TimeDelta = TimeDelta::days(3);

/// Rows that one INSERT writes: ten parameters each.
const ROWS_A_STATEMENT: usize = 500;

pub(super) const WAITING: &str = "waiting";

/// What must be known of a room to tell of it.
#[derive(Clone, Debug, DerivePartialModel)]
#[sea_orm(entity = "chatroom::Entity")]
pub(super) struct Subject {
    pub(super) host_id: i64,
    pub(super) name: String,
    guest: String,
    #[sea_orm(from_expr = "wanted()")]
    wanted: Option<String>,
}

/// The kinds of events that the host of a room wants to be told. Read beside the room, it locks nothing of his.
fn wanted() -> Expr {
    use webhook::Column::{Events, HostId, IsEnabled};
    let column = |column| Expr::col((webhook::Entity, column));
    let of_host = column(HostId).equals((chatroom::Entity, chatroom::Column::HostId));
    let select = Query::select()
        .expr(column(Events))
        .from(webhook::Entity)
        .and_where(of_host)
        .and_where(column(IsEnabled).eq(true))
        .to_owned();
    SubQueryStatement::from(select).into()
}

/// What is to be told of a transaction.
pub(super) struct Events<F> {
    rows: Vec<webhook_event::ActiveModel>,
    due_from: F,
}

impl<F: Fn(DateTime<Utc>) -> DateTime<Utc>> Events<F> {
    /// No event yet. `due_from` is the time from which one is due, given the time of its message.
    pub(super) fn due_from(due_from: F) -> Self {
        Self { rows: Vec::new(), due_from }
    }

    /// Notes a message, if its host wants to be told.
    pub(super) fn message(&mut self, message: &Message, subject: &Subject) {
        let wanted = subject.wanted.as_deref().and_then(|kinds| kinds.parse::<EventKinds>().ok());
        if wanted.is_some_and(|kinds| kinds.contains(EventKind::MessageCreated)) {
            let room = EventRoom { id: message.chatroom, name: &subject.name, guest: &subject.guest };
            let (kind, at) = (EventKind::MessageCreated, message.accepted_at);
            let text = body::message_created(room, message);
            let mut row = row(HostId(subject.host_id), message.chatroom, kind, message.seq, text, at);
            let due_at = (self.due_from)(at);
            (row.due_at, row.ends_at) = (Set(Some(due_at)), Set(due_at + TRIED_FOR));
            self.rows.push(row);
        }
    }

    pub(super) async fn write(self, tx: &DatabaseTransaction) -> Result<(), DbErr> {
        insert(tx, &self.rows).await
    }
}

async fn insert(tx: &DatabaseTransaction, rows: &[webhook_event::ActiveModel]) -> Result<(), DbErr> {
    use webhook_event::Column::{ChatroomId, Kind, Number};
    for rows in rows.chunks(ROWS_A_STATEMENT) {
        webhook_event::Entity::insert_many(rows.to_vec())
            .on_conflict(OnConflict::columns([ChatroomId, Kind, Number]).update_column(Number).to_owned())
            .exec_without_returning(tx)
            .await?;
    }
    Ok(())
}

/// Notes that a guest opened a room.
pub(super) async fn room_created(tx: &DatabaseTransaction, room: &chatroom::Model) -> Result<(), DbErr> {
    let (id, host) = (ChatroomId(room.id), HostId(room.host_id));
    if !wants(tx, host, EventKind::RoomCreated).await? {
        return Ok(());
    }
    let text = body::room_created(EventRoom { id, name: &room.name, guest: &room.guest }, room.created_at);
    insert(tx, &[row(host, id, EventKind::RoomCreated, 0, text, room.created_at)]).await
}

/// Notes that a room was closed by the change that made it `version`.
pub(super) async fn room_closed(
    tx: &DatabaseTransaction,
    room: &Room,
    version: u64,
    why: Closing,
    at: DateTime<Utc>,
) -> Result<(), DbErr> {
    if !wants(tx, room.host, EventKind::RoomClosed).await? {
        return Ok(());
    }
    let text = body::room_closed(EventRoom::new(room.id, &room.name, &room.guest), version, why, at);
    insert(tx, &[row(room.host, room.id, EventKind::RoomClosed, version, text, at)]).await
}

async fn wants(tx: &DatabaseTransaction, host: HostId, kind: EventKind) -> Result<bool, DbErr> {
    let events: Option<String> = webhook::Entity::find_by_id(host.0)
        .select_only()
        .column(webhook::Column::Events)
        .filter(webhook::Column::IsEnabled.eq(true))
        .into_tuple()
        .one(tx)
        .await?;
    Ok(events.and_then(|kinds| kinds.parse::<EventKinds>().ok()).is_some_and(|kinds| kinds.contains(kind)))
}

fn row(
    host: HostId,
    room: ChatroomId,
    kind: EventKind,
    number: u64,
    body: String,
    at: DateTime<Utc>,
) -> webhook_event::ActiveModel {
    let at = millis(at);
    webhook_event::ActiveModel {
        id: NotSet,
        host_id: Set(host.0),
        chatroom_id: Set(room.0),
        kind: Set(kind.as_str().to_owned()),
        number: Set(to_column(number)),
        body: Set(body),
        created_at: Set(at),
        attempts: Set(0),
        due_at: Set(Some(at)),
        state: Set(WAITING.to_owned()),
        ends_at: Set(at + TRIED_FOR),
        tried_at: NotSet,
        status: NotSet,
        millis: NotSet,
        problem: NotSet,
    }
}
