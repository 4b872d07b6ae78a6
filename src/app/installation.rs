//! The installation at a node's start: whether the database is served this way, and whether the Redis belongs to it.

use std::fmt;

use super::{App, AppError, START_RETRY, earlier};
use crate::broker::Unavailable;
use crate::config::Mode;
use crate::domain::InstallationId;
use crate::redis::{Owner, Redis};
use crate::store::{Installation, InstallationMode, Store, StoreError};

/// A node was started in another way than the database is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeMismatch {
    /// As the database records it.
    pub recorded: InstallationMode,
}

impl fmt::Display for ModeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.recorded {
            InstallationMode::Cluster => {
                "--redis-url: is required, as a cluster serves this database; stop the cluster and run `pintalk migrate mode \
                 single` to serve it by one node"
            }
            InstallationMode::Single => {
                "--redis-url: must not be given, as a single node serves this database; stop it and run `pintalk migrate mode \
                 cluster` to serve it by a cluster"
            }
        })
    }
}

impl Mode {
    /// How the database is served in this mode.
    pub(crate) fn of_installation(&self) -> InstallationMode {
        match self {
            Mode::Embedded { .. } | Mode::SingleOnDatabase { .. } => InstallationMode::Single,
            Mode::Cluster { .. } => InstallationMode::Cluster,
        }
    }
}

/// Reads the installation, and creates it at the first start of a database.
pub(super) async fn open(app: &App) -> Result<Installation, AppError> {
    let mode = app.config.mode.of_installation();
    let candidate = InstallationId::from_random(app.chance.bytes());
    let installation = loop {
        match app.store.ensure_installation(candidate, mode, app.clock.now()).await {
            Ok(installation) => break installation,
            Err(StoreError::Unavailable(error)) => {
                tracing::warn!(error, "waiting for sql");
                tokio::time::sleep(START_RETRY).await;
            }
            Err(error) => return Err(AppError::Installation(error.to_string())),
        }
    };
    if installation.mode == mode {
        Ok(installation)
    } else {
        Err(AppError::Mode(ModeMismatch { recorded: installation.mode }))
    }
}

/// Uses the Redis of a database's installation, for commands beside its nodes.
pub(super) async fn attach(redis: &Redis, store: &Store) -> Result<(), Unavailable> {
    match store.installation().await? {
        Some(installation) => {
            redis.install(installation.id);
            redis.attach().await
        }
        None => Err(Unavailable("no node has started on this database yet".into())),
    }
}

/// Verifies or claims the Redis, after what an earlier release left in it was taken over. The inner error: try again.
pub(super) async fn claim(redis: &Redis, store: &Store) -> Result<Result<(), Unavailable>, AppError> {
    if let Err(error) = earlier::wait_for_nodes(redis).await {
        return Ok(Err(error));
    }
    match redis.verify().await {
        Ok(Owner::Ours) => {}
        Ok(Owner::Other(found)) => {
            let own = match redis.installed() {
                Ok(keys) => keys.id(),
                Err(error) => return Ok(Err(error)),
            };
            return Err(AppError::OtherInstallation { found, own });
        }
        Ok(Owner::Partitions(found)) => return Err(AppError::Partitions { found, own: redis.partitions() }),
        Err(error) => return Ok(Err(error)),
    }
    Ok(earlier::take_over(redis, store).await)
}
