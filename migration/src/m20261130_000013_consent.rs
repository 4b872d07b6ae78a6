//! Adds consent, digests and limits on e-mails (SPEC 8). The new tables contain the consent per host and mailbox, the
//! time of each host's last digest, the text about each room in an unsent e-mail, and the e-mails of the last hour.
//!
//! Consent is recorded for each pair of a host and a mailbox that received the host's e-mail before this change.
//! `notification` contains the rooms whose guest was e-mailed, and the row of a room contains the current address of
//! its guest. Deleted rooms and rooms whose guest unsubscribed have no address, so no consent is recorded for their
//! guests.
//!
//! A node of the previous release e-mails guests without consent, e-mails hosts once per room, and does not count
//! e-mails. It also sends the e-mails that nodes of this release write to the outbox.

use sea_orm_migration::prelude::*;

use crate::mailbox::mailbox_key;
use crate::schema::{ColumnBuilder, id, row_id, token22};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const CONSENT: &str = "mail_consent";
const PART: &str = "mail_part";
const DEPARTURE: &str = "mail_departure";
const CLASS: &str = "mail_class";
const DIGEST: &str = "host_digest";
const OUTBOX: &str = "mail_outbox";
const NOTIFICATION: &str = "notification";

/// Classes of e-mail. Each class has its own limit.
const CLASSES: [&str; 3] = ["account", "host", "guest"];

const INDEXES: [(&str, &str, &[&str]); 9] = [
    // This index finds the consent requests to a mailbox in the last month.
    (CONSENT, "mail_consent_asked", &["mailbox", "asked_at"]),
    (PART, "mail_part_room", &["chatroom_id"]),
    (DEPARTURE, "mail_departure_class", &["class", "ends_at"]),
    (DEPARTURE, "mail_departure_mailbox", &["mailbox", "class", "ends_at"]),
    (DEPARTURE, "mail_departure_host", &["host_id", "class", "ends_at"]),
    (DEPARTURE, "mail_departure_ends", &["ends_at"]),
    (OUTBOX, "mail_outbox_host", &["host_id", "mailbox"]),
    (NOTIFICATION, "notification_host", &["host_id", "due_at"]),
    (NOTIFICATION, "notification_consent", &["awaits_consent"]),
];

/// Maximum number of rows per `INSERT`.
const BATCH: u64 = 500;

fn columns() -> [(&'static str, ColumnDef); 5] {
    [
        (OUTBOX, ColumnDef::new("kind").string_len(20).take()),
        (OUTBOX, ColumnDef::new("host_id").big_integer().take()),
        (OUTBOX, ColumnDef::new("mailbox").char_len(22).take()),
        (NOTIFICATION, ColumnDef::new("host_id").big_integer().take()),
        (NOTIFICATION, ColumnDef::new("awaits_consent").char_len(22).take()),
    ]
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let build = ColumnBuilder::of(manager);
        for (table, column) in columns() {
            if !manager.has_column(table, column.get_column_name()).await? {
                manager.alter_table(Table::alter().table(table).add_column(column).to_owned()).await?;
            }
        }
        for table in tables(build) {
            manager.create_table(table).await?;
        }
        for (table, name, columns) in INDEXES {
            if !manager.has_index(table, name).await? {
                let mut index = Index::create().table(table).name(name).to_owned();
                for column in columns {
                    index.col(*column);
                }
                manager.create_index(index).await?;
            }
        }
        let mut classes = Query::insert().into_table(CLASS).columns(["class"]).to_owned();
        for class in CLASSES {
            classes.values_panic([class.into()]);
        }
        let classes = classes.on_conflict(OnConflict::column("class").update_column("class").to_owned()).to_owned();
        manager.execute(classes).await?;
        mark_mailed(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [CONSENT, PART, DEPARTURE, CLASS, DIGEST] {
            manager.drop_table(Table::drop().table(table).if_exists().to_owned()).await?;
        }
        for (table, name, _) in INDEXES {
            if [OUTBOX, NOTIFICATION].contains(&table) && manager.has_index(table, name).await? {
                manager.drop_index(Index::drop().table(table).name(name).to_owned()).await?;
            }
        }
        for (table, column) in columns() {
            let name = column.get_column_name();
            if manager.has_column(table, name.clone()).await? {
                manager.alter_table(Table::alter().table(table).drop_column(name).to_owned()).await?;
            }
        }
        Ok(())
    }
}

fn tables(build: ColumnBuilder) -> [TableCreateStatement; 5] {
    let class = || ColumnDef::new("class").string_len(10).not_null().take();
    let consent = build
        .table(CONSENT)
        .col(id("host_id"))
        .col(token22("mailbox"))
        .col(build.instant("asked_at"))
        .col(build.instant("granted_at"))
        .col(build.instant("withdrawn_at"))
        .primary_key(Index::create().col("host_id").col("mailbox"))
        .take();
    let part = build
        .table(PART)
        .col(id("mail_id"))
        .col(id("chatroom_id"))
        .col(id("last_seq"))
        .col(build.prose("text", None).not_null())
        .primary_key(Index::create().col("mail_id").col("chatroom_id"))
        .take();
    let departure = build
        .table(DEPARTURE)
        .col(row_id())
        .col(class())
        .col(token22("mailbox"))
        .col(ColumnDef::new("host_id").big_integer())
        .col(build.instant("ends_at").not_null())
        .take();
    let classes = build.table(CLASS).col(class().primary_key()).take();
    let digest = build.table(DIGEST).col(id("host_id").primary_key()).col(build.instant("mailed_at")).take();
    [consent, part, departure, classes, digest]
}

/// Records consent for each host and each mailbox that received the host's e-mail, if a room still contains the
/// address.
async fn mark_mailed(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    let mut after = 0_i64;
    loop {
        let mailed = Query::select()
            .column(("chatroom", "id"))
            .column(("chatroom", "host_id"))
            .column(("chatroom", "guest_email"))
            .from(NOTIFICATION)
            .inner_join("chatroom", Expr::col(("chatroom", "id")).equals((NOTIFICATION, "chatroom_id")))
            .and_where(Expr::col((NOTIFICATION, "chatroom_id")).gt(after))
            .and_where(Expr::col((NOTIFICATION, "to_host")).eq(false))
            .and_where(Expr::col((NOTIFICATION, "mailed_at")).is_not_null())
            .and_where(Expr::col(("chatroom", "guest_email")).is_not_null())
            .order_by((NOTIFICATION, "chatroom_id"), Order::Asc)
            .limit(BATCH)
            .to_owned();
        let rows = connection.query_all(&mailed).await?;
        let mut insert = Query::insert().into_table(CONSENT).columns(["host_id", "mailbox", "granted_at"]).to_owned();
        for row in &rows {
            after = row.try_get_by_index(0)?;
            let (host, address): (i64, String) = (row.try_get_by_index(1)?, row.try_get_by_index(2)?);
            insert.values_panic([host.into(), mailbox_key(&address).into(), Expr::current_timestamp()]);
        }
        if rows.is_empty() {
            return Ok(());
        }
        let once = OnConflict::columns(["host_id", "mailbox"]).update_column("mailbox").to_owned();
        connection.execute(insert.on_conflict(once)).await?;
    }
}
