//! Records webhook events in the transaction that causes them.
//!
//! Messages to hosts without a webhook need no extra query: the event kinds to which a host's webhook subscribes are
//! read with the room. An event that is written twice is sent once, because its cause (room, kind, number) is unique.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::{Expr, OnConflict, Query, SubQueryStatement};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, DerivePartialModel, EntityTrait, ExprTrait as _, QueryFilter, QuerySelect,
};

use crate::domain::{ChatroomId, CloseCause, EventKind, EventKinds, HostId, Message, Room};
use crate::protocol::webhook::{self as body, EventRoom};
use crate::store::entity::{chatroom, webhook, webhook_event};
use crate::store::{millis, to_column};

/// Maximum time for which delivery of an event is attempted.
pub const TRIED_FOR: TimeDelta = TimeDelta::days(3);

/// Maximum number of rows per INSERT. Each row has ten parameters.
const ROWS_PER_STATEMENT: usize = 500;

pub(in crate::store) const WAITING: &str = "waiting";

/// Columns of a room that its events contain, and the event kinds to which the webhook of its host subscribes.
#[derive(Clone, Debug, DerivePartialModel)]
#[sea_orm(entity = "chatroom::Entity")]
pub(in crate::store) struct Subject {
    pub(in crate::store) host_id: i64,
    pub(in crate::store) name: String,
    guest: String,
    #[sea_orm(from_expr = "wanted()")]
    wanted: Option<String>,
}

/// Returns a subquery for the event kinds to which the webhook of a room's host subscribes. The subquery is read
/// together with the room, so that no webhook row is locked.
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

/// Events of one transaction.
pub(in crate::store) struct Events<F> {
    rows: Vec<webhook_event::ActiveModel>,
    due_from: F,
}

impl<F: Fn(DateTime<Utc>) -> DateTime<Utc>> Events<F> {
    /// Creates an empty list. `due_from` maps the time of a message to the time at which its event is due.
    pub(in crate::store) fn due_from(due_from: F) -> Self {
        Self { rows: Vec::new(), due_from }
    }

    /// Adds the event of a message, if the host's webhook subscribes to it.
    pub(in crate::store) fn message(&mut self, message: &Message, subject: &Subject) {
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

    pub(in crate::store) async fn write(self, tx: &DatabaseTransaction) -> Result<(), DbErr> {
        insert(tx, &self.rows).await
    }
}

async fn insert(tx: &DatabaseTransaction, rows: &[webhook_event::ActiveModel]) -> Result<(), DbErr> {
    use webhook_event::Column::{ChatroomId, Kind, Number};
    for rows in rows.chunks(ROWS_PER_STATEMENT) {
        webhook_event::Entity::insert_many(rows.to_vec())
            .on_conflict(OnConflict::columns([ChatroomId, Kind, Number]).update_column(Number).to_owned())
            .exec_without_returning(tx)
            .await?;
    }
    Ok(())
}

/// Records that a guest created a room, if the host's webhook subscribes to the event.
pub(in crate::store) async fn room_created(tx: &DatabaseTransaction, room: &chatroom::Model) -> Result<(), DbErr> {
    let (id, host) = (ChatroomId(room.id), HostId(room.host_id));
    if !wants(tx, host, EventKind::RoomCreated).await? {
        return Ok(());
    }
    let text = body::room_created(EventRoom { id, name: &room.name, guest: &room.guest }, room.created_at);
    insert(tx, &[row(host, id, EventKind::RoomCreated, 0, text, room.created_at)]).await
}

/// Records that a room was closed, if the host's webhook subscribes to the event. `version` is the room's
/// `state_version` after the change.
pub(in crate::store) async fn room_closed(
    tx: &DatabaseTransaction,
    room: &Room,
    version: u64,
    why: CloseCause,
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
