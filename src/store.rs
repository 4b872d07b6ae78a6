//! SQL repositories for hosts, logins, rooms and messages. One schema serves MySQL, MariaDB and SQLite.
//!
//! An operation is atomic: it has its whole effect or none. [`StoreError::Unavailable`] may still be returned after the
//! effect, when the response was lost. Every operation is therefore idempotent, and callers retry it. An operation
//! takes at most [`OPERATION_TIMEOUT`]; deadlocks and lock wait timeouts are retried within that time. Dropping the
//! future rolls the transaction back.
//!
//! **Locks** are always taken in this order: the row of a host, then rooms by ascending id, then everything else. The
//! row of a room is the lock of its sequence numbers and its messages: every insert of messages holds it.
//!
//! Times are stored in whole milliseconds. Arguments are truncated, never rounded up.

mod advance;
mod append;
mod archive;
mod connect;
mod consents;
mod contacts;
mod counts;
mod departures;
mod digests;
mod entity;
mod error;
mod expired;
mod fault;
mod files;
mod hosts;
mod idle;
mod installation;
mod keys;
mod logins;
mod messages;
pub(crate) mod metrics;
mod monitor;
mod notifications;
mod outbox;
mod passwords;
mod permissions;
mod pins;
mod profile_image;
mod profiles;
mod recycle;
mod retention;
mod room_events;
mod rooms;
mod standing;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod time;
mod unattended;
mod verifications;
mod webhook_events;
mod webhooks;

use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, Utc};
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbErr, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};

pub use append::{Append, Appended};
pub use archive::{Archived, ArchivedRoom, BatchRoom};
pub use connect::{InvalidUrl, is_made};
pub use consents::ConsentPair;
pub use departures::{Departure, MailQuotas, MailScope};
pub use digests::{HostDigest, HostDigestOutcome, PENDING_ROOMS, RoomDigest, SHOWN_ROOMS};
pub use error::StoreError;
pub use expired::Perishable;
pub(crate) use fault::is_missing_function;
pub use fault::{Fault, is_temporary};
pub(crate) use hosts::email_key;
pub use hosts::{Credentials, NewHost, Temporary};
pub use installation::{Installation, InstallationMode};
pub use keys::{KeyHolder, KeyPair, MAX_OLD_PAIRS, OldKeys};
pub use logins::{Begun, Rotation};
pub use messages::RoomRow;
pub(crate) use migration::mailbox_key;
pub use notifications::{ConsentRequest, DueNotification, EXCERPT, GuestDigest, Settled, WriteMail};
pub use outbox::{DueMail, MailClass, MailKind, MailPart, OutgoingMail};
pub use passwords::Replaced;
pub(crate) use permissions::restrict;
pub use pins::{MAX_PINNED, PinOutcome};
pub use profile_image::ImageSwap;
pub use profiles::ProfileChange;
pub use retention::PurgedRoom;
pub use room_events::{Changed, RoomEvent};
pub use rooms::{NewRoom, RoomFilter};
pub use standing::By;
pub use verifications::{CodeOutcome, Verification};
pub use webhook_events::TRIED_FOR;
pub use webhooks::{Attempt, DueWebhook, EventState, RecordedEvent, Turn, Webhook, WebhookChange, WebhookEvent};

use files::Files;
use monitor::Monitor;
use recycle::Recycle;

use crate::domain::WireOffset;
use crate::domain::clock::Clock;
use crate::store::metrics::{Operation, SqlMetrics};

/// Upper bound on the duration of one operation, including its retries and the wait for a connection.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of retries after a deadlock or a lock wait timeout.
const RETRIES: u32 = 3;

/// How long [`Store::close`] waits for connections whose server does not respond.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// SQLite has one writer connection, which also archives and migrates. On a server, each of the four fields is a
    /// separate pool: operations that wait for a lock or for a disk in one pool take no connections from the others.
    writer: DatabaseConnection,
    /// Writes batches of messages.
    archiver: DatabaseConnection,
    reader: DatabaseConnection,
    /// Changes the schema. Its statements have no time limit.
    schema: DatabaseConnection,
    shared: Arc<Shared>,
    /// See [`Store::with_clock`].
    clock: Option<Arc<dyn Clock>>,
    /// See [`Store::with_wire`].
    wire: WireOffset,
}

/// State that the clones of a store share, besides their connections.
#[derive(Debug)]
struct Shared {
    monitor: Monitor,
    recycle: Arc<Recycle>,
    /// `None` unless the database is SQLite.
    files: Option<Arc<Files>>,
    room_counts: rooms::RoomCountCache,
    metrics: SqlMetrics,
}

impl Store {
    /// Sets the clock that stamps the due times of work that a message causes in SQL. Without it, due times are counted
    /// from the `accepted_at` of the message, which is correct where one clock stamps both.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Sets the UTC offset of the clients' wall clocks. On reading, invalid wall clocks are replaced by `accepted_at`
    /// in this offset.
    #[must_use]
    pub fn with_wire(mut self, wire: WireOffset) -> Self {
        self.wire = wire;
        self
    }

    /// UTC offset of the clients' wall clocks.
    pub fn wire(&self) -> WireOffset {
        self.wire
    }

    /// Time from which the due times of work caused by a message are counted: now by the clock of the store, or else
    /// `accepted_at`.
    fn due_from(&self, accepted_at: DateTime<Utc>) -> DateTime<Utc> {
        millis(self.clock.as_ref().map_or(accepted_at, |clock| clock.now()))
    }

    /// Database system of this store.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Returns the pool that may change the schema, for migrations.
    pub fn connection(&self) -> &DatabaseConnection {
        &self.schema
    }

    /// Returns a value that changes whenever the connections are replaced because new ones may work where the old ones
    /// failed.
    pub fn connections_replaced(&self) -> u64 {
        self.shared.recycle.discarded()
    }

    /// Checks that the database responds.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.run(|| self.writer.ping()).await
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
        // A pool that fails to close holds nothing that could still be saved.
        let closed = pools.into_iter().map(async |pool| {
            if let Err(error) = pool.close().await {
                tracing::debug!(%error, "store did not close cleanly");
            }
        });
        if tokio::time::timeout(CLOSE_TIMEOUT, futures_util::future::join_all(closed)).await.is_err() {
            tracing::debug!("store did not close in time");
        }
    }

    /// Runs an operation within [`OPERATION_TIMEOUT`] and retries it if the database rolled it back because of other
    /// transactions (deadlock, lock wait timeout). The duration is recorded under the name of the calling file.
    #[track_caller]
    fn run<T, F>(&self, operation: impl Fn() -> F) -> impl Future<Output = Result<T, StoreError>>
    where
        F: Future<Output = Result<T, DbErr>>,
    {
        let asks = Location::caller().file();
        async move {
            let began = Instant::now();
            let result = self.run_for(operation).await;
            self.shared.metrics.duration.find(Operation(stem(asks))).record(began.elapsed());
            result
        }
    }

    async fn run_for<T, F>(&self, operation: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, DbErr>>,
    {
        let unavailable = |(_, reason): (Fault, String)| StoreError::Unavailable(reason);
        self.verify_files().await.map_err(unavailable)?;
        let Shared { monitor, recycle, .. } = &*self.shared;
        let result = {
            let mut attempts = pin!(self.attempts(operation));
            // Dropped before the attempts and their connection if the caller drops this future.
            let running = recycle.running();
            let result = tokio::time::timeout(OPERATION_TIMEOUT, attempts.as_mut()).await;
            if result.is_err() {
                recycle.discard();
            } else {
                running.done();
            }
            result
        };
        match result {
            // A commit to a file that was deleted meanwhile is lost and must not be acknowledged.
            Ok(Ok(done)) => self.verify_files().await.map(|()| done).map_err(unavailable),
            Ok(Err(error)) => {
                let fault = Fault::of(&error);
                let error = StoreError::from(error);
                if matches!(error, StoreError::Unavailable(_)) {
                    monitor.operation_failed(fault, &error);
                }
                Err(error)
            }
            Err(_) => {
                let error = StoreError::Unavailable(format!("no answer within {} s", OPERATION_TIMEOUT.as_secs()));
                monitor.operation_failed(Fault::Unreachable, &error);
                Err(error)
            }
        }
    }

    /// Runs an operation until it succeeds or a retry would be useless. A refused write is retried once on a new
    /// connection, because the database did not execute it.
    async fn attempts<T, F>(&self, operation: impl Fn() -> F) -> Result<T, DbErr>
    where
        F: Future<Output = Result<T, DbErr>>,
    {
        let (mut attempt, mut is_first_refusal) = (0, true);
        loop {
            let error = match operation().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if error::is_contention(&error) {
                if attempt == RETRIES {
                    return Err(error);
                }
                attempt += 1;
                tracing::debug!(%error, attempt, "transaction conflict, retrying");
                tokio::time::sleep(Duration::from_millis(10) * attempt * attempt).await;
                continue;
            }
            if !error::is_unavailable(&error) {
                return Err(error);
            }
            let fault = Fault::of(&error);
            if fault.is_of_connection() {
                self.shared.recycle.discard();
            }
            if !(is_first_refusal && matches!(fault, Fault::ReadOnly | Fault::Denied)) {
                return Err(error);
            }
            is_first_refusal = false;
            tracing::debug!(%error, "sql connection refused a write, retrying on a new connection");
        }
    }

    /// Begins a transaction that will write. On SQLite it takes the write lock at once: a transaction that reads first
    /// and writes later fails if another process wrote in between.
    async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        begin_on(&self.writer).await
    }

    /// Like [`begin`](Self::begin), on the pool for batches of messages.
    async fn begin_batch(&self) -> Result<DatabaseTransaction, DbErr> {
        begin_on(&self.archiver).await
    }
}

async fn begin_on(pool: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    pool.begin_with_options(TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..Default::default()
    })
    .await
}

/// File name without folder and extension: `rooms` for `src/store/rooms.rs`.
fn stem(file: &'static str) -> &'static str {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    name.strip_suffix(".rs").unwrap_or(name)
}

/// Truncates to milliseconds, which every dialect stores unchanged. MariaDB would truncate finer values, MySQL round
/// them, and SQLite keep them.
fn millis(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(3)
}

/// Converts a number to its column type. Numbers start at 0 and never approach the limit.
fn to_column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The reverse of [`to_column`].
fn from_column(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// Parses the text of a column that must have a certain form.
fn parse_column<T: std::str::FromStr>(column: &str, text: &str) -> Result<T, DbErr> {
    text.parse().map_err(|_| DbErr::Type(format!("{column} holds a value of another shape")))
}
