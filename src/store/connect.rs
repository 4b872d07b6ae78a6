//! Connections: how many, with which time-outs and session settings.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sea_orm::sqlx::{self, Connection as _, Executor as _};
use sea_orm::{SqlxMySqlConnector, SqlxSqliteConnector};

use super::files::Files;
use super::monitor::Monitor;
use super::recycle::{Recycle, Use};
use super::rooms::room_count_cache;
use super::{Dialect, Shared, Store, StoreError};
use crate::domain::WireOffset;

/// How long an operation waits for a connection, new or free.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections of a node to MySQL that read. Statements take about a millisecond: ten are enough for thousands a second.
const MYSQL_READERS: u32 = 10;

/// Connections that write, beside the archive's.
const MYSQL_WRITERS: u32 = 8;

/// Connections that write batches of messages.
const MYSQL_ARCHIVERS: u32 = 6;

/// Connections without a limit per statement: the schema's, and the lock of a single node.
const MYSQL_SCHEMA: u32 = 2;

/// Shorter than the session's `wait_timeout` of 10 s, so that it is this side that closes an idle connection.
const MYSQL_IDLE_TIMEOUT: Duration = Duration::from_secs(8);

/// Strict on every server. The locks of a node that was cut off are released after 10 s (`wait_timeout`); no statement waits
/// longer than 3 s for a row.
const MYSQL_SESSION: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ONLY_FULL_GROUP_BY,NO_ZERO_IN_DATE,NO_ZERO_DATE,\
     ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', SESSION time_zone = '+00:00', \
     SESSION innodb_lock_wait_timeout = 3, SESSION wait_timeout = 10";

/// No statement waits longer than 3 s for a table (`LOCK TABLES`, `ALTER TABLE`; the servers' default is a year or a day), and
/// none runs longer than 8 s: below [`super::OPERATION_TIMEOUT`], so that the server ends it before this side closes the
/// connection. MySQL limits reads only, in milliseconds; MariaDB every statement, in seconds.
const MYSQL_LIMITS: &str = "SET SESSION lock_wait_timeout = 3 \
     /*!50708 , SESSION max_execution_time = 8000 */ /*M!100108 , SESSION max_statement_time = 8 */";

/// A change of the schema takes as long as its table is large. While it waits for a table, all other statements on that table
/// wait behind it.
const MYSQL_SCHEMA_LIMITS: &str = "SET SESSION lock_wait_timeout = 10 \
     /*!50708 , SESSION max_execution_time = 0 */ /*M!100108 , SESSION max_statement_time = 0 */";

/// No gap locks: every read that decides something locks the very rows it decides upon, and the gap locks of the default
/// level would let inserts into different rooms deadlock. Spelt so that MariaDB knows it, too.
const MYSQL_ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

/// How long SQLite waits for another process that is writing.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Readers of SQLite beside its one writer.
const SQLITE_READERS: u32 = 4;

/// A database URL that cannot be understood. The text holds nothing of the URL, which may have a password in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a database URL: {0}")]
pub struct InvalidUrl(String);

impl Store {
    /// Connects to `mysql://user:password@host:port/database` or `sqlite:///absolute/path` (made if it is not there).
    ///
    /// # Errors
    /// `Data` when the URL is wrong, `Unavailable` when the database is not there.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let store = Self::connect_lazy(url).await.map_err(|error| StoreError::Data(error.to_string()))?;
        store.ping().await?;
        Ok(store)
    }

    /// Like [`connect`](Self::connect), but reaches for the database only at the first use: a node starts without it.
    ///
    /// # Errors
    /// Only when the URL is wrong.
    pub async fn connect_lazy(url: &str) -> Result<Self, InvalidUrl> {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("mysql" | "mariadb") => mysql(url),
            Some("sqlite") => sqlite(url),
            _ => Err(InvalidUrl("it starts neither with mysql:// nor with sqlite://".to_owned())),
        }
    }
}

fn mysql(url: &str) -> Result<Store, InvalidUrl> {
    let options: MySqlConnectOptions = url.parse().map_err(|error: sqlx::Error| InvalidUrl(error.to_string()))?;
    if options.get_database().is_none_or(str::is_empty) {
        return Err(InvalidUrl("it names no database".to_owned()));
    }
    let recycle = Arc::new(Recycle::new());
    let options = options.disable_statement_logging();
    let pool = |connections, of, limits| {
        let pool = mysql_pool(connections, of, limits, &recycle, &options).connect_lazy_with(options.clone());
        SqlxMySqlConnector::from_sqlx_mysql_pool(pool)
    };
    Ok(Store {
        dialect: Dialect::MySql,
        writer: pool(MYSQL_WRITERS, Use::Write, MYSQL_LIMITS),
        archiver: pool(MYSQL_ARCHIVERS, Use::Write, MYSQL_LIMITS),
        reader: pool(MYSQL_READERS, Use::Read, MYSQL_LIMITS),
        schema: pool(MYSQL_SCHEMA, Use::Write, MYSQL_SCHEMA_LIMITS),
        clock: None,
        wire: WireOffset::default(),
        shared: Arc::new(Shared { monitor: Monitor::new(), recycle, files: None, room_counts: room_count_cache() }),
    })
}

fn mysql_pool(
    connections: u32,
    of: Use,
    limits: &'static str,
    recycle: &Arc<Recycle>,
    options: &MySqlConnectOptions,
) -> MySqlPoolOptions {
    let acquired = (recycle.clone(), Arc::new(options.clone()));
    let released = acquired.clone();
    MySqlPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(MYSQL_IDLE_TIMEOUT)
        // `Recycle` does so, with a limit of time.
        .test_before_acquire(false)
        .before_acquire(move |connection, metadata| {
            let (recycle, options) = acquired.clone();
            Box::pin(async move { Ok(recycle.may_use(of, connection, metadata.age, &options).await) })
        })
        .after_release(move |connection, metadata| {
            let (recycle, options) = released.clone();
            Box::pin(async move { Ok(recycle.may_return(of, connection, metadata.age, &options).await) })
        })
        .after_connect(move |connection, _| {
            Box::pin(async move {
                // Settings of the session are no query: nothing that a builder could build.
                connection.execute(MYSQL_SESSION).await?;
                connection.execute(limits).await?;
                connection.execute(MYSQL_ISOLATION).await?;
                Ok(())
            })
        })
}

/// Whether there is a database to connect to, as far as this machine can tell: one that is a file of its own may not have been made.
///
/// # Errors
/// [`InvalidUrl`].
pub fn is_made(url: &str) -> Result<bool, InvalidUrl> {
    if !url.starts_with("sqlite:") {
        return Ok(true);
    }
    let options: SqliteConnectOptions = url.parse().map_err(|error: sqlx::Error| InvalidUrl(error.to_string()))?;
    Ok(options.get_filename().exists())
}

fn sqlite(url: &str) -> Result<Store, InvalidUrl> {
    let options: SqliteConnectOptions = url.parse().map_err(|error: sqlx::Error| InvalidUrl(error.to_string()))?;
    let (recycle, files) = (Arc::new(Recycle::new()), Arc::new(Files::of(options.get_filename())));
    // `Files` creates the database, once.
    let options = options
        .create_if_missing(false)
        .busy_timeout(SQLITE_BUSY_TIMEOUT)
        .foreign_keys(false)
        .disable_statement_logging();
    // A message is acknowledged once it is committed, so a commit must survive a power cut: FULL.
    let writing = options.clone().journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
    let reading = options.pragma("query_only", "ON");
    let writer = SqlxSqliteConnector::from_sqlx_sqlite_pool(sqlite_writer(&recycle, &files).connect_lazy_with(writing));
    let reader =
        SqlxSqliteConnector::from_sqlx_sqlite_pool(sqlite_readers(&recycle, &files).connect_lazy_with(reading));
    Ok(Store {
        dialect: Dialect::Sqlite,
        archiver: writer.clone(),
        schema: writer.clone(),
        writer,
        reader,
        clock: None,
        wire: WireOffset::default(),
        shared: Arc::new(Shared {
            monitor: Monitor::new(),
            recycle,
            files: Some(files),
            room_counts: room_count_cache(),
        }),
    })
}

/// A file answers, or its operation fails: only the connections of before a fault are closed.
fn sqlite_writer(recycle: &Arc<Recycle>, files: &Arc<Files>) -> SqlitePoolOptions {
    let (acquired, released) = ((recycle.clone(), files.clone()), (recycle.clone(), files.clone()));
    sqlite_pool(1, true, files)
        .idle_timeout(None)
        .max_lifetime(None)
        // It was tested when it was released.
        .test_before_acquire(false)
        .before_acquire(move |_, metadata| {
            let (recycle, files) = acquired.clone();
            Box::pin(async move { Ok(stays(&files, !recycle.is_discarded(Use::Write, metadata.age))) })
        })
        .after_release(move |connection, metadata| {
            let (recycle, files) = released.clone();
            Box::pin(async move {
                // A disk that is full rolls a transaction back by itself, and the driver still believes to be in it: what comes
                // next would only be a part of it, and never be committed.
                let is_clean = connection.ping().await.is_ok() && !connection.is_in_transaction();
                Ok(stays(&files, is_clean && !recycle.is_discarded(Use::Write, metadata.age)))
            })
        })
}

fn stays(files: &Files, stays: bool) -> bool {
    if !stays {
        files.writer_closes();
    }
    stays
}

fn sqlite_readers(recycle: &Arc<Recycle>, files: &Arc<Files>) -> SqlitePoolOptions {
    let recycle = recycle.clone();
    sqlite_pool(SQLITE_READERS, false, files).before_acquire(move |_, metadata| {
        let may_use = !recycle.is_discarded(Use::Read, metadata.age);
        Box::pin(std::future::ready(Ok(may_use)))
    })
}

fn sqlite_pool(connections: u32, is_writer: bool, files: &Arc<Files>) -> SqlitePoolOptions {
    let files = files.clone();
    SqlitePoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT).after_connect(
        move |connection, _| {
            let files = files.clone();
            Box::pin(async move {
                // The files beside it exist from the first read on.
                connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").await?;
                files.connected(is_writer).map_err(|problem| sqlx::Error::Configuration(format!("{problem:?}").into()))
            })
        },
    )
}
