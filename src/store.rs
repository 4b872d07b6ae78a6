//! SQL repositories. One schema serves MySQL, MariaDB and SQLite.
//!
//! Each method of [`Store`] returns one repository, as in `store.rooms().create(…)`. The SQL of a repository is in the
//! module of that name (`rooms.rs` and `rooms/`), and the tables are declared in `entity/`, one per file. `database/`
//! contains what all repositories share: connections, retries, faults, and the monitor that probes the database.
//!
//! An operation is atomic. If the response is lost, [`StoreError::Unavailable`] is returned although the operation was
//! committed. Every operation is therefore idempotent, and callers retry it. An operation takes at most
//! [`OPERATION_TIMEOUT`]; within that time, it is retried after a deadlock or a lock wait timeout. Dropping the future
//! rolls the transaction back.
//!
//! **Locks** are always taken in this order: the row of a host, then rooms by ascending id, then everything else. The
//! lock on a room's row protects the sequence numbers and messages of the room: every transaction that inserts messages
//! holds it.
//!
//! Times are stored in whole milliseconds. Arguments are truncated, never rounded up.

mod consents;
mod contacts;
mod counts;
mod database;
mod entity;
mod expired;
mod hosts;
mod installation;
mod keys;
mod logins;
mod mails;
mod messages;
pub(crate) mod metrics;
mod notifications;
mod passwords;
mod retention;
mod rooms;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod unattended;
mod verifications;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use sea_orm::sqlx::mysql::MySqlConnectOptions;
use sea_orm::{DatabaseConnection, DbErr};

pub use consents::ConsentPair;
pub use database::connect::MYSQL_CONNECTIONS;
pub use database::connect::{InvalidUrl, is_made};
pub use database::error::StoreError;
pub use database::fault::is_temporary;
pub use database::lock::DatabaseLock;
pub(crate) use database::permissions::restrict;
pub use database::server::ServerSettings;
pub use expired::ExpiringRows;
pub use hosts::activation::DeactivatedBy;
pub(crate) use hosts::email_key;
pub use hosts::profile::ProfileChange;
pub use hosts::profile_image::ImageSwap;
pub use hosts::{Credentials, NewHost, TemporaryPassword};
pub use installation::{Installation, InstallationMode};
pub use keys::{KeyHolder, KeyPair, MAX_OLD_PAIRS, OldKeys};
pub use logins::{LoginCreation, Rotation};
pub use mails::mail::{DueMail, MailClass, MailKind, MailPart, OutgoingMail};
pub use mails::sending::{MailQuotas, MailScope, SendDecision};
pub use messages::append::{Append, Appended};
pub use messages::archive::{Archived, ArchivedRoom, BatchRoom};
pub(crate) use migration::mailbox_key;
pub use notifications::digests::{HostDigest, HostDigestOutcome, PENDING_ROOMS, RoomDigest, SHOWN_ROOMS};
pub use notifications::{ConsentRequest, DueNotification, EXCERPT, GuestDigest, NotificationDecision, WriteMail};
pub use passwords::PasswordReplacement;
pub use retention::PurgedRoom;
pub use rooms::NewRoom;
pub use rooms::events::{ChangedRoom, RoomEvent};
pub use rooms::list::RoomFilter;
pub use rooms::pins::{MAX_PINNED, PinOutcome};
pub use rooms::row::RoomRow;
pub use verifications::{CodeOutcome, PendingVerification};
pub use webhooks::events::TRIED_FOR;
pub use webhooks::{
    DeliveryAttempt, DeliveryLease, DueWebhook, EventState, HostWebhook, RecordedEvent, WebhookChange, WebhookEvent,
};

use database::files::Files;
use database::monitor::Monitor;
use database::recycle::Recycle;

use crate::domain::clock::Clock;
use crate::domain::{HostId, WireOffset};
use crate::store::metrics::SqlMetrics;

/// Maximum duration of one operation, including its retries and the wait for a connection.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time for which [`Store::close`] waits for connections whose server does not respond.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Defines the repositories, and the methods of [`Store`] that return them. A repository only borrows the store. Its
/// SQL is in the module of the same name.
macro_rules! repositories {
    ($($(#[$doc:meta])* $name:ident: $Repository:ident;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $Repository<'a> {
                store: &'a Store,
            }
        )*

        impl Store {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> $Repository<'_> {
                    $Repository { store: self }
                }
            )*
        }
    };
}

repositories! {
    /// Rooms: creation, lists, changes of state and the events of these changes, pins, counts.
    rooms: RoomRepository;
    /// Messages: appending by a single node, archiving by a cluster, history, and deletion of rows that are not
    /// visible.
    messages: MessageRepository;
    /// Contact addresses of guests, and the last message that each guest has seen.
    contacts: ContactRepository;
    /// Guests' consent to e-mail from a host.
    consents: ConsentRepository;
    /// Hosts: accounts, settings, profiles and activation.
    hosts: HostRepository;
    /// Password hashes and temporary passwords.
    passwords: PasswordRepository;
    /// Confirmation of e-mail addresses before sign-up.
    verifications: VerificationRepository;
    /// Logins and the rotation of their refresh tokens.
    logins: LoginRepository;
    /// Access keys of services.
    keys: KeyRepository;
    /// Recipients who missed messages, and decisions about whether to e-mail them.
    notifications: NotificationRepository;
    /// Outbox of e-mails, and the limits on sending them.
    mails: MailRepository;
    /// Webhooks, their events, and the delivery leases of nodes.
    webhooks: WebhookRepository;
    /// Record of the installation that owns the database.
    installation: InstallationRepository;
    /// Retention: purging the messages of closed rooms.
    retention: RetentionRepository;
    /// Deletion of expired rows.
    expired: ExpiredRepository;
}

/// Database system behind a [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// MySQL ≥ 8.0 or MariaDB ≥ 10.6.
    MySql,
    /// SQLite, in one file.
    Sqlite,
}

/// Handle to the database. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Store {
    dialect: Dialect,
    /// With SQLite, `writer`, `archiver` and `schema` share one connection. With a database server, `writer`,
    /// `archiver`, `reader` and `schema` are separate pools. Operations that wait for a lock or for the disk in one
    /// pool therefore do not occupy connections of the other pools.
    writer: DatabaseConnection,
    /// Pool for batches of messages.
    archiver: DatabaseConnection,
    reader: DatabaseConnection,
    /// Pool for schema changes. Its statements have no timeout.
    schema: DatabaseConnection,
    shared: Arc<StoreState>,
    /// See [`Store::with_clock`].
    clock: Option<Arc<dyn Clock>>,
    /// See [`Store::with_wire`].
    wire: WireOffset,
}

/// Cache of the lengths of long room lists, by host and filter.
type RoomCountCache = moka::future::Cache<(HostId, RoomFilter), u64>;

fn room_count_cache() -> RoomCountCache {
    moka::future::Cache::builder().max_capacity(1_000).time_to_live(Duration::from_secs(60)).build()
}

/// Cache of whether the webhooks of hosts subscribe to created rooms.
type RoomCreatedCache = moka::future::Cache<HostId, bool>;

fn room_created_cache() -> RoomCreatedCache {
    let cache = moka::future::Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(5));
    cache.support_invalidation_closures().build()
}

/// State that the clones of a store share in addition to their connections.
#[derive(Debug)]
struct StoreState {
    monitor: Monitor,
    recycle: Arc<Recycle>,
    /// Options of a connection to the database server. `None` if the database is SQLite.
    server: Option<MySqlConnectOptions>,
    /// `None` unless the database is SQLite.
    files: Option<Arc<Files>>,
    room_counts: RoomCountCache,
    wants_room_created: RoomCreatedCache,
    metrics: SqlMetrics,
}

impl Store {
    /// Sets the clock from which the due times of notifications and webhook events are calculated. Without such a
    /// clock, they are calculated from the message's `accepted_at`. This is correct if the clock that sets
    /// `accepted_at` also determines what is due.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Sets the UTC offset of the clients' wall clocks. On reading, invalid wall-clock times are replaced by
    /// `accepted_at` in this offset.
    #[must_use]
    pub fn with_wire(mut self, wire: WireOffset) -> Self {
        self.wire = wire;
        self
    }

    /// Returns the UTC offset of the clients' wall clocks.
    pub fn wire(&self) -> WireOffset {
        self.wire
    }

    /// Returns the start time for the due times of a message's notifications and webhook events: the current time of
    /// the store's clock, or `accepted_at` if no clock is set.
    fn due_from(&self, accepted_at: DateTime<Utc>) -> DateTime<Utc> {
        millis(self.clock.as_ref().map_or(accepted_at, |clock| clock.now()))
    }

    /// Returns the database system of this store.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Returns the pool that may change the schema, for migrations.
    pub fn connection(&self) -> &DatabaseConnection {
        &self.schema
    }

    /// Returns a value that changes whenever the connections are replaced after a failure.
    pub fn connections_replaced(&self) -> u64 {
        self.shared.recycle.discarded()
    }

    /// Checks that the database responds.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.run("store", || self.writer.ping()).await
    }

    /// Closes every connection after its running operation has ended, or after [`CLOSE_TIMEOUT`].
    pub async fn close(self) {
        if let Some(files) = &self.shared.files {
            files.close();
        }
        let mut pools = vec![self.reader, self.writer];
        if self.dialect == Dialect::MySql {
            pools.extend([self.archiver, self.schema]);
        }
        // A failure to close a pool loses no data.
        let closed = pools.into_iter().map(async |pool| {
            if let Err(error) = pool.close().await {
                tracing::debug!(%error, "failed to close sql connections");
            }
        });
        if tokio::time::timeout(CLOSE_TIMEOUT, futures_util::future::join_all(closed)).await.is_err() {
            tracing::debug!("timed out closing sql connections");
        }
    }
}

/// Truncates a time to milliseconds, which every dialect stores unchanged. MariaDB would truncate finer values, MySQL
/// would round them, and SQLite would keep them.
fn millis(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(3)
}

/// Converts a number to its column type. Numbers start at 0 and never approach the maximum of `i64`.
fn to_column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Converts a column value to a number. Reverses [`to_column`].
fn from_column(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// Parses the value of a column. Returns an error if its form is invalid.
fn parse_column<T: std::str::FromStr>(column: &str, text: &str) -> Result<T, DbErr> {
    text.parse().map_err(|_| DbErr::Type(format!("{column} holds a value of another shape")))
}
