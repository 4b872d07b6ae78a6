//! Publishes the account changes of a command to the nodes of a running cluster.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{AppError, installation};
use crate::accounts::PublishControl;
use crate::backend::{Backend, RedisOptions, Unavailable};
use crate::domain::Rng;
use crate::node::config::RedisUrl;
use crate::store::Store;

/// Publishes control events to a running cluster without joining the cluster: it has no subscriptions and no lease.
pub struct ControlPublisher {
    backend: Backend,
    failure: Arc<Mutex<Option<Unavailable>>>,
}

impl std::fmt::Debug for ControlPublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlPublisher").field("backend", &self.backend).finish_non_exhaustive()
    }
}

impl ControlPublisher {
    /// Connects to the Redis of the installation that owns the database. If Redis is unavailable or belongs to another
    /// installation, [`close`](Self::close) returns that error.
    ///
    /// # Errors
    /// Returns [`AppError`] if the URL is invalid.
    pub async fn connect(url: &RedisUrl, store: &Store, rng: &Rng) -> Result<Self, AppError> {
        let redis = super::connect(url, rng)?;
        let failure = Arc::new(Mutex::new(installation::attach(&redis, store).await.err()));
        Ok(Self { backend: Backend::redis(redis, rng.clone(), RedisOptions::default()), failure })
    }

    /// Returns the function that [`Accounts`](crate::accounts::Accounts) calls to publish a change.
    pub fn publish(&self) -> PublishControl {
        let (bus, failure) = (self.backend.bus.clone(), self.failure.clone());
        Arc::new(move |control| {
            let (bus, failure) = (bus.clone(), failure.clone());
            Box::pin(async move {
                // After the first failure, no further changes are published, because the command would wait for each of
                // them.
                if failure.lock().is_some() {
                    return;
                }
                if let Err(error) = bus.publish_control(control).await {
                    failure.lock().get_or_insert(error);
                }
            })
        })
    }

    ///
    /// # Errors
    /// Returns the error of the first change that was not published, or may not have been published.
    pub async fn close(self) -> Result<(), Unavailable> {
        self.backend.close().await;
        self.failure.lock().take().map_or(Ok(()), Err)
    }
}
