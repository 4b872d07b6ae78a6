//! Mails about messages that nobody was there for (SPEC 8): where a guest is reached, whether a host wants them, who is due,
//! and mails that leave at most once.
//!
//! While a node of the previous release runs, it notes nobody as due; what it takes out of the outbox it sends without
//! `List-Unsubscribe`, and should it die half-way, another may send it again.

use sea_orm_migration::prelude::*;

use crate::schema::{Words, id};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLE: &str = "notification";

/// What the notifier looks for.
const DUE: &str = "notification_due";

fn columns(words: Words) -> [(&'static str, ColumnDef); 6] {
    let flag = |name, default: bool| ColumnDef::new(name).boolean().not_null().default(default).take();
    [
        ("user_config", flag("email_notifications", true)),
        ("chatroom", words.prose("guest_email", Some(320))),
        ("chatroom", ColumnDef::new("guest_language").string_len(8).take()),
        ("chatroom", words.instant("guest_seen_at")),
        ("mail_outbox", flag("at_most_once", false)),
        ("mail_outbox", ColumnDef::new("unsubscribe_url").string_len(1000).take()),
    ]
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let words = Words::of(manager);
        for (table, column) in columns(words) {
            if !manager.has_column(table, column.get_column_name()).await? {
                manager.alter_table(Table::alter().table(table).add_column(column).to_owned()).await?;
            }
        }
        manager.create_table(notification(words)).await?;
        if !manager.has_index(TABLE, DUE).await? {
            manager.create_index(Index::create().table(TABLE).name(DUE).col("due_at").to_owned()).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(TABLE).if_exists().to_owned()).await?;
        for (table, column) in columns(Words::of(manager)) {
            let name = column.get_column_name();
            if manager.has_column(table, name.clone()).await? {
                manager.alter_table(Table::alter().table(table).drop_column(name).to_owned()).await?;
            }
        }
        Ok(())
    }
}

/// One row a room and side: that is what makes two mails impossible.
fn notification(words: Words) -> TableCreateStatement {
    words
        .table(TABLE)
        .col(id("chatroom_id"))
        .col(ColumnDef::new("to_host").boolean().not_null())
        .col(id("first_seq"))
        .col(words.instant("since").not_null())
        .col(words.instant("due_at"))
        .col(words.instant("mailed_at"))
        .primary_key(Index::create().col("chatroom_id").col("to_host"))
        .take()
}
