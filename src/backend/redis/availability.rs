//! Availability of Redis: the last error of each client's connections, and the log lines of an outage.

use std::time::{Duration, Instant};

use fred::error::Error;
use fred::prelude::EventInterface;
use fred::types::config::Server;
use parking_lot::Mutex;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Redis;
use super::diagnosis::DiagnosisTarget;
use crate::backend::Unavailable;
use crate::backend::metrics::RedisClient;
use crate::domain::condition::Condition;
use crate::domain::{StoreCause, StoreFault};

/// Maximum age of a connection error that explains a failed call. While the client is not connected, it attempts to
/// connect at least this often.
const EXPLAINS_FOR: Duration = Duration::from_secs(6);

/// Conditions of Redis, and the last connection error of each client.
#[derive(Debug)]
pub(super) struct Availability {
    commands: LastError,
    subscriber: LastError,
    pub(super) unavailable: Condition,
    pub(super) not_writable: Condition,
}

impl Default for Availability {
    fn default() -> Self {
        Self {
            commands: LastError::default(),
            subscriber: LastError::default(),
            unavailable: Condition::warning("redis unavailable", "redis available"),
            not_writable: Condition::error("redis not writable", "redis writable"),
        }
    }
}

/// Last error of a client's connections. Empty after the client has connected.
#[derive(Debug, Default)]
struct LastError(Mutex<Option<(Instant, StoreFault)>>);

impl Availability {
    fn last_error(&self, client: RedisClient) -> &LastError {
        match client {
            RedisClient::Commands => &self.commands,
            RedisClient::Subscriber => &self.subscriber,
        }
    }

    /// Replaces the error of a call that received no answer with the error of the client's last connection. Without a
    /// connection, a call only times out.
    pub(super) fn explain(&self, client: RedisClient, error: Unavailable) -> Unavailable {
        if !matches!(error.0.cause, StoreCause::NoResponse | StoreCause::ConnectionLost) {
            return error;
        }
        match &*self.last_error(client).0.lock() {
            Some((at, fault)) if at.elapsed() < EXPLAINS_FOR => Unavailable(fault.clone()),
            _ => error,
        }
    }
}

impl Redis {
    /// Logs when Redis becomes unavailable, once per minute while it is, and when it is available again. `outcome` is that
    /// of a call that uses Redis as the node does.
    pub fn report<T>(&self, outcome: &Result<T, Unavailable>) {
        match outcome {
            Ok(_) => self.shared.availability.unavailable.end(),
            Err(Unavailable(fault)) => self.shared.availability.unavailable.fail(&fault.cause, &fault.detail()),
        }
    }

    /// Starts to record the connection errors of both clients.
    pub(super) fn record_errors(&self, target: &DiagnosisTarget) {
        let receivers = [
            (RedisClient::Commands, self.client.error_rx(), self.client.reconnect_rx()),
            (RedisClient::Subscriber, self.subscriber.error_rx(), self.subscriber.reconnect_rx()),
        ];
        for (client, errors, connected) in receivers {
            let (redis, target) = (self.clone(), target.clone());
            tokio::spawn(
                self.ended
                    .clone()
                    .run_until_cancelled_owned(async move { redis.record(client, target, errors, connected).await }),
            );
        }
    }

    async fn record(
        &self,
        client: RedisClient,
        target: DiagnosisTarget,
        mut errors: Receiver<(Error, Option<Server>)>,
        mut connected: Receiver<Server>,
    ) {
        let last = self.shared.availability.last_error(client);
        loop {
            tokio::select! {
                error = errors.recv() => match error {
                    Ok((error, _)) => {
                        let Unavailable(mut fault) = Unavailable::from(error);
                        if fault.cause.is_vague() && let Some(cause) = target.diagnose().await {
                            fault.cause = cause;
                        }
                        *last.0.lock() = Some((Instant::now(), fault));
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                server = connected.recv() => match server {
                    Ok(_) => *last.0.lock() = None,
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }
}
