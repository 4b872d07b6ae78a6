//! Checks of the installation on startup of a node: the mode stored in the database, and the owner of Redis.

use std::time::Duration;

use super::error::{ModeMismatch, StartError};
use super::{App, AppError, START_RETRY, earlier};
use crate::backend::Unavailable;
use crate::backend::redis::{Owner, Redis};
use crate::domain::InstallationId;
use crate::node::config::Mode;
use crate::store::{Installation, InstallationMode, Store, StoreError};

/// Delay before a node claims an empty Redis. In this time, the node detects a leader that uses another Redis, because
/// a leader raises the generation in the database every 5 s.
const OTHER_LEADER: Duration = Duration::from_secs(12);

impl Mode {
    /// Returns the installation mode that corresponds to this configuration.
    pub(crate) fn of_installation(&self) -> InstallationMode {
        match self {
            Mode::Embedded { .. } | Mode::SingleOnDatabase { .. } => InstallationMode::Single,
            Mode::Cluster { .. } => InstallationMode::Cluster,
        }
    }
}

/// Reads the installation record from the database. Creates the record if no node has been started on the database yet.
pub(super) async fn open(app: &App) -> Result<Installation, AppError> {
    let mode = app.config.mode.of_installation();
    let candidate = InstallationId::from_random(app.rng.bytes());
    let installation = loop {
        match app.store.installation().ensure(candidate, mode, app.clock.now()).await {
            Ok(installation) => break installation,
            Err(StoreError::Unavailable(error)) => {
                tracing::warn!(%error, "failed to read installation from sql, retrying");
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

/// Permits a command to use the Redis of the installation that owns the database. Does not claim a Redis that has no
/// owner.
pub(super) async fn attach(redis: &Redis, store: &Store) -> Result<(), Unavailable> {
    match store.installation().get().await? {
        Some(installation) => {
            redis.install(installation.id);
            redis.attach().await
        }
        None => Err(Unavailable("no node has started on this database yet".into())),
    }
}

/// Verifies or claims Redis, then migrates the keys of an earlier release.
pub(super) async fn claim(redis: &Redis, store: &Store) -> Result<(), StartError> {
    earlier::wait_for_nodes(redis).await?;
    if redis.is_retired().await? {
        redis.adopt().await?;
    } else if redis.owner().await?.is_none() {
        no_other_redis(store).await?;
    }
    match redis.verify().await? {
        Owner::Ours => Ok(earlier::take_over(redis, store).await?),
        Owner::Other(found) => {
            Err(StartError::Fatal(AppError::OtherInstallation { found, own: redis.installed()?.id() }))
        }
        Owner::Partitions(found) => Err(StartError::Fatal(AppError::Partitions { found, own: redis.partitions() })),
    }
}

/// Returns an error if nodes of this installation use another Redis. Detects such nodes through their leader, which
/// raises the generation in the database every 5 s.
pub(crate) async fn no_other_redis(store: &Store) -> Result<(), Unavailable> {
    let generation = async || Ok::<_, Unavailable>(store.installation().get().await?.map_or(0, |row| row.generation));
    let before = generation().await?;
    if before == 0 {
        // No node has been leader so far, so no node uses another Redis.
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
