//! Adds message and unread counts to the room row, so that lists do not count messages.
//!
//! A node of the previous release does not update the counts. `counted_through` is the sequence number of the last
//! counted message. The next reader or writer counts the messages above it.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLE: &str = "chatroom";

const COLUMNS: [&str; 3] = ["message_count", "unread_count", "counted_through"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for name in COLUMNS {
            if !manager.has_column(TABLE, name).await? {
                let mut column = ColumnDef::new(name);
                column.big_integer().not_null().default(0);
                manager.alter_table(Table::alter().table(TABLE).add_column(column).to_owned()).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for name in COLUMNS {
            if manager.has_column(TABLE, name).await? {
                manager.alter_table(Table::alter().table(TABLE).drop_column(name).to_owned()).await?;
            }
        }
        Ok(())
    }
}
