//! Lock that serialises schema changes: one process holds it, and the others wait.
//!
//! The lock and the changes use one connection. If that connection is lost, the lock is released and the next change
//! fails. Therefore no process changes the schema without the lock.

use sea_orm_migration::sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, RuntimeErr, SqliteTransactionMode,
    Statement, TransactionOptions, TransactionTrait as _, sqlx,
};

/// Maximum wait of one attempt on MySQL, in seconds. On SQLite, the maximum is the busy timeout of the connection.
const ATTEMPT: u8 = 5;

/// Number of attempts per log message: one message per minute while another process holds the lock.
const ATTEMPTS_PER_LINE: u32 = 12;

/// Lock on one schema. On MySQL, it is a named lock of the session, because each DDL statement commits the transaction.
/// On SQLite, it is the write lock of a transaction that contains all changes.
pub(crate) struct SchemaLock {
    connection: DatabaseTransaction,
}

impl SchemaLock {
    /// Acquires the lock. Waits while another process holds it.
    ///
    /// # Errors
    /// Returns an error if the database fails or cannot be reached. A lock held by another process is not an error.
    pub(crate) async fn acquire(connection: &DatabaseConnection) -> Result<Self, DbErr> {
        let mut attempts: u32 = 0;
        loop {
            if let Some(connection) = attempt(connection).await? {
                return Ok(Self { connection });
            }
            if attempts.is_multiple_of(ATTEMPTS_PER_LINE) {
                tracing::warn!("schema lock held by another process, waiting");
            }
            attempts += 1;
        }
    }

    /// Returns the connection that holds the lock. All changes must use it.
    pub(crate) fn connection(&self) -> &DatabaseTransaction {
        &self.connection
    }

    /// Releases the lock. Commits if `outcome` is `Ok`, and rolls back otherwise; MySQL cannot roll back DDL. Returns
    /// the error of `outcome` or of the commit.
    pub(crate) async fn release(self, outcome: Result<(), DbErr>) -> Result<(), DbErr> {
        let Self { connection } = self;
        let is_mysql = connection.get_database_backend() == DbBackend::MySql;
        if is_mysql && let Err(error) = connection.execute_unprepared(&format!("DO RELEASE_LOCK({NAME})")).await {
            // The connection was lost, so the server has already released the lock.
            tracing::debug!(%error, "failed to release schema lock");
        }
        match outcome {
            Ok(()) => connection.commit().await,
            Err(error) => {
                if let Err(error) = connection.rollback().await {
                    tracing::debug!(%error, "failed to roll back the schema change");
                }
                Err(error)
            }
        }
    }
}

/// SQL expression for the name of the lock, which is unique per database of a server. The name has 47 characters; MySQL
/// allows 64. The expression uses SHA2, because MySQL 9.7 has no `MD5()`.
const NAME: &str = "CONCAT('pintalk.schema.', LEFT(SHA2(DATABASE(), 256), 32))";

/// Tries to acquire the lock. Returns `None` if another process holds it.
async fn attempt(connection: &DatabaseConnection) -> Result<Option<DatabaseTransaction>, DbErr> {
    let immediate = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    // The lock belongs to one connection, so every statement must use that connection. A transaction guarantees this. A
    // pool may use a different connection for each statement.
    let held = match connection.begin_with_options(immediate).await {
        Err(error) if is_busy(&error) => return Ok(None),
        held => held?,
    };
    if held.get_database_backend() != DbBackend::MySql {
        return Ok(Some(held));
    }
    let lock = format!("SELECT CAST(GET_LOCK({NAME}, {ATTEMPT}) AS SIGNED) AS held");
    let row = held.query_one_raw(Statement::from_string(DbBackend::MySql, lock)).await?;
    match row.map(|row| row.try_get::<Option<i64>>("", "held")).transpose()?.flatten() {
        Some(1) => Ok(Some(held)),
        Some(_) => Ok(None),
        None => Err(DbErr::Custom("the server does not lock the schema".to_owned())),
    }
}

/// Returns whether the error is `SQLITE_BUSY`: another connection holds the write lock.
fn is_busy(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error))
    | DbErr::Query(RuntimeErr::SqlxError(error))
    | DbErr::Conn(RuntimeErr::SqlxError(error))) = error
    else {
        return false;
    };
    let sqlx::Error::Database(error) = &**error else { return false };
    // The low byte of a SQLite code is the primary result code. MySQL codes are SQLSTATEs of five characters and are
    // skipped.
    error
        .code()
        .filter(|code| code.len() < 5)
        .and_then(|code| code.parse::<u32>().ok())
        .is_some_and(|code| code & 0xff == 5)
}
