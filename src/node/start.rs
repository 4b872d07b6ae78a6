//! Startup steps of a node: waiting for the stores, migrating the schema, and subscribing to the bus.

use migration::SchemaState;

use super::error::StartError;
use super::health::NodeHealth;
use super::recovery::{Recoverer, RecoveryError};
use super::wiring::Node;
use super::{App, AppError, Lock, START_RETRY, installation};
use crate::backend::{ClusterPorts, Unavailable};
use crate::chat::archive::Archive;
use crate::domain::condition::Condition;
use crate::domain::{InstallationId, StoreFault};
use crate::store::{StoreError, is_temporary};

impl App {
    /// Waits for the stores, migrates the schema, locks the database and claims Redis.
    pub(super) async fn open_stores(&self, health: &NodeHealth) -> Result<(Lock, InstallationId), AppError> {
        let waiting = Condition::warning("sql unavailable at start, retrying", "sql available");
        let failed = async |fault: StoreFault| {
            waiting.fail(&fault.cause, &fault.detail());
            health.set_sql(Some(fault.cause));
            tokio::time::sleep(START_RETRY).await;
        };
        while let Err(fault) = self.store.reach().await {
            failed(fault).await;
        }
        if let Some(skew) = &self.skew {
            while let Err(error) = skew.measure().await {
                failed(error.into()).await;
            }
        }
        while let Err(error) = self.migrate().await {
            failed(error.temporary()?).await;
        }
        let lock = Lock::on_database(&self.config, &self.store).await?;
        let installation = installation::open(self).await?.id;
        waiting.end();
        health.set_sql(None);
        if let Some(ClusterPorts { redis, .. }) = &self.backend.cluster {
            redis.install(installation);
            while let Err(error) = installation::claim(redis, &self.store).await {
                let fault = error.temporary()?;
                health.set_redis_cause(Some(fault.cause.clone()));
                redis.report::<()>(&Err(Unavailable(fault)));
                tokio::time::sleep(START_RETRY).await;
            }
            redis.report(&Ok(()));
            health.set_redis_cause(None);
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
            if is_temporary(&error) {
                StartError::Temporary(StoreError::from(error).into())
            } else {
                StartError::Fatal(AppError::Migration(error.to_string()))
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
