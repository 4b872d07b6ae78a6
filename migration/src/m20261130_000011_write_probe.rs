//! Adds the table of the write probe. Nodes write to it to check that the database accepts writes.
//!
//! A node of the previous release does not use the table.

use sea_orm_migration::prelude::*;

use crate::schema::{ColumnBuilder, id, number};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLE: &str = "write_probe";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut table = ColumnBuilder::of(manager).table(TABLE);
        table.col(id("id").primary_key()).col(number("counter")).col(ColumnDef::new("filler").blob());
        manager.create_table(table).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(TABLE).if_exists().to_owned()).await
    }
}
