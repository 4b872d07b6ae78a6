//! Adds the sequence numbers up to which the host and the guest have seen a room. Unread counts and e-mails then no
//! longer depend on clocks.
//!
//! Both numbers are null for rooms that have not been viewed since this change. For these rooms, the time of the last
//! view is used. A node of the previous release updates only the times, so a message that was seen through such a node
//! may be e-mailed again.

use sea_orm_migration::prelude::*;

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
