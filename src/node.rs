//! Wiring: selects the driver behind each port, starts the tasks of a node and stops them. This is the only module that
//! names drivers.

use std::sync::Arc;
use std::time::Duration;

use migration::SchemaState;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::broker::embedded::EmbeddedBroker;
use crate::backend::broker::recovery::Recovery;
use crate::backend::broker::redis::RedisBroker;
use crate::backend::broker::{Broker, Unavailable};
use crate::backend::lease::Lease;
use crate::backend::lease::memory::SoleLease;
use crate::backend::lease::redis::RedisLease;
use crate::backend::presence::Presence;
use crate::backend::presence::memory::MemoryPresence;
use crate::backend::presence::redis::RedisPresence;
use crate::backend::redis::Redis;
use crate::backend::shutdown::Shutdown;
use crate::chat::archive::Archive;
use crate::chat::hub::Hub;
use crate::domain::clock::{Agreement, Chance, Clock, SystemClock};
use crate::domain::{InstallationId, NodeId};
use crate::http::{self, RenderMetrics, Serving, Slots};
use crate::node::clock_skew::Skew;
use crate::node::config::{Config, Networks};
use crate::node::leader::Leader;
use crate::node::recovery::{Recoverer, RecoveryError};
use crate::outbound::mail::{Log, Postman, Sender, Smtp};
use crate::outbound::media::Media;
use crate::outbound::webhooks::{self, Courier};
use crate::store::{Store, is_temporary};

mod announcer;
mod cleaner;
pub mod clock_skew;
pub mod config;
mod earlier;
mod health;
mod installation;
pub mod jobs;
pub mod leader;
mod limits;
mod lock;
pub(crate) mod metrics;
pub mod recovery;
pub mod telemetry;
mod upkeep;
mod wiring;

pub use announcer::Announcer;
pub use cleaner::Cleaner;
pub use installation::ModeMismatch;
pub(crate) use installation::no_other_redis;
use lock::Lock;
pub use lock::SoleNode;
use wiring::{DRAINED_GRACE, Node};

/// Delay between attempts to reach a store at start.
const START_RETRY: Duration = Duration::from_secs(1);

/// Interval between batches of closed sockets while draining.
const DRAIN_TICK: Duration = Duration::from_millis(100);

/// Why a node failed to start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Another process holds the lock on the data.
    #[error("another process uses {0}")]
    InUse(String),
    /// The lock on the data could not be taken, or was lost.
    #[error("the data cannot be locked: {0}")]
    Lock(String),
    /// The schema is older than this program, and automatic migration is off.
    #[error("{0} migrations are pending: run `pintalk migrate up`, or start with --auto-migrate on")]
    PendingMigrations(usize),
    /// The schema could not be read or migrated.
    #[error("the schema could not be brought up to date: {0}")]
    Migration(String),
    /// Redis was set up for another number of partitions.
    #[error(
        "--redis-url: this Redis was set up for {found} partitions, and a Redis of this kind has {own}: give an empty one"
    )]
    Partitions {
        /// Number of partitions recorded in Redis.
        found: u16,
        /// Number of partitions for this kind of Redis.
        own: u16,
    },
    /// Redis belongs to another installation.
    #[error(
        "--redis-url: this Redis belongs to another installation ({found}, this database is of {own}): give the Redis of this \
         installation, or run `pintalk installation adopt` to take this one over"
    )]
    OtherInstallation {
        /// Installation id recorded in Redis.
        found: String,
        /// Installation id recorded in SQL.
        own: InstallationId,
    },
    /// The database is used in another mode (embedded or cluster).
    #[error("{0}")]
    Mode(ModeMismatch),
    /// Redis is unavailable, or its installation could not be checked.
    #[error("--redis-url: {0}")]
    Redis(Unavailable),
    /// The installation id could not be read or recorded.
    #[error("the installation cannot be read from SQL: {0}")]
    Installation(String),
    /// A URL or path that its driver rejects.
    #[error("--{flag}: {problem}")]
    Url {
        /// Name of the flag, without dashes.
        flag: &'static str,
        /// Error of the driver.
        problem: String,
    },
    /// The TLS client of the webhook dispatcher could not be created.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The metrics listener could not be bound.
    #[error("--metrics-listen: {0}")]
    Listen(std::io::Error),
}

/// Configured node, ready to run.
pub struct App {
    config: Config,
    store: Store,
    redis: Option<Redis>,
    mail: Arc<dyn Sender>,
    media: Media,
    webhook_sender: webhooks::Sender,
    lock: Lock,
    clock: Arc<dyn Clock>,
    skew: Option<Skew>,
    chance: Chance,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Creates a node from its configuration. The stores need not be reachable yet.
///
/// # Errors
/// Errors that a retry does not resolve.
pub async fn build(config: Config) -> Result<App, AppError> {
    // The recorder must be installed first: handles created before record nothing.
    telemetry::metrics(&SystemClock);
    let chance = Chance::from_entropy();
    let lock = Lock::on_files(&config)?;
    let store = Store::connect_lazy(config.mode.database().expose())
        .await
        .map_err(|error| AppError::Url { flag: "database-url", problem: error.to_string() })?;
    let redis = match config.mode.redis() {
        Some(url) => Some(
            Redis::new(url.expose(), NodeId::from_random(chance.bytes()))
                .map_err(|error| AppError::Url { flag: "redis-url", problem: error.details().to_owned() })?,
        ),
        None => None,
    };
    let mail: Arc<dyn Sender> = match &config.smtp_url {
        Some(url) => Arc::new(
            Smtp::new(url.expose(), config.mail_from.clone())
                .map_err(|problem| AppError::Url { flag: "smtp-url", problem })?,
        ),
        None => Arc::new(Log),
    };
    let media = Media::open(&config.media)
        .map_err(|error| AppError::Url { flag: "media-url", problem: format!("{}: {error}", config.media) })?;
    let skew = Skew::new(store.clone(), redis.clone());
    let clock: Arc<dyn Clock> = skew.as_ref().map_or_else(|| Arc::new(SystemClock), Skew::clock);
    let store = store.with_clock(clock.clone()).with_wire(config.wire_offset);
    let webhook_sender = webhooks::Sender::new(allowed(&config.webhook_private), clock.clone())
        .map_err(|error| AppError::Tls(error.to_string()))?;
    Ok(App { config, store, redis, mail, media, webhook_sender, lock, clock, skew, chance })
}

/// Private networks that webhooks may reach in addition to public addresses.
fn allowed(networks: &Networks) -> Option<webhooks::IsAllowed> {
    let networks = networks.clone();
    if networks.is_empty() { None } else { Some(Arc::new(move |address| networks.contain(address))) }
}

/// Drivers that the rest of a node is wired from.
struct Ports {
    broker: Arc<dyn Broker>,
    presence: Arc<dyn Presence>,
    /// `Some` in a cluster only: there SQL and Redis can be restored to different points in time.
    recovery: Option<Arc<dyn Recovery>>,
}

impl App {
    fn ports(&self) -> Ports {
        match &self.redis {
            Some(redis) => {
                let broker = RedisBroker::new(redis.clone(), self.chance.clone(), self.config.redis_wait)
                    .with_wire(self.config.wire_offset)
                    .with_capacity(self.config.capacity);
                let broker = Arc::new(broker);
                let presence = Arc::new(RedisPresence::new(redis.clone()));
                Ports { broker: broker.clone(), presence, recovery: Some(broker) }
            }
            None => Ports {
                broker: Arc::new(EmbeddedBroker::new(self.store.clone(), self.clock.clone())),
                presence: Arc::new(MemoryPresence::default()),
                recovery: None,
            },
        }
    }

    /// Serves until `shutdown` begins, then drains. Calls `ready` when all requests are served. When it returns, all
    /// tasks of the node have ended.
    ///
    /// # Errors
    /// Errors that a retry does not resolve.
    pub async fn run(self, listener: TcpListener, shutdown: Shutdown, ready: impl FnOnce()) -> Result<(), AppError> {
        let ended = self.serve(listener, &shutdown, ready).await;
        // Background tasks end before the stores close.
        shutdown.finish().await;
        if let Some(redis) = &self.redis {
            if let Err(error) = redis.sign_off(DRAINED_GRACE).await {
                tracing::debug!(%error, "failed to release node lease, it expires");
            }
            redis.quit().await;
        }
        drop(self.lock);
        self.store.close().await;
        ended
    }

    async fn serve(&self, listener: TcpListener, shutdown: &Shutdown, ready: impl FnOnce()) -> Result<(), AppError> {
        let Ports { broker, presence, recovery } = self.ports();
        let node = Node::wire(self, broker, presence, shutdown);
        let connections = TaskTracker::new();
        let refuse = CancellationToken::new();
        let metrics: RenderMetrics = {
            let metrics = telemetry::metrics(&*self.clock);
            Arc::new(move || metrics.render())
        };
        if let Some(address) = self.config.metrics_listen {
            let listener = TcpListener::bind(address).await.map_err(AppError::Listen)?;
            let stop = shutdown.stopping_token();
            let tracker = shutdown.tasks().clone();
            let serving = self.serving(Slots::for_metrics(), shutdown);
            shutdown.spawn(http::serve_metrics(listener, metrics.clone(), serving, stop, tracker));
        }
        let context = node.http(self, &connections, &refuse, metrics);
        let limit = self.config.limits.sockets_per_address.get();
        let slots = Slots::new(http::raise_descriptor_limit(), limit, wiring::is_trusted_proxy(&self.config));
        let serving = self.serving(slots, shutdown);
        let serving = shutdown.spawn(http::serve(listener, context, serving, refuse.clone(), connections.clone()));

        let ended = tokio::select! {
            started = self.start(&node, recovery, shutdown, ready) => match started {
                Ok(mut lock) => tokio::select! {
                    () = shutdown.draining() => Ok(()),
                    error = lock.lost(&self.store) => Err(error),
                },
                Err(error) => Err(error),
            },
            () = shutdown.draining() => Ok(()),
        };
        let in_order = ended.is_ok();
        shutdown.begin();
        self.drain(&node.hub, &connections, &refuse, in_order).await;
        if let Err(error) = serving.await {
            tracing::error!(%error, "accept loop failed");
        }
        ended
    }

    fn serving(&self, slots: Arc<Slots>, shutdown: &Shutdown) -> Serving {
        Serving { slots, keep_alive: self.config.keep_alive, draining: shutdown.draining_token() }
    }

    /// Waits for the stores and starts the tasks that use them. Returns the lock on the database.
    async fn start(
        &self,
        node: &Node,
        recovery: Option<Arc<dyn Recovery>>,
        shutdown: &Shutdown,
        ready: impl FnOnce(),
    ) -> Result<Lock, AppError> {
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
        while let Err(error) = self.migrate().await? {
            tracing::warn!(%error, "failed to bring the schema up to date, retrying");
            tokio::time::sleep(START_RETRY).await;
        }
        let lock = Lock::on_database(&self.config, &self.store).await?;
        let installation = installation::open(self).await?;
        if let Some(redis) = &self.redis {
            redis.install(installation.id);
            while let Err(error) = installation::claim(redis, &self.store).await? {
                tracing::warn!(%error, "failed to connect to redis, retrying");
                tokio::time::sleep(START_RETRY).await;
            }
        }
        let recoverer = recovery.zip(node.broker.archive_queue()).map(|(recovery, queue)| {
            Recoverer::new(installation.id, self.store.clone(), node.broker.clone(), queue, recovery)
        });
        self.compare_stores(recoverer.as_ref()).await;
        let archive = node.start_archive(&self.store, shutdown);
        self.subscribe(node, archive).await;
        if let Err(error) = node.accounts.measure_old_hashes().await {
            tracing::warn!(%error, "failed to measure legacy password hashes, measuring at first login");
        }
        if let Err(fault) = self.store.probe().await {
            tracing::warn!(%fault, "starting without sql writes");
        }
        node.health.set_started();
        ready();
        upkeep::start(node, &self.store, self.redis.as_ref(), shutdown);
        if let Some(skew) = &self.skew {
            upkeep::measure_skew(skew, shutdown);
        }
        let leader = self.start_duties(node, shutdown);
        if let Some(recoverer) = recoverer {
            shutdown.spawn(recoverer.run(leader, shutdown.stopping_token()));
        }
        let (sender, waker) = (self.mail.clone(), node.accounts.mail_waker());
        let postman = Postman::new(self.store.clone(), sender, self.clock.clone(), waker)
            .with_quotas(limits::mail_quotas(&self.config));
        shutdown.spawn(postman.run(shutdown.stopping_token()));
        let courier = Courier::new(self.store.clone(), self.webhook_sender.clone(), self.chance.clone());
        shutdown.spawn(courier.run(shutdown.stopping_token()));
        shutdown.spawn(node.notifier(self).run(shutdown.stopping_token()));
        tracing::info!(address = %self.config.listen, version = env!("CARGO_PKG_VERSION"), "node started");
        Ok(lock)
    }

    /// Starts the campaign for the leader's lease and the jobs that run while this node holds it.
    fn start_duties(&self, node: &Node, shutdown: &Shutdown) -> Leader {
        let lease: Arc<dyn Lease> = match &self.redis {
            Some(redis) => Arc::new(RedisLease::new(redis.clone())),
            None => Arc::new(SoleLease),
        };
        let leader = Leader::new(lease).while_clocks_agree(self.agreement());
        shutdown.spawn(leader.clone().run(shutdown.stopping_token()));
        let duties = node.duties(&self.store, self.config.duties).while_clocks_agree(self.agreement());
        shutdown.spawn(duties.run(leader.clone(), shutdown.stopping_token()));
        leader
    }

    fn agreement(&self) -> Agreement {
        self.skew.as_ref().map_or_else(Agreement::assumed, Skew::agreement)
    }

    /// Checks the schema, or applies pending migrations. The inner error is temporary: retry.
    async fn migrate(&self) -> Result<Result<(), sea_orm::DbErr>, AppError> {
        let connection = self.store.connection();
        let outcome = match SchemaState::read(connection).await {
            Ok(state) => {
                if !state.foreign.is_empty() {
                    tracing::info!(changes = state.foreign.join(", "), "schema changed by another release, continuing");
                }
                match state.pending() {
                    0 => Ok(()),
                    pending if !self.config.auto_migrate => return Err(AppError::PendingMigrations(pending)),
                    _ => SchemaState::up(connection, None).await,
                }
            }
            Err(error) => Err(error),
        };
        match outcome {
            Err(error) if !is_temporary(&error) => Err(AppError::Migration(error.to_string())),
            outcome => Ok(outcome),
        }
    }

    /// Compares SQL and Redis when no node of the cluster is running.
    async fn compare_stores(&self, recoverer: Option<&Recoverer>) {
        let (Some(redis), Some(recoverer)) = (&self.redis, recoverer) else { return };
        let compare = async || {
            if redis.live_leases().await? == 0 {
                recoverer.compare().await?;
            }
            Ok::<(), RecoveryError>(())
        };
        while let Err(error) = compare().await {
            tracing::warn!(%error, "failed to compare the stores, retrying");
            tokio::time::sleep(START_RETRY).await;
        }
    }

    /// Acquires this node's lease and subscribes to the buses.
    async fn subscribe(&self, node: &Node, archive: Option<Archive>) {
        while let Some(redis) = &self.redis
            && let Err(error) = redis.heartbeat().await
        {
            tracing::warn!(%error, "failed to connect to redis, retrying");
            tokio::time::sleep(START_RETRY).await;
        }
        if let Err(error) = node.subscribe(archive).await {
            // The drivers retry, and readiness depends on the broker.
            tracing::warn!(%error, "failed to subscribe, retrying");
        }
    }

    /// Drains the node (DESIGN, "Sockets"): waits for `drain_delay`, refuses new sockets, closes the open ones over the
    /// `drain` window.
    async fn drain(&self, hub: &Arc<Hub>, connections: &TaskTracker, refuse: &CancellationToken, in_order: bool) {
        if in_order && self.redis.is_some() {
            // Gives load balancers time to see that this node is not ready. A single node has none.
            tokio::time::sleep(self.config.drain_delay).await;
        }
        refuse.cancel();
        let window = if in_order { self.config.drain } else { Duration::ZERO };
        let (began, total, mut ended) = (Instant::now(), hub.len(), 0);
        while !hub.is_empty() && began.elapsed() < window {
            // At least one socket per tick; the total is spread over the window.
            let due = (total as f64 * began.elapsed().div_duration_f64(window)) as usize + 1;
            ended += hub.end_some(due.saturating_sub(ended));
            tokio::time::sleep(DRAIN_TICK).await;
        }
        hub.end_some(usize::MAX);
        connections.close();
        connections.wait().await;
    }
}
