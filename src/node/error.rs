//! Errors that prevent a node from starting or stop it.

use std::fmt;

use crate::backend::Unavailable;
use crate::domain::{InstallationId, StoreFault};
use crate::store::InstallationMode;

/// Reason why a node could not start or was stopped.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Another process holds the lock on the data.
    #[error("another process uses {0}")]
    InUse(String),
    /// The lock on the data could not be acquired or was lost.
    #[error("failed to lock the data: {0}")]
    Lock(String),
    /// The schema is older than this program, and automatic migration is off.
    #[error("{0} migrations are pending: run `pintalk migrate up`, or start with --auto-migrate on")]
    PendingMigrations(usize),
    /// The schema could not be read or migrated.
    #[error("failed to read or migrate the schema: {0}")]
    Migration(String),
    /// The keys in Redis were written for a different number of partitions.
    #[error("--redis-url: this Redis contains {found} partitions, but this node uses {own}: use an empty Redis")]
    Partitions {
        /// Number of partitions stored in Redis.
        found: u16,
        /// Number of partitions that this node uses with a Redis of this topology.
        own: u16,
    },
    /// Redis belongs to another installation.
    #[error(
        "--redis-url: this Redis belongs to installation {found}, and this database to installation {own}: use the Redis of this \
         installation, or run `pintalk installation adopt` to make this installation the owner"
    )]
    OtherInstallation {
        /// Installation id stored in Redis.
        found: String,
        /// Installation id stored in the database.
        own: InstallationId,
    },
    /// The database belongs to an installation in another mode.
    #[error("{0}")]
    Mode(ModeMismatch),
    /// Redis is unavailable, or its owner could not be checked.
    #[error("--redis-url: {0}")]
    Redis(Unavailable),
    /// The installation id could not be read or stored.
    #[error("failed to read the installation from the database: {0}")]
    Installation(String),
    /// A driver rejected a URL or a path.
    #[error("--{flag}: {problem}")]
    Url {
        /// Name of the flag, without dashes.
        flag: &'static str,
        /// Error of the driver.
        problem: String,
    },
    /// The TLS client of the webhook dispatcher could not be created.
    #[error("failed to create the TLS client: {0}")]
    Tls(String),
    /// The metrics listener could not be bound.
    #[error("--metrics-listen: {0}")]
    Listen(std::io::Error),
}

/// Error: the mode of a node differs from the mode stored in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeMismatch {
    /// Mode stored in the database.
    pub recorded: InstallationMode,
}

impl fmt::Display for ModeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.recorded {
            InstallationMode::Cluster => {
                "--redis-url: is required, because a cluster uses this database; to use it with a single node, stop the \
                 cluster and run `pintalk migrate mode single`"
            }
            InstallationMode::Single => {
                "--redis-url: must not be given, because a single node uses this database; to use it with a cluster, stop \
                 the node and run `pintalk migrate mode cluster`"
            }
        })
    }
}

/// Reason why a startup step of a node failed.
pub(super) enum StartError {
    /// A store is unavailable. The step is retried.
    Temporary(StoreFault),
    /// A retry cannot resolve the error, so the node does not start.
    Fatal(AppError),
}

impl StartError {
    /// Returns the fault of a temporary error. Returns a fatal error as `Err`.
    pub(super) fn temporary(self) -> Result<StoreFault, AppError> {
        match self {
            Self::Temporary(error) => Ok(error),
            Self::Fatal(error) => Err(error),
        }
    }
}

impl From<Unavailable> for StartError {
    fn from(error: Unavailable) -> Self {
        Self::Temporary(error.0)
    }
}
