//! Table of consent to e-mail, one row per host and mailbox. Rows are kept permanently, because consent is requested
//! only once.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "mail_consent")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub host_id: i64,
    /// Digest of the canonical form of the mailbox.
    #[sea_orm(primary_key, auto_increment = false)]
    pub mailbox: String,
    /// Time of the request. Null for pairs that were e-mailed before consent was required.
    pub asked_at: Option<DateTimeUtc>,
    pub granted_at: Option<DateTimeUtc>,
    pub withdrawn_at: Option<DateTimeUtc>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
