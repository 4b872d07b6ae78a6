//! Hosts with status sockets, and one guest per host who receives the host's presence. Nodes and Redis fail during the
//! test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use pintalk::accounts::tokens::TokenKeys;
use pintalk::domain::HostUuid;
use pintalk::domain::Rng;
use pintalk::domain::clock::{Clock as _, SystemClock};
use pintalk::store::NewHost;
use pintalk_kit::redis::Kind;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::eventually;
use crate::setup::{JWT_SECRET, Plan, Setup};
use crate::socket::{Event, SHOP, Socket};

/// Notice with which a guest requests the status of the host.
const HELLO: &str = r#"{"type":"notice","is_host":false,"message":"online","datetime":"2023-03-23T08:15:07"}"#;

/// Number of sockets that are opened concurrently.
const AT_ONCE: usize = 16;

/// Maximum time until all hosts are online.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Host with one status socket.
pub struct HostTab {
    uuid: HostUuid,
    path: String,
    /// Node to which the host reconnects when its socket is closed. With `None`, the host does not reconnect.
    pub home: Arc<Mutex<Option<SocketAddr>>>,
    /// Time and status of each notification that the guest of this host has received. The status is true for online.
    notifications: Arc<Mutex<Vec<(Instant, bool)>>>,
}

impl HostTab {
    pub fn is_seen_online(&self) -> bool {
        self.notifications.lock().last().is_some_and(|(_, online)| *online)
    }

    /// Returns the time from `since` until the guest was first notified that the host is offline. `None` if this has
    /// not happened.
    pub fn gone_after(&self, since: Instant) -> Option<Duration> {
        let notifications = self.notifications.lock();
        notifications.iter().find(|(at, online)| *at > since && !online).map(|(at, _)| *at - since)
    }
}

/// Environment with hosts that keep status sockets open, and one guest per host.
pub struct Statuses {
    pub setup: Setup,
    pub tabs: Vec<Arc<HostTab>>,
    tasks: JoinSet<()>,
}

impl Statuses {
    /// Creates `count` hosts with one guest each. The hosts connect to the nodes in `homes` in rotation. The guests
    /// connect to the node `watching`.
    pub async fn set(case: &str, count: usize, homes: &[usize], watching: usize, flags: &[&str]) -> Self {
        let mut flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        flags.extend(["--limit-sockets-per-address".to_owned(), "off".to_owned()]);
        let plan = Plan { redis: Some(Kind::Redis7), rooms: 0, flags, ..Plan::default() };
        let setup = Setup::set_empty(case, &plan).await;
        let homes: Vec<SocketAddr> = homes.iter().map(|at| setup.nodes[*at].address).collect();
        let watching = setup.nodes[watching].address;
        let rng = Rng::from_entropy();
        let accounts = futures_util::stream::iter(0..count)
            .map(|number| sign_up(&setup, &rng, number, homes[number % homes.len()]))
            .buffered(AT_ONCE);
        let tabs: Vec<Arc<HostTab>> = accounts.collect().await;
        let mut tasks = JoinSet::new();
        for some in tabs.chunks(AT_ONCE) {
            some.iter().for_each(|tab| drop(tasks.spawn(keep_connected(tab.clone()))));
            some.iter().for_each(|tab| drop(tasks.spawn(watch(tab.clone(), watching))));
            eventually("hosts are online", TIMEOUT, async || some.iter().all(|tab| tab.is_seen_online()).then_some(()))
                .await;
        }
        Self { setup, tabs, tasks }
    }

    /// Waits until the last notification of each guest is the expected status of the host.
    pub async fn wait_for_statuses(&self, within: Duration, online: impl Fn(usize) -> bool) {
        let is_right = |(at, tab): (usize, &Arc<HostTab>)| tab.is_seen_online() == online(at);
        let asked = async || self.tabs.iter().enumerate().all(is_right).then_some(());
        eventually("guests have the expected statuses", within, asked).await;
    }

    /// Asserts that new guests on a node receive the status online for all hosts.
    pub async fn new_guests_see_all_online(&self, node: usize) {
        let address = self.setup.nodes[node].address;
        let asked = futures_util::stream::iter(&self.tabs).map(|tab| is_online(address, tab)).buffer_unordered(AT_ONCE);
        let online = asked.filter(|online| std::future::ready(*online)).count().await;
        assert_eq!(online, self.tabs.len());
    }

    /// Prints the figures, and stops hosts, guests, nodes and stores.
    pub async fn finish(mut self, note: impl FnOnce(&Self, &mut crate::figures::Figures)) {
        let mut figures = crate::figures::Figures::default();
        note(&self, &mut figures);
        figures.show(&self.setup.case);
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        self.setup.stop().await;
    }
}

async fn is_online(address: SocketAddr, tab: &HostTab) -> bool {
    let path = format!("/ws/status/{}/", tab.uuid);
    let Some(mut socket) = Socket::open(address, &path, Some(SHOP)).await else { return false };
    matches!(tokio::time::timeout(Duration::from_secs(5), socket.receive()).await, Ok(Event::Frame(frame)) if frame["status"] == "online")
}

/// Creates a host with a token. The host has no usable password.
async fn sign_up(setup: &Setup, rng: &Rng, number: usize, home: SocketAddr) -> Arc<HostTab> {
    let hex = |bytes: [u8; 16]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let uuid = HostUuid::from_random(rng.bytes());
    let new = NewHost {
        email: format!("host{number}@shop.example"),
        uuid,
        password_hash: "none".into(),
        access_key: HostUuid::from_random(rng.bytes()).to_string(),
        secret_key: hex(rng.bytes()) + &hex(rng.bytes()),
        service_name: "Shop".into(),
        service_expl: String::new(),
        service_domain: Some("shop.example".into()),
    };
    let (now, sid) = (SystemClock.now(), HostUuid::from_random(rng.bytes()).to_string());
    let host = setup.store.hosts().create(new, now).await.expect("a host");
    let until = now + Duration::from_secs(3_600);
    setup.store.logins().create(&sid, host.id, "none", now, until).await.expect("a login");
    let keys = TokenKeys::new(&[JWT_SECRET]).expect("keys");
    let token = keys.access(host.id, &sid, hex(rng.bytes()), now).expect("a token");
    let path = format!("/ws/status/{uuid}/?token={token}");
    Arc::new(HostTab { uuid, path, home: Arc::new(Mutex::new(Some(home))), notifications: Arc::default() })
}

/// Keeps a host's status socket open: reconnects to the home node whenever the socket is closed. Returns when there is
/// no home node.
async fn keep_connected(tab: Arc<HostTab>) {
    loop {
        let home = *tab.home.lock();
        let Some(address) = home else { return };
        if let Some(mut socket) = Socket::open(address, &tab.path, None).await {
            while let Event::Frame(_) = socket.receive().await {}
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Keeps a guest's status socket open and records the notifications that it receives.
async fn watch(tab: Arc<HostTab>, address: SocketAddr) {
    let path = format!("/ws/status/{}/", tab.uuid);
    loop {
        if let Some(mut socket) = Socket::open(address, &path, Some(SHOP)).await {
            let asks = socket.send(HELLO).await;
            while let (true, Event::Frame(frame)) = (asks, socket.receive().await) {
                note(&tab, &frame);
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

fn note(tab: &HostTab, frame: &Value) {
    if let Some(status @ ("online" | "offline")) = frame["status"].as_str() {
        tab.notifications.lock().push((Instant::now(), status == "online"));
    }
}
