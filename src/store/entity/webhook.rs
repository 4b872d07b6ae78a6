//! Table of webhooks, at most one row per host.

use sea_orm::entity::prelude::*;

#[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub host_id: i64,
    pub url: String,
    /// Names of event kinds, separated by commas.
    pub events: String,
    pub is_enabled: bool,
    /// Time at which the webhook was disabled because its receiver returned 410.
    pub gone_at: Option<DateTimeUtc>,
    pub secret: String,
    pub old_secret: Option<String>,
    pub old_secret_ends_at: Option<DateTimeUtc>,
    /// Earliest time at which a node may acquire the delivery lease. It is in the future while a node holds the lease,
    /// and for some time after the receiver has failed.
    pub next_turn_at: DateTimeUtc,
    /// Number of consecutive delivery leases without a delivered event.
    pub failed_turns: i64,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

// Secrets must not appear in logs.
impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("host_id", &self.host_id).finish_non_exhaustive()
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(belongs_to = "super::user::Entity", from = "Column::HostId", to = "super::user::Column::Id")]
    User,
}

impl Related<super::user::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::User.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}
