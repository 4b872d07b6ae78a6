//! Startup steps of a node: waiting for the stores, migrating the schema, and subscribing to the bus.

use migration::SchemaState;

use super::error::StartError;
use super::recovery::{Recoverer, RecoveryError};
use super::wiring::Node;
use super::{App, AppError, Lock, START_RETRY, installation};
use crate::backend::ClusterPorts;
use crate::chat::archive::Archive;
use crate::domain::InstallationId;
use crate::store::is_temporary;

impl App {
    /// Waits for the stores, migrates the schema, locks the database and claims Redis.
    pub(super) async fn open_stores(&self) -> Result<(Lock, InstallationId), AppError> {
        while let Err(error) = self.store.ping().await {
            tracing::warn!(%error, "failed to connect to sql, retrying");
            tokio::time::sleep(START_RETRY).await;
        }
        if let Some(skew) = &self.skew {
            while let Err(error) = skew.measure().await {
                tracing::warn!(%error, "failed to read sql clock, retrying");
                tokio::time::sleep(START_RETRY).await;
            }
        }
        while let Err(error) = self.migrate().await {
            let error = error.temporary()?;
            tracing::warn!(error, "failed to read or migrate schema, retrying");
            tokio::time::sleep(START_RETRY).await;
        }
        let lock = Lock::on_database(&self.config, &self.store).await?;
        let installation = installation::open(self).await?.id;
        if let Some(ClusterPorts { redis, .. }) = &self.backend.cluster {
            redis.install(installation);
            while let Err(error) = installation::claim(redis, &self.store).await {
                let error = error.temporary()?;
                tracing::warn!(error, "failed to claim redis for this installation, retrying");
                tokio::time::sleep(START_RETRY).await;
            }
        }
        Ok((lock, installation))
    }

    /// Checks the schema. Applies pending migrations if automatic migration is on.
    async fn migrate(&self) -> Result<(), StartError> {
        let connection = self.store.connection();
        let outcome = match SchemaState::read(connection).await {
            Ok(state) => {
                if !state.foreign.is_empty() {
                    tracing::info!(
                        migrations = state.foreign.join(", "),
                        "schema contains migrations of another release"
                    );
                }
                match state.pending() {
                    0 => Ok(()),
                    pending if !self.config.auto_migrate => {
                        return Err(StartError::Fatal(AppError::PendingMigrations(pending)));
                    }
                    _ => SchemaState::up(connection, None).await,
                }
            }
            Err(error) => Err(error),
        };
        outcome.map_err(|error| {
            let text = error.to_string();
            if is_temporary(&error) {
                StartError::Temporary(text)
            } else {
                StartError::Fatal(AppError::Migration(text))
            }
        })
    }

    /// Compares the rooms in the database and Redis if no other node of the cluster is running.
    pub(super) async fn compare_stores(&self, recoverer: Option<&Recoverer>) {
        let (Some(cluster), Some(recoverer)) = (&self.backend.cluster, recoverer) else { return };
        let compare = async || {
            if cluster.membership.live_leases().await? == 0 {
                recoverer.compare().await?;
            }
            Ok::<(), RecoveryError>(())
        };
        while let Err(error) = compare().await {
            tracing::warn!(%error, "failed to compare stores, retrying");
            tokio::time::sleep(START_RETRY).await;
        }
    }

    /// Acquires this node's lease and subscribes to the bus.
    pub(super) async fn subscribe(&self, node: &Node, archive: Option<Archive>) {
        while let Some(cluster) = &self.backend.cluster
            && let Err(error) = cluster.membership.renew().await
        {
            tracing::warn!(%error, "failed to acquire node lease, retrying");
            tokio::time::sleep(START_RETRY).await;
        }
        if let Err(error) = node.subscribe(archive).await {
            // Startup continues. The drivers retry in the background, and the node is not ready until the broker is
            // available.
            tracing::warn!(%error, "failed to subscribe to buses at start, retrying");
        }
    }
}
