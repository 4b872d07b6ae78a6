//! Adds the identity of the installation that owns the database: id, mode (cluster or single node) and generation.
//!
//! A node of the previous release neither reads nor writes this table.

use sea_orm_migration::prelude::*;

use crate::schema::{ColumnBuilder, number, token22};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLE: &str = "installation";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let build = ColumnBuilder::of(manager);
        let mut table = build.table(TABLE);
        table
            .col(ColumnDef::new("id").integer().not_null().primary_key())
            .col(token22("installation_id"))
            .col(ColumnDef::new("mode").string_len(8).not_null())
            .col(number("generation"))
            .col(build.instant("created_at").not_null());
        manager.create_table(table).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(TABLE).if_exists().to_owned()).await
    }
}
