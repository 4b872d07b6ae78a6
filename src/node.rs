//! A node: creates its backend and services, starts their tasks, and stops them.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::redis::Redis;
use crate::backend::shutdown::Shutdown;
use crate::backend::{Backend, RedisOptions};
use crate::chat::hub::Hub;
use crate::domain::NodeId;
use crate::domain::Rng;
use crate::domain::clock::{Agreement, Clock, SystemClock};
use crate::http::{self, ListenerSettings, RenderMetrics, Slots};
use crate::node::clock_skew::Skew;
use crate::node::config::{Config, Networks, RedisUrl};
use crate::node::leader::Leader;
use crate::node::recovery::Recoverer;
use crate::outbound::mail::{LogSender, MailDispatcher, MailSender, SmtpSender};
use crate::outbound::media::Media;
use crate::outbound::webhooks::{self, WebhookDispatcher};
use crate::store::Store;

mod cleaner;
pub mod clock_skew;
pub mod config;
mod control_publisher;
mod earlier;
mod error;
mod health;
mod installation;
pub mod jobs;
pub mod leader;
mod limits;
mod lock;
pub(crate) mod metrics;
pub mod recovery;
mod start;
pub mod telemetry;
mod upkeep;
mod wiring;

pub use cleaner::Cleaner;
pub use control_publisher::ControlPublisher;
pub use error::{AppError, ModeMismatch};
pub(crate) use installation::no_other_redis;
use lock::Lock;
pub use lock::SoleNode;
use wiring::{DRAINED_GRACE, Node};

/// Delay between attempts to connect to an unavailable store on startup.
const START_RETRY: Duration = Duration::from_secs(1);

/// Interval at which a draining node closes a batch of sockets.
const DRAIN_TICK: Duration = Duration::from_millis(100);

/// Configured node that is ready to run.
pub struct App {
    config: Config,
    store: Store,
    backend: Backend,
    mail: Arc<dyn MailSender>,
    media: Media,
    webhook_sender: webhooks::EventSender,
    lock: Lock,
    clock: Arc<dyn Clock>,
    skew: Option<Skew>,
    rng: Rng,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Builds a node from its configuration. The stores need not be reachable.
///
/// # Errors
/// Returns [`AppError`] for errors that a retry cannot resolve.
pub async fn build(config: Config) -> Result<App, AppError> {
    // The recorder is installed first, because metric handles that were created before it record nothing.
    telemetry::metrics(&SystemClock);
    let rng = Rng::from_entropy();
    let lock = Lock::on_files(&config)?;
    let store = Store::connect_lazy(config.mode.database().expose())
        .await
        .map_err(|error| AppError::Url { flag: "database-url", problem: error.to_string() })?;
    let redis = config.mode.redis().map(|url| connect(url, &rng)).transpose()?;
    let mail: Arc<dyn MailSender> = match &config.smtp_url {
        Some(url) => Arc::new(
            SmtpSender::new(url.expose(), config.mail_from.clone())
                .map_err(|problem| AppError::Url { flag: "smtp-url", problem })?,
        ),
        None => Arc::new(LogSender),
    };
    let media = Media::open(&config.media)
        .map_err(|error| AppError::Url { flag: "media-url", problem: format!("{}: {error}", config.media) })?;
    let skew = Skew::new(store.clone(), redis.clone());
    let clock: Arc<dyn Clock> = skew.as_ref().map_or_else(|| Arc::new(SystemClock), Skew::clock);
    let store = store.with_clock(clock.clone()).with_wire(config.wire_offset);
    let backend = match redis {
        Some(redis) => Backend::redis(redis, rng.clone(), redis_options(&config)),
        None => Backend::embedded(store.clone(), clock.clone()),
    };
    let webhook_sender = webhooks::EventSender::new(allowed(&config.webhook_private), clock.clone())
        .map_err(|error| AppError::Tls(error.to_string()))?;
    Ok(App { config, store, backend, mail, media, webhook_sender, lock, clock, skew, rng })
}

/// Returns the function that checks whether webhooks may call an address in a private network. Returns `None` if no
/// private networks are configured.
fn allowed(networks: &Networks) -> Option<webhooks::IsAllowed> {
    let networks = networks.clone();
    if networks.is_empty() { None } else { Some(Arc::new(move |address| networks.contain(address))) }
}

/// Creates the Redis client of a node or a command. Redis need not be reachable.
fn connect(url: &RedisUrl, rng: &Rng) -> Result<Redis, AppError> {
    Redis::new(url.expose(), NodeId::from_random(rng.bytes()))
        .map_err(|error| AppError::Url { flag: "redis-url", problem: error.details().to_owned() })
}

fn redis_options(config: &Config) -> RedisOptions {
    RedisOptions { replicas: config.redis_wait, capacity: config.capacity, wire: config.wire_offset }
}

impl App {
    /// Serves until `shutdown` begins, then drains. Calls `ready` when all requests can be served. All tasks of the
    /// node have ended when this method returns.
    ///
    /// # Errors
    /// Returns [`AppError`] for errors that a retry cannot resolve.
    pub async fn run(self, listener: TcpListener, shutdown: Shutdown, ready: impl FnOnce()) -> Result<(), AppError> {
        let ended = self.serve(listener, &shutdown, ready).await;
        // Background tasks end before the connections to the stores are closed, because the tasks use these
        // connections.
        shutdown.finish().await;
        self.backend.leave(DRAINED_GRACE).await;
        drop(self.lock);
        self.store.close().await;
        ended
    }

    async fn serve(&self, listener: TcpListener, shutdown: &Shutdown, ready: impl FnOnce()) -> Result<(), AppError> {
        let node = Node::wire(self, shutdown);
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
            started = self.start(&node, shutdown, ready) => match started {
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

    fn serving(&self, slots: Arc<Slots>, shutdown: &Shutdown) -> ListenerSettings {
        ListenerSettings { slots, keep_alive: self.config.keep_alive, draining: shutdown.draining_token() }
    }

    /// Waits until the stores are reachable, and starts the tasks that use them. Returns the lock on the database,
    /// which must be held while the node runs.
    async fn start(&self, node: &Node, shutdown: &Shutdown, ready: impl FnOnce()) -> Result<Lock, AppError> {
        let (lock, installation) = self.open_stores(&node.health).await?;
        let recoverer = Recoverer::new(installation, self.store.clone(), &self.backend);
        self.compare_stores(recoverer.as_ref()).await;
        let archive = node.start_archive(&self.store, shutdown);
        self.subscribe(node, archive).await;
        if let Err(error) = node.accounts.measure_old_hashes().await {
            tracing::warn!(%error, "failed to measure verification time of legacy password hashes, measuring at first login");
        }
        if let Err(fault) = self.store.probe().await {
            tracing::warn!(error = %fault, "sql not writable at start");
        }
        node.health.set_started();
        ready();
        upkeep::start(node, &self.store, shutdown);
        if let Some(skew) = &self.skew {
            upkeep::measure_skew(skew, shutdown);
        }
        let leader = self.start_jobs(node, shutdown);
        if let Some(recoverer) = recoverer {
            shutdown.spawn(recoverer.run(leader, shutdown.stopping_token()));
        }
        let (sender, waker) = (self.mail.clone(), node.accounts.mail_waker());
        let dispatcher = MailDispatcher::new(self.store.clone(), sender, self.clock.clone(), waker)
            .with_quotas(limits::mail_quotas(&self.config));
        shutdown.spawn(dispatcher.run(shutdown.stopping_token()));
        let dispatcher = WebhookDispatcher::new(self.store.clone(), self.webhook_sender.clone(), self.rng.clone());
        shutdown.spawn(dispatcher.run(shutdown.stopping_token()));
        shutdown.spawn(node.notifier(self).run(shutdown.stopping_token()));
        tracing::info!(address = %self.config.listen, version = env!("CARGO_PKG_VERSION"), "node started");
        Ok(lock)
    }

    /// Starts the task that campaigns for the leader lease, and the jobs that run while this node holds the lease.
    fn start_jobs(&self, node: &Node, shutdown: &Shutdown) -> Leader {
        let leader = Leader::new(self.backend.lease.clone()).while_clocks_agree(self.agreement());
        shutdown.spawn(leader.clone().run(shutdown.stopping_token()));
        let jobs = node.jobs(&self.store, self.config.duties).while_clocks_agree(self.agreement());
        shutdown.spawn(jobs.run(leader.clone(), shutdown.stopping_token()));
        leader
    }

    fn agreement(&self) -> Agreement {
        self.skew.as_ref().map_or_else(Agreement::assumed, Skew::agreement)
    }

    /// Drains the node (DESIGN, "Sockets"): rejects new sockets and closes the open sockets over the period `drain`. A
    /// cluster node waits for `drain_delay` first. If `in_order` is `false`, closes all sockets at once.
    async fn drain(&self, hub: &Arc<Hub>, connections: &TaskTracker, refuse: &CancellationToken, in_order: bool) {
        if in_order && self.backend.is_cluster() {
            // The delay gives load balancers time to detect that this node is not ready. A single-node server has no
            // delay.
            tokio::time::sleep(self.config.drain_delay).await;
        }
        refuse.cancel();
        let window = if in_order { self.config.drain } else { Duration::ZERO };
        let (began, total, mut ended) = (Instant::now(), hub.len(), 0);
        while !hub.is_empty() && began.elapsed() < window {
            // `due` is the number of sockets to close by now. It increases linearly with time, so that the sockets are
            // closed evenly over the whole period.
            let due = (total as f64 * began.elapsed().div_duration_f64(window)) as usize + 1;
            ended += hub.close_some(due.saturating_sub(ended));
            tokio::time::sleep(DRAIN_TICK).await;
        }
        hub.close_some(usize::MAX);
        connections.close();
        connections.wait().await;
    }
}
