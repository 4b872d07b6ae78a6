//! How far the host and the guest of a room have seen it, by number: whether a message is unread, or an e-mail about it is due,
//! does not depend on any clock.
//!
//! Both are unset in rooms that were not opened since this change; there the time of the last look decides. While a node of
//! the previous release runs, its looks move only the times: a message that was seen there may be e-mailed once more.

use sea_orm_migration::prelude::*;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLE: &str = "chatroom";

const COLUMNS: [&str; 2] = ["checked_seq", "guest_seen_seq"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for name in COLUMNS {
            if !manager.has_column(TABLE, name).await? {
                let column = ColumnDef::new(name).big_integer().take();
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
