//! Table of e-mails to be sent. A row is deleted once a mail server has accepted or permanently rejected the e-mail, or
//! the e-mail has expired.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "mail_outbox")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub recipient: String,
    pub subject: String,
    pub body: String,
    pub attempts: i64,
    pub due_at: DateTimeUtc,
    pub expires_at: DateTimeUtc,
    pub at_most_once: bool,
    pub unsubscribe_url: Option<String>,
    /// Null if a node of an earlier release wrote the row.
    pub kind: Option<String>,
    /// Host on whose behalf the e-mail is sent.
    pub host_id: Option<i64>,
    /// Digest of the canonical form of the mailbox.
    pub mailbox: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
