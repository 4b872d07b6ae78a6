//! An account that an operator has disabled is told from one whose owner left: only the owner's own comes back by mail.
//!
//! A node of the previous release does not look: until it is gone, an owner can restore what was disabled.

use sea_orm_migration::prelude::*;

use crate::schema::Words;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const COLUMN: &str = "disabled_at";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.has_column("user", COLUMN).await? {
            return Ok(());
        }
        let column = Words::of(manager).instant(COLUMN);
        manager.alter_table(Table::alter().table("user").add_column(column).to_owned()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if !manager.has_column("user", COLUMN).await? {
            return Ok(());
        }
        manager.alter_table(Table::alter().table("user").drop_column(COLUMN).to_owned()).await
    }
}
