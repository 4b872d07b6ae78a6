//! Webhook events and the results of their delivery.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, DbErr, EntityTrait, ExprTrait as _, PaginatorTrait as _, QueryFilter, QueryOrder,
    QuerySelect,
};

use crate::domain::{ChatroomId, HostId};
use crate::store::entity::webhook_event;
use crate::store::webhooks::events::WAITING;
use crate::store::{StoreError, WebhookRepository, from_column, millis, parse_column, to_column};

/// Times for which the records of delivered events and of failed events are kept.
const KEPT_DELIVERED: TimeDelta = TimeDelta::days(1);
const KEPT_FAILED: TimeDelta = TimeDelta::days(7);

/// Maximum delay of a retry. A later due time was written by a clock that was ahead. The event is then due immediately.
pub(super) const LATEST_DUE: TimeDelta = TimeDelta::hours(8);

/// Maximum length of a recorded problem, in characters.
const MAX_PROBLEM: usize = 200;

/// Delivery state of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventState {
    /// The event must be sent for the first time or again.
    Waiting,
    /// The receiver has accepted the event.
    Delivered,
    /// Delivery has failed permanently.
    Failed,
}

impl EventState {
    /// Returns the name of the state in the database and in API responses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => WAITING,
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// An event to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookEvent {
    /// Row id.
    pub id: i64,
    /// Room of the event.
    pub chatroom: ChatroomId,
    /// Id of the event, as the receiver sees it.
    pub event_id: String,
    /// Body of the request.
    pub body: String,
    /// Number of attempts so far.
    pub attempts: u32,
    /// Time after which delivery is not attempted.
    pub ends_at: DateTime<Utc>,
}

/// Record of an event and its delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Id of the event, as the receiver sees it.
    pub event_id: String,
    /// Name of the event kind.
    pub kind: String,
    /// Room of the event.
    pub chatroom: ChatroomId,
    /// Delivery state.
    pub state: EventState,
    /// Number of attempts.
    pub attempts: u32,
    /// Time of the event.
    pub created_at: DateTime<Utc>,
    /// Time of the last attempt.
    pub tried_at: Option<DateTime<Utc>>,
    /// Time of the next attempt.
    pub due_at: Option<DateTime<Utc>>,
    /// HTTP status of the last attempt, if the receiver responded.
    pub status: Option<u16>,
    /// Duration of the last attempt, in milliseconds.
    pub millis: Option<u64>,
    /// Reason why the last attempt failed.
    pub problem: Option<String>,
}

/// Result of one attempt to deliver an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryAttempt {
    /// Time at which the attempt ended.
    pub at: DateTime<Utc>,
    /// Duration in milliseconds.
    pub millis: u64,
    /// HTTP status, if the receiver responded.
    pub status: Option<u16>,
    /// Reason why the attempt failed.
    pub problem: Option<String>,
}

impl WebhookRepository<'_> {
    /// Returns the due events of a host, longest due first, at most `most`.
    pub async fn due_events(
        self,
        host: HostId,
        now: DateTime<Utc>,
        most: u64,
    ) -> Result<Vec<WebhookEvent>, StoreError> {
        use webhook_event::Column::{DueAt, HostId, Id};
        let now = millis(now);
        let rows = self
            .store
            .run("deliveries", || {
                webhook_event::Entity::find()
                    .filter(HostId.eq(host.0))
                    .filter(Condition::any().add(DueAt.lte(now)).add(DueAt.gt(now + LATEST_DUE)))
                    .order_by_asc(DueAt)
                    .order_by_asc(Id)
                    .limit(most)
                    .all(&self.store.reader)
            })
            .await?;
        let events = rows.into_iter().map(|row| {
            let event_id = event_id(&row)?;
            Ok(WebhookEvent {
                id: row.id,
                chatroom: ChatroomId(row.chatroom_id),
                event_id,
                body: crate::protocol::webhook::repaired(row.body, self.store.wire),
                attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
                ends_at: row.ends_at,
            })
        });
        Ok(events.collect::<Result<_, DbErr>>()?)
    }

    /// Records that an event was delivered, and clears its body.
    pub async fn record_delivery(self, id: i64, attempt: &DeliveryAttempt) -> Result<(), StoreError> {
        self.record(id, attempt, EventState::Delivered, None).await
    }

    /// Records a failed attempt. The event is retried at `again`, or fails permanently if `again` is `None`. An event
    /// that another node has already delivered stays delivered.
    pub async fn record_failure(
        self,
        id: i64,
        attempt: &DeliveryAttempt,
        again: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError> {
        let state = if again.is_some() { EventState::Waiting } else { EventState::Failed };
        self.record(id, attempt, state, again.map(millis)).await
    }

    async fn record(
        self,
        id: i64,
        attempt: &DeliveryAttempt,
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
        self.store.run("deliveries", || update.clone().exec(&self.store.writer)).await?;
        Ok(())
    }

    /// Marks waiting events as failed if their delivery time has passed, for example because the webhook was disabled.
    /// Marks at most `limit` events, oldest first. Returns the number of these events.
    pub async fn give_up_events(self, now: DateTime<Utc>, limit: u64) -> Result<u64, StoreError> {
        let now = millis(now);
        self.store.run("deliveries", || self.give_up_events_once(now, limit)).await
    }

    async fn give_up_events_once(self, now: DateTime<Utc>, limit: u64) -> Result<u64, DbErr> {
        use webhook_event::Column::{Body, DueAt, EndsAt, Id, State};
        let ids: Vec<i64> = webhook_event::Entity::find()
            .select_only()
            .column(Id)
            .filter(EndsAt.lte(now))
            .filter(State.eq(WAITING))
            .order_by_asc(EndsAt)
            .limit(limit)
            .into_tuple()
            .all(&self.store.writer)
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
            .exec(&self.store.writer)
            .await?;
        Ok(given_up.rows_affected)
    }

    /// Returns the number of events that [`give_up_events`](Self::give_up_events) would mark as failed.
    pub async fn count_events_to_give_up(self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let late = webhook_event::Entity::find()
            .filter(webhook_event::Column::EndsAt.lte(millis(now)))
            .filter(webhook_event::Column::State.eq(WAITING));
        self.store.run("deliveries", || late.clone().count(&self.store.reader)).await
    }

    /// Returns the newest recorded events of a host, newest first.
    pub async fn recent_events(self, host: HostId, most: u64) -> Result<Vec<RecordedEvent>, StoreError> {
        use webhook_event::Column::{HostId, Id};
        let rows = self
            .store
            .run("deliveries", || {
                webhook_event::Entity::find()
                    .filter(HostId.eq(host.0))
                    .order_by_desc(Id)
                    .limit(most)
                    .all(&self.store.reader)
            })
            .await?;
        Ok(rows.into_iter().map(recorded).collect::<Result<_, _>>()?)
    }
}

/// Returns the time until which the record of an event is kept, or `None` while the event waits.
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
