//! Table of rooms.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "chatroom")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub host_id: i64,
    pub guest: String,
    pub name: String,
    pub latest_msg: Option<String>,
    pub latest_msg_at: Option<DateTimeUtc>,
    pub last_checked_at: Option<DateTimeUtc>,
    pub is_closed: bool,
    pub closed_at: Option<DateTimeUtc>,
    pub is_fixed: bool,
    pub fixed_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
    pub last_seq: i64,
    #[sea_orm(column_name = "last_life")]
    pub last_epoch: Option<String>,
    pub state_version: i64,
    pub purged_through: i64,
    pub idempotency_key: Option<String>,
    pub message_count: i64,
    pub unread_count: i64,
    pub counted_through: i64,
    pub is_purging: bool,
    pub guest_email: Option<String>,
    pub guest_language: Option<String>,
    pub guest_seen_at: Option<DateTimeUtc>,
    pub checked_seq: Option<i64>,
    pub guest_seen_seq: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
