//! Distinguishes accounts that an operator has disabled from accounts that their owners deactivated. Only an account
//! that its owner deactivated can be reactivated by e-mail.
//!
//! A node of the previous release ignores the column. While such a node runs, owners can reactivate disabled accounts.

use sea_orm_migration::prelude::*;

use crate::schema::ColumnBuilder;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const COLUMN: &str = "disabled_at";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.has_column("user", COLUMN).await? {
            return Ok(());
        }
        let column = ColumnBuilder::of(manager).instant(COLUMN);
        manager.alter_table(Table::alter().table("user").add_column(column).to_owned()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if !manager.has_column("user", COLUMN).await? {
            return Ok(());
        }
        manager.alter_table(Table::alter().table("user").drop_column(COLUMN).to_owned()).await
    }
}
