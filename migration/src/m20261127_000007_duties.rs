//! What the leader looks for, so that it finds nothing in no time: rooms that retention or idleness is to act on, rooms whose
//! rows are on their way out, and what has expired.
//!
//! A node of the previous release neither sees nor writes these columns: one has a default, and the other follows from what it
//! writes.

use sea_orm_migration::prelude::*;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const ROOM: &str = "chatroom";

/// Whether retention has taken a room's messages, and rows may be left.
const IS_PURGING: &str = "is_purging";

/// Whether a room has had messages that retention has not taken: without it, every look for what is due would walk over all the
/// empty rooms of the past.
const HAS_MESSAGES: &str = "has_messages";

const INDEXES: [(&str, &str, &[&str]); 5] = [
    (ROOM, "chatroom_purging", &[IS_PURGING]),
    (ROOM, "chatroom_due", &["is_closed", HAS_MESSAGES, "closed_at"]),
    (ROOM, "chatroom_idle", &["is_closed", "updated_at"]),
    ("login", "login_expires", &["expires_at"]),
    ("mail_outbox", "mail_outbox_expires", &["expires_at"]),
];

/// What `chatroom_due` takes the place of.
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

/// SQLite's list of columns leaves out those that follow from others: whether there is one is seen by asking for it.
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
