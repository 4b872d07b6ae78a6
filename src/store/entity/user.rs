//! Table of hosts.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "user")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub email: String,
    pub email_key: String,
    pub password_hash: String,
    pub uuid: String,
    pub profile_name: String,
    pub description: String,
    pub access_key: String,
    pub secret_key: String,
    pub service_name: String,
    pub service_expl: String,
    pub service_domain: Option<String>,
    pub profile_image: Option<String>,
    pub is_deleted: bool,
    pub deleted_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
    pub temporary_hash: Option<String>,
    pub temporary_until: Option<DateTimeUtc>,
    pub disabled_at: Option<DateTimeUtc>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(has_one = "super::user_config::Entity")]
    Config,
}

impl Related<super::user_config::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Config.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}
