//! Where a host's own systems are told what happens in his rooms: one row a host at most.

use sea_orm::entity::prelude::*;

#[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub host_id: i64,
    pub url: String,
    /// Names of kinds, with commas.
    pub events: String,
    pub is_enabled: bool,
    /// When it was switched off because its receiver said that it is gone.
    pub gone_at: Option<DateTimeUtc>,
    pub secret: String,
    pub old_secret: Option<String>,
    pub old_secret_ends_at: Option<DateTimeUtc>,
    /// Nobody sends before: somebody does already, or the receiver is left alone for a while.
    pub next_turn_at: DateTimeUtc,
    /// Turns since the last one in which something arrived.
    pub failed_turns: i64,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

// Secrets stay out of logs.
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
