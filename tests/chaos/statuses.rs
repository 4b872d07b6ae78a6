//! Hosts with status sockets, and one guest per host who is notified of the host's presence during outages of nodes and
//! Redis.

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
use crate::socket::{Heard, SHOP, Socket};
use crate::stage::{JWT_SECRET, Plan, Stage};

/// First frame of a guest on a status socket.
const HELLO: &str = r#"{"type":"notice","is_host":false,"message":"online","datetime":"2023-03-23T08:15:07"}"#;

/// Number of sockets that are opened concurrently.
const AT_ONCE: usize = 16;

/// Time limit until all hosts are online.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host and the state of its socket.
pub struct Desk {
    uuid: HostUuid,
    path: String,
    /// Node to which a closed socket reconnects; `None` stops reconnecting.
    pub home: Arc<Mutex<Option<SocketAddr>>>,
    /// Notifications that the guest of this host has received, with their times.
    told: Arc<Mutex<Vec<(Instant, bool)>>>,
}

impl Desk {
    pub fn is_believed_online(&self) -> bool {
        self.told.lock().last().is_some_and(|(_, online)| *online)
    }

    /// Returns the time from `since` until the guest was first notified that the host is offline.
    pub fn gone_after(&self, since: Instant) -> Option<Duration> {
        let told = self.told.lock();
        told.iter().find(|(at, online)| *at > since && !online).map(|(at, _)| *at - since)
    }
}

/// Test environment with hosts that hold status sockets, and one guest per host.
pub struct Statuses {
    pub stage: Stage,
    pub desks: Vec<Arc<Desk>>,
    tasks: JoinSet<()>,
}

impl Statuses {
    /// Starts `count` hosts with a guest each. The hosts connect to the nodes `homes` in rotation, the guests to the
    /// node `watching`.
    pub async fn set(case: &str, count: usize, homes: &[usize], watching: usize, flags: &[&str]) -> Self {
        let mut flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        flags.extend(["--limit-sockets-per-address".to_owned(), "off".to_owned()]);
        let plan = Plan { redis: Some(Kind::Redis7), rooms: 0, flags, ..Plan::default() };
        let stage = Stage::set_empty(case, &plan).await;
        let homes: Vec<SocketAddr> = homes.iter().map(|at| stage.nodes[*at].address).collect();
        let watching = stage.nodes[watching].address;
        let rng = Rng::from_entropy();
        let accounts = futures_util::stream::iter(0..count)
            .map(|number| sign_up(&stage, &rng, number, homes[number % homes.len()]))
            .buffered(AT_ONCE);
        let desks: Vec<Arc<Desk>> = accounts.collect().await;
        let mut tasks = JoinSet::new();
        for some in desks.chunks(AT_ONCE) {
            some.iter().for_each(|desk| drop(tasks.spawn(stay(desk.clone()))));
            some.iter().for_each(|desk| drop(tasks.spawn(watch(desk.clone(), watching))));
            eventually("hosts have come", PATIENCE, async || {
                some.iter().all(|desk| desk.is_believed_online()).then_some(())
            })
            .await;
        }
        Self { stage, desks, tasks }
    }

    /// Waits until the last notification of each guest is the expected status of its host.
    pub async fn believed(&self, within: Duration, online: impl Fn(usize) -> bool) {
        let is_right = |(at, desk): (usize, &Arc<Desk>)| desk.is_believed_online() == online(at);
        let asked = async || self.desks.iter().enumerate().all(is_right).then_some(());
        eventually("guests believe what is true", within, asked).await;
    }

    /// Asserts that new guests on a node are notified that all hosts are online.
    pub async fn all_are_online_for_who_asks(&self, node: usize) {
        let address = self.stage.nodes[node].address;
        let asked =
            futures_util::stream::iter(&self.desks).map(|desk| is_online(address, desk)).buffer_unordered(AT_ONCE);
        let online = asked.filter(|online| std::future::ready(*online)).count().await;
        assert_eq!(online, self.desks.len());
    }

    /// Prints the figures and stops the hosts, guests, nodes and stores.
    pub async fn finish(mut self, note: impl FnOnce(&Self, &mut crate::figures::Figures)) {
        let mut figures = crate::figures::Figures::default();
        note(&self, &mut figures);
        figures.show(&self.stage.case);
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        self.stage.strike().await;
    }
}

async fn is_online(address: SocketAddr, desk: &Desk) -> bool {
    let path = format!("/ws/status/{}/", desk.uuid);
    let Some(mut socket) = Socket::open(address, &path, Some(SHOP)).await else { return false };
    matches!(tokio::time::timeout(Duration::from_secs(5), socket.hear()).await, Ok(Heard::Frame(frame)) if frame["status"] == "online")
}

/// Creates a host with a token and without a usable password.
async fn sign_up(stage: &Stage, rng: &Rng, number: usize, home: SocketAddr) -> Arc<Desk> {
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
    let host = stage.store.hosts().create(new, now).await.expect("a host");
    let until = now + Duration::from_secs(3_600);
    stage.store.logins().create(&sid, host.id, "none", now, until).await.expect("a login");
    let keys = TokenKeys::new(&[JWT_SECRET]).expect("keys");
    let token = keys.access(host.id, &sid, hex(rng.bytes()), now).expect("a token");
    let path = format!("/ws/status/{uuid}/?token={token}");
    Arc::new(Desk { uuid, path, home: Arc::new(Mutex::new(Some(home))), told: Arc::default() })
}

/// Keeps a host's status socket open on its home node: reconnects whenever the socket is closed.
async fn stay(desk: Arc<Desk>) {
    loop {
        let home = *desk.home.lock();
        let Some(address) = home else { return };
        if let Some(mut socket) = Socket::open(address, &desk.path, None).await {
            while let Heard::Frame(_) = socket.hear().await {}
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Keeps a guest's status socket open and records its notifications.
async fn watch(desk: Arc<Desk>, address: SocketAddr) {
    let path = format!("/ws/status/{}/", desk.uuid);
    loop {
        if let Some(mut socket) = Socket::open(address, &path, Some(SHOP)).await {
            let asks = socket.send(HELLO).await;
            while let (true, Heard::Frame(frame)) = (asks, socket.hear().await) {
                note(&desk, &frame);
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

fn note(desk: &Desk, frame: &Value) {
    if let Some(status @ ("online" | "offline")) = frame["status"].as_str() {
        desk.told.lock().push((Instant::now(), status == "online"));
    }
}
