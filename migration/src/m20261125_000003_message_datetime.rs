//! Adds an index that finds a message by its wall-clock time without reading the whole room. The legacy widget
//! identifies messages by wall-clock time.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLE: &str = "chat_message";
const INDEX: &str = "chat_message_datetime";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.has_index(TABLE, INDEX).await? {
            return Ok(());
        }
        let index = Index::create().table(TABLE).name(INDEX).col("chatroom_id").col("datetime").to_owned();
        manager.create_index(index).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.has_index(TABLE, INDEX).await? {
            manager.drop_index(Index::drop().table(TABLE).name(INDEX).to_owned()).await?;
        }
        Ok(())
    }
}
