//! Table of e-mail classes. A node locks the row of a class while it counts sent e-mails of that class.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "mail_class")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub class: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
