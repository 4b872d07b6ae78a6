//! What became of the events of a webhook.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, DbErr, EntityTrait, ExprTrait as _, PaginatorTrait as _, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::super::entity::webhook_event;
use super::super::webhook_events::WAITING;
use super::super::{Store, StoreError, from_column, millis, parse_column, to_column};
use crate::domain::{ChatroomId, HostId};

/// How long it is remembered that an event has arrived, and that one did not.
const KEPT_DELIVERED: TimeDelta = TimeDelta::days(1);
const KEPT_FAILED: TimeDelta = TimeDelta::days(7);

/// No event is put off for longer, so one that is due later was written by a clock that was ahead.
pub(super) const LATEST_DUE: TimeDelta = TimeDelta::hours(8);

/// The longest problem that is noted, in characters.
const MAX_PROBLEM: usize = 200;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventState {
    /// It is to be sent, perhaps again.
    Waiting,
    /// It has arrived.
    Delivered,
    /// It was given up.
    Failed,
}

impl EventState {
    /// One word for rows and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => WAITING,
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// An event that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookEvent {
    /// Row id.
    pub id: i64,
    /// Of which room.
    pub chatroom: ChatroomId,
    /// What its receiver knows it by.
    pub event_id: String,
    /// What to send.
    pub body: String,
    /// How often that was tried.
    pub attempts: u32,
    /// When it is given up.
    pub ends_at: DateTime<Utc>,
}

/// What is remembered of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// What its receiver knows it by.
    pub event_id: String,
    /// Its kind, by name.
    pub kind: String,
    /// Of which room.
    pub chatroom: ChatroomId,
    /// What became of it.
    pub state: EventState,
    /// How often it was sent.
    pub attempts: u32,
    /// When it happened.
    pub created_at: DateTime<Utc>,
    /// When it was last sent.
    pub tried_at: Option<DateTime<Utc>>,
    /// When it is sent next.
    pub due_at: Option<DateTime<Utc>>,
    /// What the receiver last answered, if it did.
    pub status: Option<u16>,
    /// How long that took.
    pub millis: Option<u64>,
    /// Why it did not arrive.
    pub problem: Option<String>,
}

/// A try to send an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// How long it took.
    pub millis: u64,
    /// What the receiver answered, if it did.
    pub status: Option<u16>,
    /// Why it did not arrive.
    pub problem: Option<String>,
}

impl Store {
    /// What is due of a host, the longest first.
    pub async fn due_webhook_events(
        &self,
        host: HostId,
        now: DateTime<Utc>,
        most: u64,
    ) -> Result<Vec<WebhookEvent>, StoreError> {
        use webhook_event::Column::{DueAt, HostId, Id};
        let now = millis(now);
        let rows = self
            .run(|| {
                webhook_event::Entity::find()
                    .filter(HostId.eq(host.0))
                    .filter(Condition::any().add(DueAt.lte(now)).add(DueAt.gt(now + LATEST_DUE)))
                    .order_by_asc(DueAt)
                    .order_by_asc(Id)
                    .limit(most)
                    .all(&self.reader)
            })
            .await?;
        let events = rows.into_iter().map(|row| {
            let event_id = event_id(&row)?;
            Ok(WebhookEvent {
                id: row.id,
                chatroom: ChatroomId(row.chatroom_id),
                event_id,
                body: crate::protocol::webhook::repaired(row.body, self.wire),
                attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
                ends_at: row.ends_at,
            })
        });
        Ok(events.collect::<Result<_, DbErr>>()?)
    }

    /// An event has arrived. What was to be sent is kept no longer.
    pub async fn webhook_event_arrived(&self, id: i64, attempt: &Attempt) -> Result<(), StoreError> {
        self.record(id, attempt, EventState::Delivered, None).await
    }

    /// An event did not arrive, and is sent again at `again`; without that, it is given up. One that has arrived meanwhile, as
    /// another node took a turn, stays so.
    pub async fn webhook_event_missed(
        &self,
        id: i64,
        attempt: &Attempt,
        again: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError> {
        let state = if again.is_some() { EventState::Waiting } else { EventState::Failed };
        self.record(id, attempt, state, again.map(millis)).await
    }

    async fn record(
        &self,
        id: i64,
        attempt: &Attempt,
        state: EventState,
        due_at: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError> {
        use webhook_event::Column::{Attempts, Body, DueAt, EndsAt, Id, Millis, Problem, State, Status, TriedAt};
        let at = millis(attempt.at);
        let problem = attempt.problem.as_ref().map(|why| why.chars().take(MAX_PROBLEM).collect::<String>());
        let mut update = webhook_event::Entity::update_many()
            .col_expr(Attempts, Expr::col(Attempts).add(1))
            .col_expr(TriedAt, at.into())
            .col_expr(Status, attempt.status.map(i64::from).into())
            .col_expr(Millis, to_column(attempt.millis).into())
            .col_expr(Problem, problem.into())
            .col_expr(State, state.as_str().into())
            .col_expr(DueAt, due_at.into())
            .filter(Id.eq(id));
        if let Some(ends_at) = kept(state, at) {
            update = update.col_expr(EndsAt, ends_at.into()).col_expr(Body, "".into());
        }
        if state != EventState::Delivered {
            update = update.filter(State.eq(WAITING));
        }
        self.run(|| update.clone().exec(&self.writer)).await?;
        Ok(())
    }

    /// Gives up what was not told in time, as its receiver was away or off: up to `limit`. Returns how many.
    pub async fn give_up_webhook_events(&self, now: DateTime<Utc>, limit: u64) -> Result<u64, StoreError> {
        let now = millis(now);
        self.run(|| self.give_up_webhook_events_once(now, limit)).await
    }

    async fn give_up_webhook_events_once(&self, now: DateTime<Utc>, limit: u64) -> Result<u64, DbErr> {
        use webhook_event::Column::{Body, DueAt, EndsAt, Id, State};
        let ids: Vec<i64> = webhook_event::Entity::find()
            .select_only()
            .column(Id)
            .filter(EndsAt.lte(now))
            .filter(State.eq(WAITING))
            .order_by_asc(EndsAt)
            .limit(limit)
            .into_tuple()
            .all(&self.writer)
            .await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let given_up = webhook_event::Entity::update_many()
            .col_expr(State, EventState::Failed.as_str().into())
            .col_expr(DueAt, Option::<DateTime<Utc>>::None.into())
            .col_expr(EndsAt, (now + KEPT_FAILED).into())
            .col_expr(Body, "".into())
            .filter(Id.is_in(ids))
            .filter(State.eq(WAITING))
            .exec(&self.writer)
            .await?;
        Ok(given_up.rows_affected)
    }

    /// How much would be given up.
    pub async fn count_webhook_events_to_give_up(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let late = webhook_event::Entity::find()
            .filter(webhook_event::Column::EndsAt.lte(millis(now)))
            .filter(webhook_event::Column::State.eq(WAITING));
        self.run(|| late.clone().count(&self.reader)).await
    }

    /// The newest events of a host, as far as they are remembered.
    pub async fn recent_webhook_events(&self, host: HostId, most: u64) -> Result<Vec<RecordedEvent>, StoreError> {
        use webhook_event::Column::{HostId, Id};
        let rows = self
            .run(|| {
                webhook_event::Entity::find().filter(HostId.eq(host.0)).order_by_desc(Id).limit(most).all(&self.reader)
            })
            .await?;
        Ok(rows.into_iter().map(recorded).collect::<Result<_, _>>()?)
    }
}

/// Until when it is remembered what became of an event; `None` while it waits.
fn kept(state: EventState, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match state {
        EventState::Waiting => None,
        EventState::Delivered => Some(at + KEPT_DELIVERED),
        EventState::Failed => Some(at + KEPT_FAILED),
    }
}

fn event_id(row: &webhook_event::Model) -> Result<String, DbErr> {
    let kind: crate::domain::EventKind = parse_column("webhook_event.kind", &row.kind)?;
    Ok(kind.id(ChatroomId(row.chatroom_id), from_column(row.number)))
}

fn recorded(row: webhook_event::Model) -> Result<RecordedEvent, DbErr> {
    let state = [EventState::Waiting, EventState::Delivered, EventState::Failed];
    let state = state.into_iter().find(|state| state.as_str() == row.state);
    Ok(RecordedEvent {
        event_id: event_id(&row)?,
        kind: row.kind,
        chatroom: ChatroomId(row.chatroom_id),
        state: state.ok_or_else(|| DbErr::Type("webhook_event.state holds an unknown word".to_owned()))?,
        attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
        created_at: row.created_at,
        tried_at: row.tried_at,
        due_at: row.due_at,
        status: row.status.and_then(|status| u16::try_from(status).ok()),
        millis: row.millis.and_then(|millis| u64::try_from(millis).ok()),
        problem: row.problem,
    })
}
