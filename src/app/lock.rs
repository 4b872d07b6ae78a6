//! A single node is alone on its database: two would give the same numbers.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement, TransactionTrait};

use super::AppError;
use crate::config::{Config, Mode};
use crate::store::Store;

/// How often the database is shown that we are still there; it drops a connection that is silent for 10 s.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Held for the life of the process.
pub(super) enum Lock {
    /// A cluster's nodes share.
    None,
    /// The operating system gives it back, however the process ends. Held by being open.
    File { _file: File },
    /// MySQL gives it back when the connection ends.
    Database(DatabaseTransaction),
}

impl Lock {
    /// On the file beside SQLite's, before anything is read.
    pub(super) fn on_files(config: &Config) -> Result<Self, AppError> {
        let path = match &config.mode {
            Mode::Embedded { .. } => config.data_dir.join("pintalk.lock"),
            Mode::SingleOnDatabase { database } if database.is_sqlite() => {
                let path = database.expose().trim_start_matches("sqlite:").split('?').next().unwrap_or_default();
                PathBuf::from(format!("/{}.lock", path.trim_start_matches('/')))
            }
            Mode::SingleOnDatabase { .. } | Mode::Cluster { .. } => return Ok(Self::None),
        };
        let unusable = |error: std::io::Error| AppError::Lock(format!("{}: {error}", path.display()));
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self::File { _file: file }),
            Err(TryLockError::WouldBlock) => Err(AppError::InUse(path.display().to_string())),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }

    /// On the MySQL database of a single node, once it answers.
    pub(super) async fn on_database(config: &Config, store: &Store) -> Result<Self, AppError> {
        if !matches!(&config.mode, Mode::SingleOnDatabase { database } if !database.is_sqlite()) {
            return Ok(Self::None);
        }
        let unusable = |error: sea_orm::DbErr| AppError::Lock(error.to_string());
        // A pool lends a connection for one statement; a transaction keeps it.
        let held = store.connection().begin().await.map_err(unusable)?;
        let ask = "SELECT CAST(GET_LOCK(CONCAT('pintalk.', MD5(DATABASE())), 0) AS SIGNED) AS held";
        let row = held.query_one_raw(Statement::from_string(DbBackend::MySql, ask)).await.map_err(unusable)?;
        let got: Option<i64> = row.and_then(|row| row.try_get("", "held").ok());
        if got == Some(1) { Ok(Self::Database(held)) } else { Err(AppError::InUse("the database".to_owned())) }
    }

    /// Returns when the lock is lost.
    pub(super) async fn lost(&self) -> String {
        let Self::Database(held) = self else { return std::future::pending().await };
        loop {
            tokio::time::sleep(KEEP_ALIVE).await;
            if let Err(error) = held.execute_unprepared("DO 1").await {
                return error.to_string();
            }
        }
    }
}
