//! Table of the texts of rooms in waiting e-mails. The body of an e-mail contains its parts in the order of the room
//! ids.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "mail_part")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub mail_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub chatroom_id: i64,
    /// Sequence number of the newest message in the text.
    pub last_seq: i64,
    pub text: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
