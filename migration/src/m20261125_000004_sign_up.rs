//! Adds e-mail verification, temporary passwords and the outbox of e-mails.

use sea_orm_migration::prelude::*;

use crate::schema::{ColumnBuilder, number, row_id, token22};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TEMPORARY: [&str; 2] = ["temporary_hash", "temporary_until"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let build = ColumnBuilder::of(manager);
        let [hash, until] = TEMPORARY;
        for column in [ColumnDef::new(hash).char_len(64).take(), build.instant(until)] {
            if !manager.has_column("user", column.get_column_name()).await? {
                manager.alter_table(Table::alter().table("user").add_column(column).to_owned()).await?;
            }
        }
        manager.create_table(email_verification(build)).await?;
        manager.create_table(mail_outbox(build)).await?;
        for (table, name, column) in INDEXES {
            if !manager.has_index(table, name).await? {
                manager.create_index(Index::create().table(table).name(name).col(column).to_owned()).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["mail_outbox", "email_verification"] {
            manager.drop_table(Table::drop().table(table).if_exists().to_owned()).await?;
        }
        for name in TEMPORARY {
            if manager.has_column("user", name).await? {
                manager.alter_table(Table::alter().table("user").drop_column(name).to_owned()).await?;
            }
        }
        Ok(())
    }
}

const INDEXES: [(&str, &str, &str); 2] = [
    ("email_verification", "email_verification_expires", "expires_at"),
    // The mail dispatcher uses this index.
    ("mail_outbox", "mail_outbox_due", "due_at"),
];

fn email_verification(build: ColumnBuilder) -> TableCreateStatement {
    build
        .table("email_verification")
        .col(token22("ticket").primary_key())
        .col(ColumnDef::new("email_key").string_len(320).not_null())
        .col(ColumnDef::new("code_hash").char_len(64).not_null())
        .col(number("attempts"))
        .col(build.instant("expires_at").not_null())
        .col(build.instant("confirmed_at"))
        .take()
}

fn mail_outbox(build: ColumnBuilder) -> TableCreateStatement {
    build
        .table("mail_outbox")
        .col(row_id())
        .col(build.prose("recipient", Some(320)).not_null())
        .col(build.prose("subject", Some(200)).not_null())
        .col(build.prose("body", None).not_null())
        .col(number("attempts"))
        .col(build.instant("due_at").not_null())
        .col(build.instant("expires_at").not_null())
        .take()
}
