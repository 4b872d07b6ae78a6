//! Adds a table of replaced key pairs, which stay valid for a grace period.
//!
//! A node of the previous release reads only the current pair of a host and rejects replaced pairs.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLE: &str = "old_key";

/// Indexes that find the pairs of a host and the expired pairs.
const INDEXES: [(&str, &str); 2] = [("old_key_user", "user_id"), ("old_key_ends", "ends_at")];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mysql = manager.get_database_backend() == DbBackend::MySql;
        let mut table = Table::create();
        let mut ends_at = ColumnDef::new("ends_at");
        table.table(TABLE).if_not_exists();
        if mysql {
            table.engine("InnoDB").character_set("utf8mb4").collate("utf8mb4_bin");
            ends_at.custom("datetime(3)");
        } else {
            ends_at.text();
        }
        table
            .col(ColumnDef::new("access_key").char_len(22).not_null().primary_key())
            .col(ColumnDef::new("user_id").big_integer().not_null())
            .col(ColumnDef::new("secret_key").char_len(64).not_null())
            .col(ends_at.not_null());
        manager.create_table(table).await?;
        for (name, column) in INDEXES {
            if !manager.has_index(TABLE, name).await? {
                manager.create_index(Index::create().table(TABLE).name(name).col(column).to_owned()).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(TABLE).if_exists().to_owned()).await
    }
}
