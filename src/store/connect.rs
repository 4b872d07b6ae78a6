//! Connections: how many, with which time-outs and session settings.

use std::time::Duration;

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sea_orm::sqlx::{self, Connection as _, Executor as _};
use sea_orm::{SqlxMySqlConnector, SqlxSqliteConnector};

use super::{Dialect, Store, StoreError};

/// How long an operation waits for a connection, new or free.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections of a node to MySQL. Statements take about a millisecond: 16 are good for thousands a second.
const MYSQL_CONNECTIONS: u32 = 16;

/// Shorter than the session's `wait_timeout` of 10 s, so that it is this side that closes an idle connection.
const MYSQL_IDLE_TIMEOUT: Duration = Duration::from_secs(8);

/// Strict on every server. The locks of a node that was cut off go after 10 s (`wait_timeout`); nobody waits for a row
/// longer than 3 s.
const MYSQL_SESSION: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ONLY_FULL_GROUP_BY,NO_ZERO_IN_DATE,NO_ZERO_DATE,\
     ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', SESSION time_zone = '+00:00', \
     SESSION innodb_lock_wait_timeout = 3, SESSION wait_timeout = 10";

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
    let pool = MySqlPoolOptions::new()
        .max_connections(MYSQL_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(MYSQL_IDLE_TIMEOUT)
        .after_connect(|connection, _| {
            Box::pin(async move {
                // Settings of the session are no query: nothing that a builder could build.
                connection.execute(MYSQL_SESSION).await?;
                connection.execute(MYSQL_ISOLATION).await?;
                Ok(())
            })
        })
        .connect_lazy_with(options.disable_statement_logging());
    let connection = SqlxMySqlConnector::from_sqlx_mysql_pool(pool);
    Ok(Store { dialect: Dialect::MySql, writer: connection.clone(), reader: connection, clock: None })
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
    let options = options
        .create_if_missing(true)
        .busy_timeout(SQLITE_BUSY_TIMEOUT)
        .foreign_keys(false)
        .disable_statement_logging();
    // A message is acknowledged once it is committed, so a commit must survive a power cut: FULL.
    let writing = options.clone().journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
    let reading = options.pragma("query_only", "ON");
    let pool = |connections| SqlitePoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT);
    let writer = pool(1).idle_timeout(None).max_lifetime(None).after_release(|connection, _| {
        Box::pin(async move {
            // A disk that is full rolls a transaction back by itself, and the driver still believes to be in it: what comes
            // next would only be a part of it, and never be committed.
            connection.ping().await?;
            Ok(!connection.is_in_transaction())
        })
    });
    let writer = writer.connect_lazy_with(writing);
    let reader = pool(SQLITE_READERS).connect_lazy_with(reading);
    Ok(Store {
        dialect: Dialect::Sqlite,
        writer: SqlxSqliteConnector::from_sqlx_sqlite_pool(writer),
        reader: SqlxSqliteConnector::from_sqlx_sqlite_pool(reader),
        clock: None,
    })
}
