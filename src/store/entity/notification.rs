//! Notifications by e-mail, one row per room and recipient's side.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "notification")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub chatroom_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub to_host: bool,
    /// Sequence number of the first message that the recipient missed in this absence.
    pub first_seq: i64,
    /// Time at which that message was accepted.
    pub since: DateTimeUtc,
    /// Time at which the e-mail is due; null if no e-mail is pending.
    pub due_at: Option<DateTimeUtc>,
    pub mailed_at: Option<DateTimeUtc>,
    /// The room's host; null if a node of an earlier release wrote the row.
    pub host_id: Option<i64>,
    /// Mailbox whose consent is awaited.
    pub awaits_consent: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
