//! Table of e-mail notifications, one row per room and side of the recipient.

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
    /// Time at which the message `first_seq` was accepted.
    pub since: DateTimeUtc,
    /// Time at which the e-mail is due. Null if no e-mail is pending.
    pub due_at: Option<DateTimeUtc>,
    pub mailed_at: Option<DateTimeUtc>,
    /// Host of the room. Null if a node of an earlier release wrote the row.
    pub host_id: Option<i64>,
    /// Mailbox for whose consent the notification waits.
    pub awaits_consent: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
