//! Adds the table that nodes write to in order to check whether the database can be written.
//!
//! A node of the previous release does not use it.

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
