//! A server without a network: one host in a database of his own, and requests that are handed to the filter.

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::StatusCode;
use http_body_util::{BodyExt as _, Full};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;

use super::*;
use crate::accounts::NewAccount;
use crate::accounts::tokens::TokenKeys;
use crate::broker::Broker;
use crate::broker::embedded::EmbeddedBroker;
use crate::clock::{Chance, SystemClock};
use crate::control::Control;
use crate::domain::Host;
use crate::history::History;
use crate::store::Dialect;
use crate::store::testing::on_fresh;

pub(super) const ADMIN: &str = "https://admin.example";
pub(super) const SHOP: &str = "https://shop.example";

const PAGES: [Page; 2] = [
    ("/widget.js", "text/javascript; charset=utf-8", Bytes::from_static(b"// hello")),
    ("/console/", "text/html; charset=utf-8", Bytes::from_static(b"<!doctype html>")),
];

/// A server and its one host: dev@shop.example, "pass word", of shop.example.
#[derive(Clone)]
pub(super) struct World {
    pub(super) app: Arc<HttpContext>,
    pub(super) host: Host,
    pub(super) announced: Arc<Mutex<Vec<Control>>>,
}

/// An answer, read.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

struct Well;

impl Health for Well {
    fn readiness(&self) -> Readiness {
        Readiness::NotReady { reason: "draining".into(), degraded: true }
    }
}

/// Tells the path and address that it was given.
struct Echo;

impl Upgrades for Echo {
    fn upgrade(&self, request: UpgradeRequest) -> BoxFuture<'static, Response> {
        let told = format!("{}?{} {}", request.path, request.query, request.peer);
        Box::pin(async move { text(StatusCode::IM_A_TEAPOT, "text/plain", told.into()) })
    }
}

pub(super) async fn with_a_server<F>(test: impl FnOnce(World) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    on_fresh(Dialect::Sqlite, move |store, _| async move { test(world(store).await).await }).await;
}

async fn world(store: Store) -> World {
    let announced = Arc::new(Mutex::new(Vec::new()));
    let heard = announced.clone();
    let announce: Announce = Arc::new(move |control| {
        heard.lock().unwrap().push(control);
        Box::pin(std::future::ready(()))
    });
    let keys = TokenKeys::new(&["a secret of thirty-two characters"]).unwrap();
    let accounts = Accounts::new(store.clone(), Arc::new(SystemClock), Chance::from_seed(1), keys, announce.clone());
    let account = NewAccount {
        email: "dev@shop.example".into(),
        password: "pass word".into(),
        service_name: "Shop".into(),
        service_expl: "Shoes".into(),
        service_domain: Some("shop.example".into()),
    };
    let host = accounts.create_host(account).await.unwrap();
    let broker: Arc<dyn Broker> = Arc::new(EmbeddedBroker::new(store.clone(), Arc::new(SystemClock)));
    let history = History::new(broker.clone(), store.clone());
    let korea = "+09:00".parse().unwrap();
    let rooms = Rooms::new(store.clone(), broker, history, Arc::new(SystemClock), Chance::from_seed(2), korea);
    let app = HttpContext {
        accounts,
        hosts: Hosts::new(store.clone()),
        rooms,
        store,
        health: Arc::new(Well),
        metrics: Arc::new(|| "pintalk_up 1\n".into()),
        upgrades: Arc::new(Echo),
        announce,
        pages: Pages::new(PAGES),
        settings: Settings {
            public_url: "https://chat.example".into(),
            admin_origins: vec![ADMIN.into()],
            is_trusted_proxy: Arc::new(|address| address.is_loopback()),
            ..Settings::default()
        },
    };
    World { app: Arc::new(app), host, announced }
}

impl World {
    /// Sends a request without a body.
    pub(super) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(method, path, headers, "").await
    }

    /// Sends a request from this machine.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Answer {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, value.as_bytes());
        }
        let body = Full::new(Bytes::copy_from_slice(body.as_ref()));
        let request = request.extension(Peer("127.0.0.1:5000".parse().unwrap())).body(body).unwrap();
        let service = TowerToHyperService::new(warp::service(filter(self.app.clone())));
        let (parts, body) = service.call(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// The headers of a guest-side call without a browser.
    pub(super) fn keys(&self) -> [(&str, &str); 2] {
        [
            ("x-pintalk-access-key", self.host.access_key.as_str()),
            ("x-pintalk-secret-key", self.host.secret_key.as_str()),
        ]
    }

    /// The header of a fresh access token.
    pub(super) async fn bearer(&self) -> String {
        let login = self.app.accounts.login("dev@shop.example", "pass word").await.unwrap();
        format!("Bearer {}", login.tokens.access)
    }
}
