//! Something that a host's own systems are to be told, and what became of it. Its cause is unique: room, kind and number.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_event")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub host_id: i64,
    pub chatroom_id: i64,
    pub kind: String,
    /// A message's `seq`, a change's version, or 0.
    pub number: i64,
    /// What is sent. Empty once nothing is to be sent any more.
    pub body: String,
    pub created_at: DateTimeUtc,
    pub attempts: i64,
    /// When to send it; nothing once it is settled.
    pub due_at: Option<DateTimeUtc>,
    /// `waiting`, `delivered` or `failed`.
    pub state: String,
    /// When it is given up; once it is settled, when it is forgotten.
    pub ends_at: DateTimeUtc,
    pub tried_at: Option<DateTimeUtc>,
    /// What the receiver last answered, if it did.
    pub status: Option<i64>,
    pub millis: Option<i64>,
    pub problem: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
