//! Adds e-mail notifications about missed messages (SPEC 8): guests' addresses, the hosts' setting, due notifications,
//! and e-mails that are sent at most once.
//!
//! A node of the previous release records no notifications and sends e-mails from the outbox without
//! `List-Unsubscribe`. If it crashes, another node may send its e-mails again.

use sea_orm_migration::prelude::*;

use crate::schema::{ColumnBuilder, id};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLE: &str = "notification";

/// Index that the notifier uses.
const DUE: &str = "notification_due";

fn columns(build: ColumnBuilder) -> [(&'static str, ColumnDef); 6] {
    let flag = |name, default: bool| ColumnDef::new(name).boolean().not_null().default(default).take();
    [
        ("user_config", flag("email_notifications", true)),
        ("chatroom", build.prose("guest_email", Some(320))),
        ("chatroom", ColumnDef::new("guest_language").string_len(8).take()),
        ("chatroom", build.instant("guest_seen_at")),
        ("mail_outbox", flag("at_most_once", false)),
        ("mail_outbox", ColumnDef::new("unsubscribe_url").string_len(1000).take()),
    ]
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let build = ColumnBuilder::of(manager);
        for (table, column) in columns(build) {
            if !manager.has_column(table, column.get_column_name()).await? {
                manager.alter_table(Table::alter().table(table).add_column(column).to_owned()).await?;
            }
        }
        manager.create_table(notification(build)).await?;
        if !manager.has_index(TABLE, DUE).await? {
            manager.create_index(Index::create().table(TABLE).name(DUE).col("due_at").to_owned()).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(TABLE).if_exists().to_owned()).await?;
        for (table, column) in columns(ColumnBuilder::of(manager)) {
            let name = column.get_column_name();
            if manager.has_column(table, name.clone()).await? {
                manager.alter_table(Table::alter().table(table).drop_column(name).to_owned()).await?;
            }
        }
        Ok(())
    }
}

/// Returns the table of notifications. It has at most one row per room and recipient (host or guest), so that two nodes
/// cannot both create a notification.
fn notification(build: ColumnBuilder) -> TableCreateStatement {
    build
        .table(TABLE)
        .col(id("chatroom_id"))
        .col(ColumnDef::new("to_host").boolean().not_null())
        .col(id("first_seq"))
        .col(build.instant("since").not_null())
        .col(build.instant("due_at"))
        .col(build.instant("mailed_at"))
        .primary_key(Index::create().col("chatroom_id").col("to_host"))
        .take()
}
