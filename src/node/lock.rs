//! Lock of a single-node server on its database. Without the lock, two servers could assign the same sequence numbers.

use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::AppError;
use crate::node::config::{Config, Mode};
use crate::store::restrict;
use crate::store::{DatabaseLock, Store, is_temporary};

/// Interval between statements that keep the connection open. The database closes a connection that is idle for 10 s.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Name of the database in the error for a lock that another process holds.
const DATABASE: &str = "the database";

/// Exclusive lock that a single-node server holds on its data while it runs.
pub(super) enum Lock {
    /// No lock, because the nodes of a cluster share the database.
    None,
    /// Lock on an open file. The operating system releases the lock when the process ends.
    File { _file: File },
    /// Named lock of MySQL. It is released when its connection ends.
    Database(DatabaseLock),
}

impl Lock {
    /// Locks a file in the directory of the SQLite database. Called before the database is read.
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
        let file =
            File::options().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(unusable)?;
        restrict(&path, 0o600);
        match file.try_lock() {
            Ok(()) => Ok(Self::File { _file: file }),
            Err(TryLockError::WouldBlock) => Err(AppError::InUse(path.display().to_string())),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }

    /// Locks the MySQL database of a single-node server. Retries until MySQL responds.
    pub(super) async fn on_database(config: &Config, store: &Store) -> Result<Self, AppError> {
        if !matches!(&config.mode, Mode::SingleOnDatabase { database } if !database.is_sqlite()) {
            return Ok(Self::None);
        }
        loop {
            match store.try_lock().await {
                Ok(Some(held)) => return Ok(Self::Database(held)),
                Ok(None) => return Err(AppError::InUse(DATABASE.to_owned())),
                Err(error) if is_temporary(&error) => tracing::warn!(%error, "failed to lock database, retrying"),
                Err(error) => return Err(AppError::Lock(error.to_string())),
            }
            tokio::time::sleep(KEEP_ALIVE).await;
        }
    }

    /// Keeps the lock of a MySQL database until another process holds it, then returns an error. Never returns for
    /// other kinds of lock. If the database was unreachable, the lock is acquired again when the database responds.
    /// This is safe: nothing was written while it was unreachable, and each write to a room locks the row of the room.
    /// If the pool replaced its connections, the lock is acquired on a new connection, because the host name may now
    /// resolve to another server.
    pub(super) async fn lost(&mut self, store: &Store) -> AppError {
        let Self::Database(held) = self else { return std::future::pending().await };
        let mut replaced = store.connections_replaced();
        loop {
            tokio::time::sleep(KEEP_ALIVE).await;
            let is_current = replaced == store.connections_replaced();
            let outcome = if is_current { held.keep_alive().await } else { held.release().await };
            match outcome {
                Ok(()) if is_current => continue,
                Ok(()) => tracing::debug!("sql connections replaced, locking database again"),
                Err(error) => tracing::warn!(%error, "database lock lost, locking again"),
            }
            loop {
                replaced = store.connections_replaced();
                match store.try_lock().await {
                    Ok(Some(again)) => break *held = again,
                    Ok(None) => return AppError::InUse(DATABASE.to_owned()),
                    Err(error) => tracing::debug!(%error, "failed to lock database, retrying"),
                }
                tokio::time::sleep(KEEP_ALIVE).await;
            }
        }
    }
}

/// Guard that excludes single-node servers from a MySQL database. It holds the lock of a single-node server until it is
/// dropped.
pub struct SoleNode {
    _held: DatabaseLock,
}

impl std::fmt::Debug for SoleNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SoleNode").finish_non_exhaustive()
    }
}

impl SoleNode {
    /// Acquires the lock that a running single-node server would hold.
    ///
    /// # Errors
    /// Returns [`AppError::InUse`] if a single-node server is running, and [`AppError::Lock`] if MySQL returns an
    /// error.
    pub async fn acquire(store: &Store) -> Result<Self, AppError> {
        match store.try_lock().await.map_err(|error| AppError::Lock(error.to_string()))? {
            Some(held) => Ok(Self { _held: held }),
            None => Err(AppError::InUse(DATABASE.to_owned())),
        }
    }
}
