//! Adds columns and indexes for the leader's jobs, so that they find due rows without a scan. The jobs look for rooms
//! to purge, idle rooms to close, purged rooms with rows left, and expired rows.
//!
//! A node of the previous release neither reads nor writes the columns: one has a default value and the other is
//! generated.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const ROOM: &str = "chatroom";

/// Whether the room is purged and may still have rows to delete.
const IS_PURGING: &str = "is_purging";

/// Whether the room has messages that are not purged. The column keeps a search for due rooms from scanning all closed
/// rooms without messages.
const HAS_MESSAGES: &str = "has_messages";

const INDEXES: [(&str, &str, &[&str]); 5] = [
    (ROOM, "chatroom_purging", &[IS_PURGING]),
    (ROOM, "chatroom_due", &["is_closed", HAS_MESSAGES, "closed_at"]),
    (ROOM, "chatroom_idle", &["is_closed", "updated_at"]),
    ("login", "login_expires", &["expires_at"]),
    ("mail_outbox", "mail_outbox_expires", &["expires_at"]),
];

/// Index that `chatroom_due` replaces.
const OLD: &str = "chatroom_closed";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut is_purging = ColumnDef::new(IS_PURGING);
        is_purging.boolean().not_null().default(false);
        let mut has_messages = ColumnDef::new(HAS_MESSAGES);
        has_messages.boolean().generated(Expr::col("last_seq").gt(Expr::col("purged_through")), false);
        for column in [is_purging, has_messages] {
            if !has_room_column(manager, &column.get_column_name()).await {
                manager.alter_table(Table::alter().table(ROOM).add_column(column).to_owned()).await?;
            }
        }
        for (table, name, columns) in INDEXES {
            if !manager.has_index(table, name).await? {
                manager.create_index(index(table, name, columns)).await?;
            }
        }
        if manager.has_index(ROOM, OLD).await? {
            manager.drop_index(Index::drop().table(ROOM).name(OLD).to_owned()).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if !manager.has_index(ROOM, OLD).await? {
            manager.create_index(index(ROOM, OLD, &["is_closed", "closed_at"])).await?;
        }
        for (table, name, _) in INDEXES {
            if manager.has_index(table, name).await? {
                manager.drop_index(Index::drop().table(table).name(name).to_owned()).await?;
            }
        }
        for name in [HAS_MESSAGES, IS_PURGING] {
            if has_room_column(manager, name).await {
                manager.alter_table(Table::alter().table(ROOM).drop_column(name).to_owned()).await?;
            }
        }
        Ok(())
    }
}

/// Returns whether the room table has the column `name`. The function runs a query, because SQLite's list of columns
/// omits generated columns.
async fn has_room_column(manager: &SchemaManager<'_>, name: &str) -> bool {
    let asked = format!("SELECT {name} FROM {ROOM} WHERE 1 = 0");
    manager.get_connection().execute_unprepared(&asked).await.is_ok()
}

fn index(table: &'static str, name: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    let mut index = Index::create();
    index.table(table).name(name);
    for column in columns {
        index.col(*column);
    }
    index
}
