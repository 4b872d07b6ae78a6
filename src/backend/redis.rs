//! Redis clients of a node: one client for commands and scripts, and one for subscriptions. The drivers of all ports
//! share them.
//!
//! **Invariant:** every call has a timeout. A call that may have run is never repeated automatically. The caller
//! decides whether to repeat it. A call is retried automatically only if Redis rejected it without running it, for
//! example while a Redis Cluster moves the slot of its key.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fred::clients::SubscriberClient;
use fred::error::ErrorKind;
use fred::prelude::*;
use fred::types::config::{Server, TcpConfig, UnresponsiveConfig};
use fred::types::scripts::Script as FredScript;
use fred::types::{ClientState, ClusterStateChange, CustomCommand, MultipleKeys, MultipleValues};
use fred::util::redis_keyslot;
use parking_lot::Mutex;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::backend::Unavailable;
use crate::backend::metrics::{RedisClient, RedisMetrics};
use crate::domain::metric::Counter;
use crate::domain::{NodeId, StoreCause, StoreFault};

mod availability;
pub mod broker;
mod cause;
mod diagnosis;
mod keys;
pub mod lease;
mod memory;
mod node_lease;
mod nodes;
mod ownership;
pub mod presence;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod throttle;
mod tls;

use availability::Availability;
use diagnosis::DiagnosisTarget;
pub use diagnosis::fault_of;
pub(crate) use keys::Keys;
use node_lease::NodeLease;
pub use nodes::id_of;
pub use ownership::Owner;
use ownership::Ownership;
pub use tls::{TLS_CA, client_config, roots};

/// Script that acquires or renews a lease. The key of the lease stores the id of the holder.
pub(crate) const HOLD_LEASE: &str = include_str!("redis/hold_lease.lua");
pub(crate) const RELEASE_LEASE: &str = include_str!("redis/release_lease.lua");

/// Timeout of a call.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Capacity of the subscriber's channel, in messages. A burst of 8,192 messages uses about 5 MB. Messages above the
/// capacity are lost. The sink is then notified that it must compare its rooms with the broker.
const LISTENER_CAPACITY: usize = 8_192;

/// Maximum number of commands that wait for a connection. When this number is reached, further calls fail at once.
const COMMAND_BUFFER: usize = 20_000;

/// Interval at which each command connection is pinged, to detect an unresponsive server.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Number of partitions on a Redis Cluster. Each partition has one slot, one archive queue and one bus. All other Redis
/// deployments have one active server and need only one partition.
const CLUSTER_PARTITIONS: u16 = 16;

/// Delay before the retry of a call that Redis rejected without running it.
const MOVING_PAUSE: Duration = Duration::from_millis(50);

/// A Lua script and its digest.
#[derive(Debug)]
pub struct Script(FredScript);

impl Script {
    /// Creates a script from its source.
    pub fn new(source: &'static str) -> Self {
        Self(FredScript::from_lua(source))
    }
}

/// The Redis clients of one node.
#[derive(Clone)]
pub struct Redis {
    client: Client,
    subscriber: SubscriberClient,
    node: NodeId,
    partitions: u16,
    ended: CancellationToken,
    shared: Arc<RedisState>,
}

struct RedisState {
    lease: Mutex<NodeLease>,
    ownership: Ownership,
    scripts: nodes::NodeScripts,
    ownership_scripts: ownership::OwnershipScripts,
    availability: Availability,
    metrics: Arc<RedisMetrics>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Redis {
    /// Creates the clients and starts to connect them. They retry without limit.
    ///
    /// # Errors
    /// Returns an error if the URL is invalid.
    pub fn new(url: &str, node: NodeId) -> Result<Self, fred::error::Error> {
        Self::with_config(client_config(url)?, node)
    }

    fn with_config(mut config: Config, node: NodeId) -> Result<Self, fred::error::Error> {
        config.fail_fast = false;
        let target = DiagnosisTarget::of(&config);
        let partitions = if config.server.is_clustered() { CLUSTER_PARTITIONS } else { 1 };
        let mut builder = Builder::from_config(config);
        configure(&mut builder);
        let client = builder.build()?;
        let subscriber = builder.build_subscriber_client()?;
        let reconnected =
            [(RedisClient::Commands, client.reconnect_rx()), (RedisClient::Subscriber, subscriber.reconnect_rx())];
        let metrics = Arc::<RedisMetrics>::default();
        client.connect();
        subscriber.connect();
        let ended = CancellationToken::new();
        tokio::spawn(
            ended.clone().run_until_cancelled_owned(reconnect_unresponsive(client.clone(), subscriber.clone())),
        );
        for (client, events) in reconnected {
            let count = metrics.reconnects.get(client).clone();
            tokio::spawn(ended.clone().run_until_cancelled_owned(count_reconnects(count, events)));
        }
        let shared = RedisState {
            lease: Mutex::new(NodeLease::of(node)),
            ownership: Ownership::default(),
            scripts: nodes::NodeScripts::default(),
            ownership_scripts: ownership::OwnershipScripts::default(),
            availability: Availability::default(),
            metrics,
        };
        let redis = Self { client, subscriber, node, partitions, ended, shared: Arc::new(shared) };
        redis.record_errors(&target);
        tokio::spawn(redis.clone().renew_incarnation_after_disturbances(Disturbances::of(&redis.client)));
        Ok(redis)
    }

    /// Returns the id of this node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Returns the number of partitions on this Redis deployment.
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// Returns the client for commands.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the client for subscriptions.
    pub fn subscriber(&self) -> &SubscriberClient {
        &self.subscriber
    }

    /// Runs a script once. If the server does not have the script, the client sends the source of the script. In that
    /// case, the first attempt has not run the script.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time. The script may have run in that
    /// case.
    pub async fn eval<K, V>(&self, script: &Script, keys: K, args: V) -> Result<Value, Unavailable>
    where
        K: Into<MultipleKeys> + Send,
        V: TryInto<MultipleValues> + Send,
        V::Error: Into<fred::error::Error> + Send,
    {
        let keys = keys.into();
        let args = args.try_into().map_err(Into::into)?;
        let began = Instant::now();
        let answer = call(|| self.eval_once(script, keys.clone(), args.clone())).await;
        self.shared.metrics.round_trip.record(began.elapsed());
        answer.map_err(|error| self.explain(error))
    }

    async fn eval_once(
        &self,
        script: &Script,
        keys: MultipleKeys,
        args: MultipleValues,
    ) -> Result<Value, fred::error::Error> {
        match self.client.evalsha(script.0.sha1().clone(), keys.clone(), args.clone()).await {
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                let source = script.0.lua().cloned().unwrap_or_default();
                self.client.eval(source, keys, args).await
            }
            answer => answer,
        }
    }

    /// Runs a script with one key. Then waits until `replicas` replicas have the writes of the script, but at most for
    /// `limit`. Returns the answer from the script, and the number of replicas that have its writes. `WAIT` covers only
    /// writes of its own connection, so both commands use the same connection.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time. The script may have run in that
    /// case.
    pub async fn eval_replicated(
        &self,
        script: &Script,
        key: &str,
        args: &[Value],
        replicas: u32,
        limit: Duration,
    ) -> Result<(Value, u32), Unavailable> {
        let at = |command| CustomCommand::new_static(command, redis_keyslot(key.as_bytes()), false);
        let wait = [i64::from(replicas), limit.as_millis() as i64];
        let run = |command, script: Value| {
            let args: Vec<_> = [script, 1.into(), key.into()].into_iter().chain(args.iter().cloned()).collect();
            let pipeline = self.client.pipeline();
            async move {
                let _queued: () = pipeline.custom(at(command), args).await?;
                let _queued: () = pipeline.custom(at("WAIT"), wait.to_vec()).await?;
                pipeline.all::<(Value, u32)>().await
            }
        };
        call(|| async {
            match run("EVALSHA", script.0.sha1().clone().into()).await {
                Err(error) if error.details().starts_with("NOSCRIPT") => {
                    run("EVAL", script.0.lua().cloned().unwrap_or_default().into()).await
                }
                answer => answer,
            }
        })
        .await
        .map_err(|error| self.explain(error))
    }

    /// Replaces the error of a call that received no answer with the error that prevents a connection.
    pub(crate) fn explain(&self, error: Unavailable) -> Unavailable {
        self.shared.availability.explain(RedisClient::Commands, error)
    }

    /// Subscribes to a plain channel, which belongs to no slot, and waits until the subscription is active. The client
    /// reports success before the server confirms the subscription. This method therefore sends a PING on the same
    /// connection. The server answers the PING after it has confirmed the subscription.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn subscribe(&self, channel: &str) -> Result<(), Unavailable> {
        // In a Redis Cluster, the client uses one connection for all plain channels. It leads to the server that has
        // the slot of the client's own id, so the PING must be sent to this slot.
        let ping = CustomCommand::new_static("PING", redis_keyslot(self.subscriber.id().as_bytes()), false);
        let subscribed = async {
            self.subscriber.subscribe(channel).await?;
            self.subscriber.custom::<Value, Value>(ping, Vec::new()).await
        };
        let answer = within(subscribed).await.map(|_| ());
        answer.map_err(|error| self.shared.availability.explain(RedisClient::Subscriber, error))
    }

    /// Returns a receiver of the events that may interrupt subscriptions. It receives only events that occur after this
    /// call.
    pub fn disturbances(&self) -> Disturbances {
        Disturbances::of(&self.subscriber)
    }

    /// Waits until the clients quit. The tasks that receive messages from the subscriber end at the same time.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Stops both clients and the tasks that receive messages. Waits for each client's confirmation, but only for a
    /// limited time, because a client without a connection cannot confirm.
    pub async fn quit(&self) {
        self.ended.cancel();
        let (client, subscriber) = tokio::join!(within(self.client.quit()), within(self.subscriber.quit()));
        for result in [client, subscriber] {
            if let Err(error) = result {
                tracing::debug!(%error, "failed to close redis client");
            }
        }
    }
}

/// Sets the timeouts and buffer sizes of a client.
fn configure(builder: &mut Builder) {
    builder.set_policy(ReconnectPolicy::new_exponential(0, 50, 1_000, 2));
    builder.with_performance_config(|performance| {
        performance.default_command_timeout = CALL_TIMEOUT;
        performance.broadcast_channel_capacity = LISTENER_CAPACITY;
    });
    builder.with_connection_config(|connection| {
        connection.connection_timeout = Duration::from_secs(2);
        connection.internal_command_timeout = Duration::from_secs(2);
        connection.max_command_attempts = 1;
        // A redirection would count as an attempt. Because no redirection is allowed, the error of a redirected call
        // differs from the error of a call that may have run.
        connection.max_redirections = 0;
        connection.max_command_buffer_len = COMMAND_BUFFER;
        connection.tcp = TcpConfig { nodelay: Some(true), ..TcpConfig::default() };
        connection.unresponsive =
            UnresponsiveConfig { max_timeout: Some(Duration::from_secs(4)), interval: Duration::from_secs(1) };
    });
}

/// Counts how often a client reconnects.
async fn count_reconnects(reconnects: Counter, mut events: Receiver<Server>) {
    let mut is_first = true;
    loop {
        match events.recv().await {
            Ok(_) if is_first => is_first = false,
            Ok(_) => reconnects.increment(1),
            Err(RecvError::Lagged(missed)) => {
                reconnects.increment(missed);
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Reconnects both clients if a server accepts commands but does not answer. The clients then connect to the server
/// that has replaced it. The client's own check is not sufficient, because it restarts with each write. A busy node
/// would stay connected to an unresponsive master.
async fn reconnect_unresponsive(client: Client, subscriber: SubscriberClient) {
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        if client.state() != ClientState::Connected {
            continue;
        }
        let pings = client.active_connections().into_iter().map(|server| {
            let client = &client;
            async move {
                let answer = within(client.with_cluster_node(&server).ping::<()>(None)).await;
                answer.is_err().then_some(server)
            }
        });
        let unresponsive: Vec<Server> = futures_util::future::join_all(pings).await.into_iter().flatten().collect();
        if unresponsive.is_empty() || client.state() != ClientState::Connected {
            continue;
        }
        tracing::warn!(?unresponsive, "redis unresponsive, reconnecting");
        for result in [within(client.force_reconnection()).await, within(subscriber.force_reconnection()).await] {
            if let Err(error) = result {
                tracing::debug!(%error, "failed to reconnect to redis, retrying");
            }
        }
    }
}

/// Receiver of events after which subscriptions may be lost or a server may lack recent writes. The events are a new
/// connection and a changed topology of a Redis Cluster. The client reports no event when a slot and its channels move.
pub struct Disturbances {
    reconnected: Receiver<Server>,
    changed: Receiver<Vec<ClusterStateChange>>,
}

impl Disturbances {
    fn of(client: &impl EventInterface) -> Self {
        Self { reconnected: client.reconnect_rx(), changed: client.cluster_change_rx() }
    }

    /// Waits for the next event. Returns `None` after the client has quit. Cancel safe: no event is lost.
    pub async fn next(&mut self) -> Option<()> {
        let ended = tokio::select! {
            server = self.reconnected.recv() => matches!(server, Err(RecvError::Closed)),
            change = self.changed.recv() => matches!(change, Err(RecvError::Closed)),
        };
        (!ended).then_some(())
    }
}

/// Runs a call with the common timeout. Repeats the call while Redis reports that it did not run.
///
/// # Errors
/// Returns [`Unavailable`] if Redis returns an error or does not answer in time. The call may have run in that case.
pub async fn call<T, F>(request: impl Fn() -> F) -> Result<T, Unavailable>
where
    F: Future<Output = Result<T, fred::error::Error>>,
{
    let mut rejected = None;
    let attempts = async {
        loop {
            match request().await {
                Err(error) if did_not_run(&error) => rejected = Some(error),
                answer => return answer,
            }
            tokio::time::sleep(MOVING_PAUSE).await;
        }
    };
    let answer = within(attempts).await;
    match (answer, rejected) {
        (Err(Unavailable(fault)), Some(error)) if fault.cause == StoreCause::NoResponse => Err(error.into()),
        (answer, _) => answer,
    }
}

/// Runs a call once, with the common timeout. The timeout of the client itself does not apply while the client has no
/// connection.
///
/// # Errors
/// Returns [`Unavailable`] if Redis returns an error or does not answer in time. The call may have run in that case.
pub async fn within<T>(call: impl Future<Output = Result<T, fred::error::Error>>) -> Result<T, Unavailable> {
    match tokio::time::timeout(CALL_TIMEOUT + Duration::from_millis(200), call).await {
        Ok(answer) => answer.map_err(Unavailable::from),
        Err(_) => Err(Unavailable(StoreFault::redis(StoreCause::NoResponse, "call timed out"))),
    }
}

/// Returns whether an error means that the call did not run. There are three cases: the slot has moved (MOVED, reported
/// as too many redirections), the slot is moving (TRYAGAIN, ASK, or a script error about a key that has moved), or the
/// server has just become a replica (READONLY).
fn did_not_run(error: &fred::error::Error) -> bool {
    let details = error.details();
    (*error.kind() == ErrorKind::Routing && details.starts_with("Too many redirections"))
        || details.starts_with("TRYAGAIN")
        || details.starts_with("READONLY")
        || details.contains("Script attempted to access a non local key")
}
