//! Adds an index for a host's list of rooms. The index contains all columns that are needed to filter, sort and count
//! the list. Also adds an index that finds rooms without messages by their creation time.
//!
//! Nodes of the previous release use the new index as well, because its first columns are those of the replaced index.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const ROOM: &str = "chatroom";

/// Whether the room has never had a message. The column is generated from the highest sequence number of the room.
const IS_EMPTY: &str = "is_empty";

const INDEXES: [(&str, &[&str]); 2] = [
    ("chatroom_listed", &["host_id", "is_fixed", "fixed_at", "updated_at", "is_closed", "guest"]),
    ("chatroom_empty", &[IS_EMPTY, "created_at"]),
];

/// Index that `chatroom_listed` replaces.
const OLD: (&str, &[&str]) = ("chatroom_list", &["host_id", "is_fixed", "fixed_at", "updated_at"]);

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if !has_room_column(manager, IS_EMPTY).await {
            let mut is_empty = ColumnDef::new(IS_EMPTY);
            is_empty.boolean().generated(Expr::col("last_seq").eq(0), false);
            manager.alter_table(Table::alter().table(ROOM).add_column(is_empty).to_owned()).await?;
        }
        for (name, columns) in INDEXES {
            create(manager, name, columns).await?;
        }
        drop(manager, OLD.0).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create(manager, OLD.0, OLD.1).await?;
        for (name, _) in INDEXES {
            drop(manager, name).await?;
        }
        if has_room_column(manager, IS_EMPTY).await {
            manager.alter_table(Table::alter().table(ROOM).drop_column(IS_EMPTY).to_owned()).await?;
        }
        Ok(())
    }
}

async fn create(manager: &SchemaManager<'_>, name: &'static str, columns: &[&'static str]) -> Result<(), DbErr> {
    if manager.has_index(ROOM, name).await? {
        return Ok(());
    }
    let mut index = Index::create();
    index.table(ROOM).name(name);
    for column in columns {
        index.col(*column);
    }
    manager.create_index(index).await
}

async fn drop(manager: &SchemaManager<'_>, name: &'static str) -> Result<(), DbErr> {
    if manager.has_index(ROOM, name).await? {
        manager.drop_index(Index::drop().table(ROOM).name(name).to_owned()).await?;
    }
    Ok(())
}

/// Returns whether the room table has the column `name`. The function runs a query, because SQLite's list of columns
/// omits generated columns.
async fn has_room_column(manager: &SchemaManager<'_>, name: &str) -> bool {
    let query = format!("SELECT {name} FROM {ROOM} WHERE 1 = 0");
    manager.get_connection().execute_unprepared(&query).await.is_ok()
}
