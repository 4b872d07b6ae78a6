//! Installation checks at the start of a node: the mode recorded in the database, and the owner of the Redis.

use std::fmt;
use std::time::Duration;

use super::{App, AppError, START_RETRY, earlier};
use crate::backend::broker::Unavailable;
use crate::backend::redis::{Owner, Redis};
use crate::domain::InstallationId;
use crate::node::config::Mode;
use crate::store::{Installation, InstallationMode, Store, StoreError};

/// Waiting time before an empty Redis is claimed. If a leader runs on another Redis, it raises the generation in SQL
/// meanwhile.
const OTHER_LEADER: Duration = Duration::from_secs(12);

/// A node was started in another mode than the database records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeMismatch {
    /// Mode recorded in the database.
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
    /// Returns the installation mode that corresponds to this configuration.
    pub(crate) fn of_installation(&self) -> InstallationMode {
        match self {
            Mode::Embedded { .. } | Mode::SingleOnDatabase { .. } => InstallationMode::Single,
            Mode::Cluster { .. } => InstallationMode::Cluster,
        }
    }
}

/// Reads the installation, and creates it at the first start on a database.
pub(super) async fn open(app: &App) -> Result<Installation, AppError> {
    let mode = app.config.mode.of_installation();
    let candidate = InstallationId::from_random(app.chance.bytes());
    let installation = loop {
        match app.store.installation().ensure(candidate, mode, app.clock.now()).await {
            Ok(installation) => break installation,
            Err(StoreError::Unavailable(error)) => {
                tracing::warn!(error, "failed to read sql, retrying");
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

/// Attaches a command to the Redis of its database's installation, without claiming it.
pub(super) async fn attach(redis: &Redis, store: &Store) -> Result<(), Unavailable> {
    match store.installation().get().await? {
        Some(installation) => {
            redis.install(installation.id);
            redis.attach().await
        }
        None => Err(Unavailable("no node has started on this database yet".into())),
    }
}

/// Verifies or claims Redis, then migrates the keys of an earlier release. The inner error is temporary: retry.
pub(super) async fn claim(redis: &Redis, store: &Store) -> Result<Result<(), Unavailable>, AppError> {
    let prepared = async {
        earlier::wait_for_nodes(redis).await?;
        if redis.is_retired().await? {
            return redis.adopt().await;
        }
        if redis.owner().await?.is_none() { no_other_redis(store).await } else { Ok(()) }
    };
    if let Err(error) = prepared.await {
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

/// Returns an error if nodes of this installation run on another Redis: their leader raises the generation every 5 s.
pub(crate) async fn no_other_redis(store: &Store) -> Result<(), Unavailable> {
    let generation = async || Ok::<_, Unavailable>(store.installation().get().await?.map_or(0, |row| row.generation));
    let before = generation().await?;
    if before == 0 {
        // No node has become leader yet.
        return Ok(());
    }
    tokio::time::sleep(OTHER_LEADER).await;
    if generation().await? == before {
        return Ok(());
    }
    Err(Unavailable(
        "this redis is empty, and nodes of this installation are running on another one: compare --redis-url with theirs"
            .into(),
    ))
}
