//! Who is to be mailed about a room, when, and when he last was. One row a room and side.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "notification")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub chatroom_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub to_host: bool,
    /// The first message of this absence.
    pub first_seq: i64,
    /// When it came.
    pub since: DateTimeUtc,
    /// When to mail; nothing while nothing is to be.
    pub due_at: Option<DateTimeUtc>,
    pub mailed_at: Option<DateTimeUtc>,
    /// The room's host; null if a node of an earlier release wrote the row.
    pub host_id: Option<i64>,
    /// The mailbox whose consent is waited for.
    pub awaits_consent: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
