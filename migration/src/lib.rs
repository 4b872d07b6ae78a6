//! Schema migrations of PinTalk for MySQL, MariaDB and SQLite. Each change is one dated file with `up` and `down`, and
//! is safe to apply while the previous release still runs.

pub use sea_orm_migration::prelude::MigratorTrait;
use sea_orm_migration::prelude::{MigrationTrait, async_trait};

mod lock;
mod m20261123_000001_initial;
mod m20261125_000002_room_counts;
mod m20261125_000003_message_datetime;
mod m20261125_000004_sign_up;
mod m20261125_000005_old_keys;
mod m20261127_000006_disabled;
mod m20261127_000007_duties;
mod m20261127_000008_notifications;
mod m20261127_000009_webhooks;
mod m20261130_000010_installation;
mod m20261130_000011_write_probe;
mod m20261130_000012_seen;
mod m20261130_000013_consent;
mod m20261130_000015_room_list;
mod mailbox;
mod schema;
mod state;

pub use mailbox::{MAILBOX_DIGEST, canonical_mailbox, mailbox_digest, mailbox_key};
pub use state::SchemaState;

/// Migrations of PinTalk, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_initial::Migration),
            Box::new(m20261125_000002_room_counts::Migration),
            Box::new(m20261125_000003_message_datetime::Migration),
            Box::new(m20261125_000004_sign_up::Migration),
            Box::new(m20261125_000005_old_keys::Migration),
            Box::new(m20261127_000006_disabled::Migration),
            Box::new(m20261127_000007_duties::Migration),
            Box::new(m20261127_000008_notifications::Migration),
            Box::new(m20261127_000009_webhooks::Migration),
            Box::new(m20261130_000010_installation::Migration),
            Box::new(m20261130_000011_write_probe::Migration),
            Box::new(m20261130_000012_seen::Migration),
            Box::new(m20261130_000013_consent::Migration),
            Box::new(m20261130_000015_room_list::Migration),
        ]
    }
}
