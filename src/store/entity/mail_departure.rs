//! Table of e-mails sent within the last hour. The limits on sending count these rows.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "mail_departure")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub class: String,
    /// Digest of the canonical form of the mailbox.
    pub mailbox: String,
    /// Host on whose behalf the e-mail was sent.
    pub host_id: Option<i64>,
    /// Time after which limits no longer count the e-mail.
    pub ends_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
