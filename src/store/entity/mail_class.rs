//! Classes of e-mail, one row each. A node locks the row while it counts sent e-mails of the class.

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
