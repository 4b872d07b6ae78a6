//! Table of room changes that may not have been applied to the broker yet.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "room_event")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub room: String,
    pub chatroom_id: i64,
    pub host_id: i64,
    pub version: i64,
    pub kind: String,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
