//! Adds webhooks and their events.
//!
//! A node of the previous release records no events for its changes.

use sea_orm_migration::prelude::*;

use crate::schema::{ColumnBuilder, id, number, row_id};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const EVENT: &str = "webhook_event";

const INDEXES: [(&str, &[&str]); 3] = [
    // This index finds the due events of a host, ordered by due time.
    ("webhook_event_due", &["host_id", "due_at"]),
    // This index finds the newest events of a host.
    ("webhook_event_host", &["host_id", "id"]),
    // This index finds events that are no longer retried, and finished events that are to be deleted.
    ("webhook_event_end", &["ends_at"]),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let build = ColumnBuilder::of(manager);
        manager.create_table(webhook(build)).await?;
        manager.create_table(event(build)).await?;
        if !manager.has_index(EVENT, "webhook_event_cause").await? {
            let mut cause = Index::create().table(EVENT).name("webhook_event_cause").unique().to_owned();
            manager.create_index(cause.col("chatroom_id").col("kind").col("number").to_owned()).await?;
        }
        for (name, columns) in INDEXES {
            if !manager.has_index(EVENT, name).await? {
                let mut index = Index::create().table(EVENT).name(name).to_owned();
                for column in columns {
                    index.col(*column);
                }
                manager.create_index(index).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [EVENT, "webhook"] {
            manager.drop_table(Table::drop().table(table).if_exists().to_owned()).await?;
        }
        Ok(())
    }
}

/// Returns the table of webhooks: one row per host.
fn webhook(build: ColumnBuilder) -> TableCreateStatement {
    build
        .table("webhook")
        .col(id("host_id").primary_key())
        .col(ColumnDef::new("url").string_len(2000).not_null())
        .col(ColumnDef::new("events").string_len(200).not_null())
        .col(ColumnDef::new("is_enabled").boolean().not_null())
        .col(build.instant("gone_at"))
        .col(ColumnDef::new("secret").string_len(100).not_null())
        .col(ColumnDef::new("old_secret").string_len(100))
        .col(build.instant("old_secret_ends_at"))
        .col(build.instant("next_turn_at").not_null())
        .col(number("failed_turns"))
        .col(build.instant("created_at").not_null())
        .col(build.instant("updated_at").not_null())
        .take()
}

/// Returns the table of events: one row per event. The cause is unique, so that an event that is recorded twice is sent
/// once.
fn event(build: ColumnBuilder) -> TableCreateStatement {
    build
        .table(EVENT)
        .col(row_id())
        .col(id("host_id"))
        .col(id("chatroom_id"))
        .col(ColumnDef::new("kind").string_len(20).not_null())
        .col(id("number"))
        .col(ColumnDef::new("body").text().not_null())
        .col(build.instant("created_at").not_null())
        .col(number("attempts"))
        .col(build.instant("due_at"))
        .col(ColumnDef::new("state").string_len(10).not_null())
        .col(build.instant("ends_at").not_null())
        .col(build.instant("tried_at"))
        .col(ColumnDef::new("status").big_integer())
        .col(ColumnDef::new("millis").big_integer())
        .col(build.prose("problem", Some(200)))
        .take()
}
