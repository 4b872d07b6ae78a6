//! Creates the components of a node and connects them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::App;
use super::health::NodeHealth;
use super::limits::{byte_rates, limits};
use crate::accounts::hosts::Hosts;
use crate::accounts::limits::{Budgets, Limits};
use crate::accounts::metrics::LoginMetrics;
use crate::accounts::profile_images::ProfileImages;
use crate::accounts::tokens::TokenKeys;
use crate::accounts::{Accounts, Profiles, PublishControl};
use crate::backend::broker::Bus;
use crate::backend::shutdown::Shutdown;
use crate::backend::{Backend, Unavailable};
use crate::chat::archive::Archive;
use crate::chat::history::History;
use crate::chat::hub::Hub;
use crate::chat::inbox::Inbox;
use crate::chat::relay::{Deliveries, Members, Relay, Sweep};
use crate::chat::rooms::Rooms;
use crate::chat::session::{Rate, SessionLimits, Sessions};
use crate::chat::session_revalidator::SessionRevalidator;
use crate::chat::statuses::{Grace, Statuses, Watch};
use crate::domain::clock::Clock;
use crate::http::metrics::HttpMetrics;
use crate::http::{self, HttpContext, HttpSettings, IsTrustedProxy, Page, Pages, RenderMetrics};
use crate::node::config::Config;
use crate::node::jobs::{Jobs, Settings as JobSettings};
use crate::outbound::contacts::{Contacts, MailLinks};
use crate::outbound::notifications::{NotificationWriter, Notifier};
use crate::outbound::webhooks::Webhooks;
use crate::store::Store;
use crate::web;
use crate::ws::{Admission, Upgrader};

/// Time for which the hosts of a drained node remain online after their sockets were closed. Their clients reconnect
/// after 1 to 5 s. The sum of this time and the time until other nodes detect an expired lease is well below the 20 s
/// of SPEC 5.
pub(super) const DRAINED_GRACE: Duration = Duration::from_secs(8);

/// Components of a running node.
pub(super) struct Node {
    pub(super) hub: Arc<Hub>,
    hosts: Hosts,
    pub(super) rooms: Rooms,
    pub(super) accounts: Accounts,
    pub(super) backend: Backend,
    sessions: Arc<Sessions>,
    inbox: Inbox,
    pub(super) revalidator: SessionRevalidator,
    pub(super) health: NodeHealth,
    limits: Arc<Limits>,
    clock: Arc<dyn Clock>,
}

impl Node {
    pub(super) fn wire(app: &App, shutdown: &Shutdown) -> Self {
        let App { config, store, backend, clock, rng, .. } = app;
        let hub = Hub::new(rng.clone());
        let history = History::new(backend, store.clone());
        let rooms = Rooms::new(store.clone(), backend, history.clone(), clock.clone(), rng.clone(), config.wire_offset);
        let publish = publish(backend.bus.clone());
        let accounts = Accounts::new(store.clone(), clock.clone(), rng.clone(), keys(config), publish)
            .with_key_grace(config.key_grace);
        let hosts = accounts.hosts().clone();
        let relay = Relay::start(&backend.log, &rooms, &hub, shutdown);
        let shown_at = (clock.clone(), config.wire_offset);
        let watch = Watch::new(hub.clone(), backend.presence.clone(), shown_at, shutdown.clone());
        let statuses = Statuses::new(hub.clone(), backend.presence.clone(), watch, grace(app), shutdown.clone());
        let revalidator = SessionRevalidator::new(
            hub.clone(),
            store.clone(),
            accounts.clone(),
            hosts.clone(),
            clock.clone(),
            shutdown.clone(),
        )
        .while_clocks_agree(app.agreement());
        let limits = limits(app);
        let sessions = Arc::new(Sessions {
            accounts: accounts.clone(),
            hosts: hosts.clone(),
            rooms: rooms.clone(),
            history,
            relay,
            bus: backend.bus.clone(),
            members: Members::new(hub.clone(), rooms.clone(), shutdown.clone()),
            hub: hub.clone(),
            statuses,
            clock: clock.clone(),
            rng: rng.clone(),
            wire: config.wire_offset,
            limits: session_limits(config),
            budgets: Budgets::new(limits.clone(), shutdown.tasks().clone()),
            tracker: shutdown.tasks().clone(),
        });
        let inbox = Inbox::new(hub.clone(), shutdown.clone());
        let health = NodeHealth::new(backend, shutdown.clone());
        let clock = clock.clone();
        Self {
            hub,
            hosts,
            rooms,
            accounts,
            backend: backend.clone(),
            sessions,
            inbox,
            revalidator,
            health,
            limits,
            clock,
        }
    }

    pub(super) fn http(
        &self,
        app: &App,
        connections: &TaskTracker,
        refuse: &CancellationToken,
        metrics: RenderMetrics,
    ) -> HttpContext {
        let (config, limits) = (&app.config, self.limits.clone());
        let upgrader = Upgrader {
            sessions: self.sessions.clone(),
            hub: self.hub.clone(),
            limits: limits.clone(),
            address_sockets: config.limits.sockets_per_address.get(),
            byte_rates: byte_rates(config),
            max_message: config.limits.frame_bytes,
            admission: Admission::new(config.limits.joins_waiting, app.rng.clone()),
            draining: refuse.clone(),
            health: Arc::new(self.health.clone()),
            tracker: connections.clone(),
            metrics: Arc::default(),
        };
        let images = ProfileImages::new(app.media.clone(), app.store.clone(), self.clock.clone(), app.rng.clone());
        HttpContext {
            accounts: self.accounts.clone(),
            rooms: self.rooms.clone(),
            contacts: Contacts::new(
                app.store.clone(),
                self.clock.clone(),
                mail_links(config),
                self.accounts.mail_waker(),
            ),
            profiles: Profiles::new(self.accounts.clone(), images),
            webhooks: Webhooks::new(app.store.clone(), app.webhook_sender.clone(), app.rng.clone()),
            limits,
            health: Arc::new(self.health.clone()),
            metrics,
            http_metrics: HttpMetrics::default(),
            login_metrics: LoginMetrics::default(),
            upgrades: Arc::new(upgrader),
            pages: Pages::new(pages(config)),
            settings: HttpSettings {
                public_url: config.public_url.as_str().to_owned(),
                admin_origins: config.admin_origins.iter().map(|origin| origin.as_str().to_owned()).collect(),
                cookie_domain: config.cookie_domain.as_ref().map(|domain| domain.as_str().to_owned()),
                is_trusted_proxy: is_trusted_proxy(config),
                is_sign_up_open: config.sign_up.is_open(),
                metrics_here: config.metrics_listen.is_none(),
            },
        }
    }

    pub(super) fn notifier(&self, app: &App) -> Notifier {
        let App { config, store, .. } = app;
        let public_url = config.public_url.as_str();
        // The admin page is the built-in console if no admin origin is configured or if the first one is the origin of
        // this server. The URL of the console includes the path of the public URL.
        let admin_url = match config.admin_origins.first() {
            Some(origin) if !config.public_url.has_origin(origin.as_str()) => origin.as_str().to_owned(),
            _ => format!("{public_url}/console/"),
        };
        let writer = NotificationWriter::new(&admin_url, public_url, mail_links(config), config.mail_language);
        let waker = self.accounts.mail_waker();
        Notifier::new(store.clone(), self.backend.states.clone(), self.clock.clone(), writer, waker)
    }

    pub(super) fn sweep(&self) -> Sweep {
        Sweep::new(self.hub.clone(), self.sessions.members.clone(), self.rooms.clone())
    }

    pub(super) fn start_archive(&self, store: &Store, shutdown: &Shutdown) -> Option<Archive> {
        let queue = &self.backend.cluster.as_ref()?.archive;
        Some(Archive::start(queue, self.backend.log.partitions(), store, shutdown))
    }

    pub(super) fn jobs(&self, store: &Store, settings: JobSettings) -> Jobs {
        Jobs::new(store.clone(), self.clock.clone(), settings)
            .with_backend(&self.backend)
            .publishing_through(self.rooms.clone())
    }

    pub(super) async fn subscribe(&self, archive: Option<Archive>) -> Result<(), Unavailable> {
        let deliveries = Deliveries {
            hub: self.hub.clone(),
            inbox: self.inbox.clone(),
            hosts: self.hosts.clone(),
            accounts: self.accounts.clone(),
            revalidator: self.revalidator.clone(),
            watch: self.sessions.statuses.watch().clone(),
            archive,
            tracker: self.sessions.tracker.clone(),
        };
        let subscribed = self.backend.bus.subscribe(Arc::new(deliveries)).await;
        let watch = self.sessions.statuses.watch().clone();
        self.backend.presence.subscribe(Arc::new(watch)).await.and(subscribed)
    }
}

fn publish(bus: Arc<dyn Bus>) -> PublishControl {
    Arc::new(move |control| {
        let bus = bus.clone();
        Box::pin(async move {
            if let Err(error) = bus.publish_control(control).await {
                tracing::warn!(%error, "failed to publish account change");
            }
        })
    })
}

/// Returns the function that checks whether an address belongs to a trusted proxy.
pub(super) fn is_trusted_proxy(config: &Config) -> IsTrustedProxy {
    let proxies = config.trusted_proxies.clone();
    Arc::new(move |peer: IpAddr| proxies.as_ref().is_some_and(|proxies| proxies.contain(peer)))
}

fn mail_links(config: &Config) -> MailLinks {
    MailLinks::new(config.public_url.as_str(), config.jwt_secrets.verifying().map(<[u8]>::to_vec))
}

fn keys(config: &Config) -> TokenKeys {
    let secrets: Vec<&[u8]> = config.jwt_secrets.verifying().collect();
    // The configuration always contains at least one key.
    TokenKeys::new(&secrets).unwrap_or_else(|| unreachable!("the configuration checks that there is a secret"))
}

/// Returns the times after which a disconnected host goes offline. In a cluster, the time is longer for hosts of a
/// draining node, so that they can reconnect to another node.
fn grace(app: &App) -> Grace {
    let usual = app.config.presence_grace;
    let drained = if app.backend.is_cluster() { DRAINED_GRACE.max(usual) } else { usual };
    Grace { usual, drained }
}

fn session_limits(config: &Config) -> SessionLimits {
    let limits = &config.limits;
    SessionLimits {
        room_sockets: limits.sockets_per_room.get(),
        rate: limits
            .messages_per_second
            .get()
            .map(|per_second| Rate { per_second, burst: limits.message_burst.get().unwrap_or(u32::MAX) }),
    }
}

/// Returns the embedded pages that this node serves.
fn pages(config: &Config) -> impl Iterator<Item = Page> {
    let web = web::pages(&web::WebSettings {
        demo: config.demo.as_ref(),
        sign_up: config.sign_up,
        base: config.public_url.path(),
        wire_offset: config.wire_offset,
    });
    http::docs(config.public_url.as_str()).into_iter().chain(web)
}
