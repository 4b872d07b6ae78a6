//! First schema: hosts with settings and logins, rooms with their events, and messages.
//!
//! DDL on MySQL cannot be rolled back, so every step is idempotent: it skips tables and indexes that an interrupted run
//! created.

use sea_orm_migration::prelude::*;

use crate::schema::{ColumnBuilder, id, number, row_id, token22};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLES: [&str; 6] = ["user", "user_config", "login", "chatroom", "room_event", "chat_message"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let build = ColumnBuilder::of(manager);
        for table in
            [user(build), user_config(build), login(build), chatroom(build), room_event(build), chat_message(build)]
        {
            manager.create_table(table).await?;
        }
        for index in &INDEXES {
            if !manager.has_index(index.table, index.name).await? {
                manager.create_index(index.statement()).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES.into_iter().rev() {
            manager.drop_table(Table::drop().table(table).if_exists().to_owned()).await?;
        }
        Ok(())
    }
}

fn flag(name: &'static str, default: bool) -> ColumnDef {
    ColumnDef::new(name).boolean().not_null().default(default).take()
}

fn user(build: ColumnBuilder) -> TableCreateStatement {
    build
        .table("user")
        .col(row_id())
        .col(build.prose("email", Some(320)).not_null())
        // The key is the address in lower case, so that addresses that differ only in case belong to one account on
        // every dialect. A case-insensitive collation would also ignore accents, so different addresses would share an
        // account.
        .col(ColumnDef::new("email_key").string_len(320).not_null())
        .col(ColumnDef::new("password_hash").string_len(255).not_null())
        .col(token22("uuid"))
        .col(build.prose("profile_name", Some(100)).not_null())
        .col(build.prose("description", None).not_null())
        .col(token22("access_key"))
        .col(ColumnDef::new("secret_key").char_len(64).not_null())
        .col(build.prose("service_name", Some(50)).not_null())
        .col(build.prose("service_expl", Some(200)).not_null())
        .col(ColumnDef::new("service_domain").string_len(200))
        .col(ColumnDef::new("profile_image").string_len(512))
        .col(flag("is_deleted", false))
        .col(build.instant("deleted_at"))
        .col(build.instant("created_at").not_null())
        .col(build.instant("updated_at").not_null())
        .take()
}

fn user_config(build: ColumnBuilder) -> TableCreateStatement {
    build.table("user_config").col(id("user_id").primary_key()).col(flag("use_online_status", true)).take()
}

fn login(build: ColumnBuilder) -> TableCreateStatement {
    build
        .table("login")
        .col(token22("sid").primary_key())
        .col(id("user_id"))
        .col(number("generation"))
        .col(build.instant("created_at").not_null())
        .col(build.instant("rotated_at").not_null())
        .col(build.instant("expires_at").not_null())
        .col(build.instant("ended_at"))
        .take()
}

fn chatroom(build: ColumnBuilder) -> TableCreateStatement {
    build
        .table("chatroom")
        .col(row_id())
        .col(id("host_id"))
        .col(build.prose("guest", Some(50)).not_null())
        .col(token22("name"))
        .col(build.prose("latest_msg", None))
        .col(build.instant("latest_msg_at"))
        .col(build.instant("last_checked_at"))
        .col(flag("is_closed", false))
        .col(build.instant("closed_at"))
        .col(flag("is_fixed", false))
        .col(build.instant("fixed_at"))
        .col(build.instant("created_at").not_null())
        .col(build.instant("updated_at").not_null())
        .col(number("last_seq"))
        .col(ColumnDef::new("last_life").string_len(64))
        .col(number("state_version"))
        .col(number("purged_through"))
        .col(ColumnDef::new("idempotency_key").string_len(64))
        .take()
}

fn room_event(build: ColumnBuilder) -> TableCreateStatement {
    build
        .table("room_event")
        .col(row_id())
        .col(token22("room"))
        .col(id("chatroom_id"))
        .col(id("host_id"))
        .col(number("version"))
        .col(ColumnDef::new("kind").string_len(16).not_null())
        .col(build.instant("created_at").not_null())
        .take()
}

fn chat_message(build: ColumnBuilder) -> TableCreateStatement {
    build
        .table("chat_message")
        .col(id("chatroom_id"))
        .col(id("seq"))
        .col(flag("is_host", false))
        .col(build.prose("message", None).not_null())
        .col(ColumnDef::new("datetime").string_len(26).not_null())
        .col(ColumnDef::new("message_id").string_len(64).not_null())
        .col(build.instant("accepted_at").not_null())
        // With this key, the messages of a room are stored next to each other.
        .primary_key(Index::create().col("chatroom_id").col("seq"))
        .take()
}

struct IndexOf {
    table: &'static str,
    name: &'static str,
    columns: &'static [&'static str],
    unique: bool,
}

impl IndexOf {
    fn statement(&self) -> IndexCreateStatement {
        let mut index = Index::create();
        index.table(self.table).name(self.name);
        for column in self.columns {
            index.col(*column);
        }
        if self.unique {
            index.unique();
        }
        index
    }
}

const fn unique(table: &'static str, name: &'static str, columns: &'static [&'static str]) -> IndexOf {
    IndexOf { table, name, columns, unique: true }
}

const fn index(table: &'static str, name: &'static str, columns: &'static [&'static str]) -> IndexOf {
    IndexOf { table, name, columns, unique: false }
}

const INDEXES: [IndexOf; 10] = [
    unique("user", "user_email_key", &["email_key"]),
    unique("user", "user_uuid", &["uuid"]),
    unique("user", "user_access_key", &["access_key"]),
    index("login", "login_user", &["user_id"]),
    unique("chatroom", "chatroom_name", &["name"]),
    unique("chatroom", "chatroom_idempotency", &["host_id", "idempotency_key"]),
    // This index is in the reverse order of a host's room list. Scanned backwards, it returns pinned rooms first, the
    // latest pin on top, and then the other rooms, the latest update on top.
    index("chatroom", "chatroom_list", &["host_id", "is_fixed", "fixed_at", "updated_at"]),
    // Retention uses this index.
    index("chatroom", "chatroom_closed", &["is_closed", "closed_at"]),
    index("room_event", "room_event_created", &["created_at"]),
    // This index is not unique: the host and the guest may use the same id, and a cluster detects repeated ids only for
    // a limited time.
    index("chat_message", "chat_message_id", &["chatroom_id", "message_id"]),
];
