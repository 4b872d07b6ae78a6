//! Table of webhook events and the results of their delivery. The cause (room, kind, number) is unique.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_event")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub host_id: i64,
    pub chatroom_id: i64,
    pub kind: String,
    /// Number of the cause: the `seq` of a message, the `state_version` of a change, or 0 for a new room.
    pub number: i64,
    /// Body of the request. Empty once the event was delivered or has failed.
    pub body: String,
    pub created_at: DateTimeUtc,
    pub attempts: i64,
    /// Time of the next attempt; null once the event was delivered or has failed.
    pub due_at: Option<DateTimeUtc>,
    /// `waiting`, `delivered` or `failed`.
    pub state: String,
    /// Time at which a waiting event fails. After delivery or failure, the time at which the record is deleted.
    pub ends_at: DateTimeUtc,
    pub tried_at: Option<DateTimeUtc>,
    /// HTTP status of the last attempt, if the receiver responded.
    pub status: Option<i64>,
    pub millis: Option<i64>,
    pub problem: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
