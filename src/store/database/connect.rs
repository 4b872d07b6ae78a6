//! Connection pools: sizes, timeouts and session settings.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sea_orm::sqlx::{self, Connection as _, Executor as _};
use sea_orm::{SqlxMySqlConnector, SqlxSqliteConnector};

use crate::domain::WireOffset;
use crate::store::database::files::Files;
use crate::store::database::monitor::Monitor;
use crate::store::database::recycle::{Recycle, Use};
use crate::store::metrics::SqlMetrics;
use crate::store::{Dialect, Store, StoreError, StoreState, room_count_cache, room_created_cache};

/// Maximum time for which an operation waits for a free or new connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of read connections to MySQL per node. A statement takes about 1 ms, so ten connections are enough
/// for thousands of statements per second.
const MYSQL_READERS: u32 = 10;

/// Maximum number of write connections per node, in addition to those of the archiver.
const MYSQL_WRITERS: u32 = 8;

/// Maximum number of connections per node that write batches of messages.
const MYSQL_ARCHIVERS: u32 = 6;

/// Maximum number of connections without a statement timeout. They are used for schema changes and for the database
/// lock of a single-node server.
const MYSQL_SCHEMA: u32 = 2;

/// Maximum number of connections to MySQL per node.
pub const MYSQL_CONNECTIONS: u32 = MYSQL_READERS + MYSQL_WRITERS + MYSQL_ARCHIVERS + MYSQL_SCHEMA;

/// Time after which the client closes an idle connection. This is shorter than the session's `wait_timeout` of 10 s, so
/// that the server does not close the connection first.
const MYSQL_IDLE_TIMEOUT: Duration = Duration::from_secs(8);

/// Session settings. Strict SQL mode is set regardless of the server's default. After `wait_timeout`, the server
/// releases the locks of an unreachable node. A statement waits at most 3 s for a row lock.
const MYSQL_SESSION: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ONLY_FULL_GROUP_BY,NO_ZERO_IN_DATE,NO_ZERO_DATE,\
     ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', SESSION time_zone = '+00:00', \
     SESSION innodb_lock_wait_timeout = 3, SESSION wait_timeout = 10";

/// Limits of each statement. A statement waits at most 3 s for a table lock (`LOCK TABLES`, `ALTER TABLE`). The default
/// is a year on MySQL and a day on MariaDB. A statement runs at most 8 s. This is below
/// [`crate::store::OPERATION_TIMEOUT`], so that the server ends the statement before the client closes the connection.
/// The MySQL variable limits only reads and is in milliseconds. The MariaDB variable limits every statement and is in
/// seconds.
const MYSQL_LIMITS: &str = "SET SESSION lock_wait_timeout = 3 \
     /*!50708 , SESSION max_execution_time = 8000 */ /*M!100108 , SESSION max_statement_time = 8 */";

/// Limits of schema changes. A change may take long on a large table, so its duration is unlimited. While it waits for
/// a table lock, all other statements on that table wait as well, so the wait is limited to 10 s.
const MYSQL_SCHEMA_LIMITS: &str = "SET SESSION lock_wait_timeout = 10 \
     /*!50708 , SESSION max_execution_time = 0 */ /*M!100108 , SESSION max_statement_time = 0 */";

/// Isolation level without gap locks. It suffices, because every read on which a write depends locks the rows that it
/// reads. The gap locks of the default level would cause deadlocks between inserts into different rooms. MariaDB
/// accepts the same statement.
const MYSQL_ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

/// Maximum time for which SQLite waits for a write lock that another process holds.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of read connections to SQLite, in addition to the single writer connection.
const SQLITE_READERS: u32 = 4;

/// Error for a database URL that cannot be parsed. The message contains no part of the URL, because the URL may include
/// a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a database URL: {0}")]
pub struct InvalidUrl(String);

impl Store {
    /// Connects to `mysql://user:password@host:port/database` or `sqlite:///absolute/path`. A missing SQLite file is
    /// created.
    ///
    /// # Errors
    /// Returns `Data` if the URL is invalid, and `Unavailable` if the database cannot be reached.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let store = Self::connect_lazy(url).await.map_err(|error| StoreError::Data(error.to_string()))?;
        store.ping().await?;
        Ok(store)
    }

    /// Creates a store like [`connect`](Self::connect), but opens the first connection on first use. A node can
    /// therefore start while the database is unavailable.
    ///
    /// # Errors
    /// Returns [`InvalidUrl`] if the URL is invalid.
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
        shared: Arc::new(StoreState {
            monitor: Monitor::new(),
            recycle,
            server: Some(options),
            files: None,
            room_counts: room_count_cache(),
            wants_room_created: room_created_cache(),
            metrics: SqlMetrics::default(),
        }),
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
        // `Recycle` tests connections instead, with a timeout.
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
                // Session settings are set with raw statements, because the query builder does not support them.
                connection.execute(MYSQL_SESSION).await?;
                connection.execute(limits).await?;
                connection.execute(MYSQL_ISOLATION).await?;
                Ok(())
            })
        })
}

/// Returns `false` for a SQLite database whose file does not exist, and `true` for every other database.
///
/// # Errors
/// Returns [`InvalidUrl`] if the URL is invalid.
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
    // `Files` creates the database file, so connections must not create it.
    let options = options
        .create_if_missing(false)
        .busy_timeout(SQLITE_BUSY_TIMEOUT)
        .foreign_keys(false)
        .disable_statement_logging();
    // Messages are acknowledged after the commit. With synchronous mode FULL, the commit survives a power failure.
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
        shared: Arc::new(StoreState {
            monitor: Monitor::new(),
            recycle,
            server: None,
            files: Some(files),
            room_counts: room_count_cache(),
            wants_room_created: room_created_cache(),
            metrics: SqlMetrics::default(),
        }),
    })
}

/// Creates the pool of the single writer connection. The connection is tested when it is released, and closed if it was
/// opened before the last fault.
fn sqlite_writer(recycle: &Arc<Recycle>, files: &Arc<Files>) -> SqlitePoolOptions {
    let (acquired, released) = ((recycle.clone(), files.clone()), (recycle.clone(), files.clone()));
    sqlite_pool(1, true, files)
        .idle_timeout(None)
        .max_lifetime(None)
        // The connection was tested when it was released.
        .test_before_acquire(false)
        .before_acquire(move |_, metadata| {
            let (recycle, files) = acquired.clone();
            Box::pin(async move { Ok(stays(&files, !recycle.is_discarded(Use::Write, metadata.age))) })
        })
        .after_release(move |connection, metadata| {
            let (recycle, files) = released.clone();
            Box::pin(async move {
                // If the disk is full, SQLite rolls the transaction back, but the driver still counts it as open. The
                // driver would then start the next transaction as a savepoint that is never committed, so such a
                // connection is closed.
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
                // This first read makes SQLite create the `-wal` and `-shm` files, which `connected` then records.
                connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").await?;
                files.connected(is_writer).map_err(|problem| sqlx::Error::Configuration(format!("{problem:?}").into()))
            })
        },
    )
}
