//! Stores of a node. The options of the database, of Redis and of the data directory together determine them.

use std::path::{Path, PathBuf};

use super::connections::{DatabaseUrl, RedisArgs, RedisUrl};
use super::files::private_dir;
use super::{ConfigError, StoreArgs};

/// Data directory that is used if `--data-dir` is not set.
pub const DEFAULT_DATA_DIR: &str = "./pintalk-data";

/// Stores that a node uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Single-node server with SQLite in the data directory. All other state is in the memory of the process.
    Embedded {
        /// URL of the SQLite file in the data directory.
        database: DatabaseUrl,
    },
    /// Single-node server with the database that the options name.
    SingleOnDatabase {
        /// URL of MySQL, or of a SQLite file outside the data directory.
        database: DatabaseUrl,
    },
    /// Node of a cluster.
    Cluster {
        /// URL of the MySQL database that all nodes share.
        database: DatabaseUrl,
        /// URL of the Redis that all nodes share.
        redis: RedisUrl,
    },
}

impl Mode {
    /// Returns the URL of the database.
    pub fn database(&self) -> &DatabaseUrl {
        match self {
            Self::Embedded { database } | Self::SingleOnDatabase { database } | Self::Cluster { database, .. } => {
                database
            }
        }
    }

    /// Returns the URL of Redis; `None` for a single-node server.
    pub fn redis(&self) -> Option<&RedisUrl> {
        match self {
            Self::Cluster { redis, .. } => Some(redis),
            Self::Embedded { .. } | Self::SingleOnDatabase { .. } => None,
        }
    }
}

/// Returns the database URL for a command that uses no other store. Creates the data directory if it contains the
/// database.
///
/// # Errors
/// Returns [`ConfigError`] if the URL is invalid or the directory cannot be used.
pub fn database(args: &StoreArgs) -> Result<DatabaseUrl, ConfigError> {
    let data_dir = absolute_data_dir(args)?;
    match args.database.url()? {
        Some(url) => Ok(url),
        None => {
            private_dir(&data_dir).map_err(|error| unusable(&data_dir, &error))?;
            own_database(&data_dir)
        }
    }
}

/// Returns the stores for a command that may also use Redis. Creates the data directory if it contains the database.
///
/// # Errors
/// Returns [`ConfigError`] if the options cannot be combined, a URL is invalid, or the directory cannot be used.
pub fn stores(args: &StoreArgs, redis: &RedisArgs) -> Result<Mode, ConfigError> {
    let data_dir = absolute_data_dir(args)?;
    let mode = mode(args, redis, &data_dir)?;
    if let Mode::Embedded { .. } = mode {
        private_dir(&data_dir).map_err(|error| unusable(&data_dir, &error))?;
    }
    Ok(mode)
}

pub(super) fn mode(store: &StoreArgs, redis: &RedisArgs, data_dir: &Path) -> Result<Mode, ConfigError> {
    match (store.database.url()?, redis.url()?) {
        (None, None) => Ok(Mode::Embedded { database: own_database(data_dir)? }),
        (Some(database), None) => Ok(Mode::SingleOnDatabase { database }),
        (Some(database), Some(redis)) if !database.is_sqlite() => Ok(Mode::Cluster { database, redis }),
        (Some(_), Some(_)) => {
            Err(ConfigError::new("redis-url", "needs MySQL in --database-url: a cluster cannot use SQLite"))
        }
        (None, Some(_)) => {
            Err(ConfigError::new("redis-url", "needs --database-url: a cluster stores messages in MySQL"))
        }
    }
}

fn own_database(data_dir: &Path) -> Result<DatabaseUrl, ConfigError> {
    DatabaseUrl::sqlite(&data_dir.join("pintalk.sqlite"))
        .ok_or_else(|| ConfigError::new("data-dir", "the path is not UTF-8"))
}

pub(super) fn absolute_data_dir(args: &StoreArgs) -> Result<PathBuf, ConfigError> {
    let given = args.data_dir.as_deref().unwrap_or(Path::new(DEFAULT_DATA_DIR));
    std::path::absolute(given).map_err(|error| unusable(given, &error))
}

pub(super) fn unusable(path: &Path, error: &std::io::Error) -> ConfigError {
    ConfigError::new("data-dir", format!("{} cannot be used: {error}", path.display()))
}
