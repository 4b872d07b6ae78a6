//! Named lock on a MySQL database. A single-node server holds it while it runs.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, Statement, TransactionTrait};

use crate::store::Store;
use crate::store::database::fault::is_missing_function;

/// SQL expressions for the digest of the database name in the name of the lock. Earlier releases use the first one.
/// MySQL 9.7 supports only the second one, because it has no `MD5()`.
const DIGESTS: [&str; 2] = ["MD5(DATABASE())", "LEFT(SHA2(DATABASE(), 256), 32)"];

/// Named lock on a MySQL database. MySQL releases it when the connection ends.
#[derive(Debug)]
pub struct DatabaseLock {
    /// Transaction on the connection that holds the lock. Without a transaction, the pool could use another connection
    /// for each statement.
    held: DatabaseTransaction,
}

impl Store {
    /// Tries to lock the database. Returns `None` if another process holds the lock. Supports only MySQL and MariaDB.
    ///
    /// # Errors
    /// Returns the error of the database. If [`is_temporary`](crate::store::is_temporary) returns `true` for the error,
    /// the call may be retried.
    pub async fn try_lock(&self) -> Result<Option<DatabaseLock>, DbErr> {
        let held = self.connection().begin().await?;
        let lock = async |digest: &str| {
            let lock = format!("SELECT CAST(GET_LOCK(CONCAT('pintalk.', {digest}), 0) AS SIGNED) AS held");
            held.query_one_raw(Statement::from_string(DbBackend::MySql, lock)).await
        };
        let row = match lock(DIGESTS[0]).await {
            Err(error) if is_missing_function(&error) => lock(DIGESTS[1]).await?,
            row => row?,
        };
        let got: Option<i64> = row.and_then(|row| row.try_get("", "held").ok());
        Ok((got == Some(1)).then_some(DatabaseLock { held }))
    }
}

impl DatabaseLock {
    /// Executes a statement without effect, so that the server does not close the idle connection. An error means that
    /// the lock may have been released.
    pub async fn keep_alive(&self) -> Result<(), DbErr> {
        self.held.execute_unprepared("DO 1").await.map(|_| ())
    }

    /// Releases the lock, but keeps the connection open.
    pub async fn release(&self) -> Result<(), DbErr> {
        self.held.execute_unprepared("DO RELEASE_ALL_LOCKS()").await.map(|_| ())
    }
}
