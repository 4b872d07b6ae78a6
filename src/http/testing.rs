//! Test server without a network. Each server has its own database with one host, and requests are passed directly to
//! the filter.

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::StatusCode;
use http_body_util::{BodyExt as _, Full};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;

use super::pre_routing::PreRouting;
use super::*;
use crate::accounts::limits::Quotas;
use crate::accounts::metrics::LoginMetrics;
use crate::accounts::profile_images::ProfileImages;
use crate::accounts::tokens::TokenKeys;
use crate::accounts::{NewAccount, PublishControl};
use crate::backend::Backend;
use crate::backend::embedded::throttle::MemoryThrottle;
use crate::backend::throttle::Quota;
use crate::chat::history::History;
use crate::domain::Control;
use crate::domain::Host;
use crate::domain::Rng;
use crate::domain::clock::{Clock, ManualClock, SystemClock};
use crate::outbound::contacts::{Contacts, MailLinks};
use crate::outbound::mail::MailWaker;
use crate::outbound::media::{Media, MediaLocation};
use crate::outbound::webhooks::{EventSender, IsAllowed};
use crate::store::testing::on_fresh;
use crate::store::{Dialect, Store};

pub(super) const ADMIN: &str = "https://admin.example";
pub(super) const SHOP: &str = "https://shop.example";

fn pages() -> [Page; 3] {
    [
        Page::new("/demo/config.json", "application/json", Bytes::from_static(b"{}")).same_origin_only(),
        Page::new("/widget.js", SCRIPT, Bytes::from_static(b"// hello")),
        Page::new("/console/", HTML, Bytes::from_static(b"<!doctype html>")),
    ]
}

pub(super) const JSON: (&str, &str) = ("content-type", "application/json");

/// Defines tests that each have their own server.
macro_rules! on_a_server {
    ($($name:ident)*) => {
        on_a_server!(sentences: $($name)*);
    };
    ($module:ident: $($name:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            crate::http::testing::with_a_server($module::$name).await;
        })*
    };
}
pub(super) use on_a_server;

/// Server with one host. The host has the e-mail address dev@shop.example, the password "pass word" and the domain
/// shop.example.
#[derive(Clone)]
pub(super) struct TestServer {
    pub(super) app: Arc<HttpContext>,
    pub(super) store: Store,
    pub(super) host: Host,
    pub(super) published: Arc<Mutex<Vec<Control>>>,
    /// Clock that the rate limits use.
    pub(super) clock: Arc<ManualClock>,
    media: Arc<tempfile::TempDir>,
}

/// Response whose body has been read.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
    pub(super) bytes: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

struct FakeHealth;

impl Health for FakeHealth {
    fn readiness(&self) -> Readiness {
        Readiness::NotReady { reason: "draining".into(), degraded: true }
    }

    fn has_stores(&self) -> bool {
        true
    }

    fn is_started(&self) -> bool {
        true
    }
}

/// Handler that responds with the path, the query and the client address of a socket request.
struct EchoUpgrades;

impl Upgrades for EchoUpgrades {
    fn upgrade(&self, request: UpgradeRequest) -> BoxFuture<'static, Response> {
        let echo = format!("{}?{} {}", request.path, request.query, request.peer);
        Box::pin(async move { text(StatusCode::IM_A_TEAPOT, "text/plain", echo.into()) })
    }
}

pub(super) async fn with_a_server<F>(test: impl FnOnce(TestServer) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    on_fresh(Dialect::Sqlite, move |store, _| async move { test(server(store).await).await }).await;
}

async fn server(store: Store) -> TestServer {
    let published = Arc::new(Mutex::new(Vec::new()));
    let sink = published.clone();
    let publish: PublishControl = Arc::new(move |control| {
        sink.lock().unwrap().push(control);
        Box::pin(std::future::ready(()))
    });
    let keys = TokenKeys::new(&["a secret of thirty-two characters"]).unwrap();
    let accounts = Accounts::new(store.clone(), Arc::new(SystemClock), Rng::from_seed(1), keys, publish);
    let account = NewAccount {
        email: "dev@shop.example".into(),
        password: "pass word".into(),
        service_name: "Shop".into(),
        service_expl: "Shoes".into(),
        service_domain: Some("shop.example".into()),
    };
    let host = accounts.create_host(account).await.unwrap();
    let backend = Backend::embedded(store.clone(), Arc::new(SystemClock));
    let history = History::new(&backend, store.clone());
    let korea = "+09:00".parse().unwrap();
    let rooms = Rooms::new(store.clone(), &backend, history, Arc::new(SystemClock), Rng::from_seed(2), korea);
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let media = Arc::new(tempfile::tempdir().unwrap());
    let images = ProfileImages::new(
        Media::open(&MediaLocation::Folder(media.path().to_owned())).unwrap(),
        store.clone(),
        Arc::new(SystemClock),
        Rng::from_seed(3),
    );
    let clock_of_webhooks: Arc<dyn Clock> = clock.clone();
    let loopback: IsAllowed = Arc::new(|address| address.is_loopback());
    let sender = EventSender::new(Some(loopback), clock_of_webhooks).unwrap();
    let links = MailLinks::new("https://chat.example", [b"a secret".to_vec()]);
    let app = HttpContext {
        profiles: Profiles::new(accounts.clone(), images),
        accounts,
        rooms,
        contacts: Contacts::new(store.clone(), Arc::new(SystemClock), links, MailWaker::default()),
        webhooks: Webhooks::new(store.clone(), sender, Rng::from_seed(4)),
        limits: Arc::new(Limits::new(quotas(), Arc::new(MemoryThrottle::new(clock.clone())), clock.clone())),
        health: Arc::new(FakeHealth),
        metrics: Arc::new(|| "pintalk_up 1\n".into()),
        http_metrics: HttpMetrics::default(),
        login_metrics: LoginMetrics::default(),
        upgrades: Arc::new(EchoUpgrades),
        pages: Pages::new(pages()),
        settings: HttpSettings {
            public_url: "https://chat.example".into(),
            admin_origins: vec![ADMIN.into()],
            is_trusted_proxy: Arc::new(|address| address.is_loopback()),
            ..HttpSettings::default()
        },
    };
    TestServer { app: Arc::new(app), store, host, published, clock, media }
}

/// Returns the quotas of the default configuration.
fn quotas() -> Quotas {
    let a_minute = |count| Some(Quota::new(count, Duration::from_secs(60)));
    let an_hour = |count| Some(Quota::new(count, Duration::from_secs(3_600)));
    Quotas {
        handshakes: a_minute(600),
        rooms: a_minute(60),
        rooms_per_host: a_minute(600),
        logins_per_address: a_minute(20),
        login_failures_per_pair: a_minute(10),
        login_failures_per_pair_hour: an_hour(50),
        login_failures_per_account: an_hour(100),
        mails: an_hour(5),
        mails_per_mailbox: an_hour(10),
        webhook_tests: a_minute(10),
        unknown_keys: a_minute(60),
        sign_ups: a_minute(60),
        images: a_minute(600),
        host_bytes: None,
    }
}

impl TestServer {
    /// Sends a request without a body.
    pub(super) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(method, path, headers, "").await
    }

    /// Sends a request from the loopback address.
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
        let mut request = request.extension(Peer("127.0.0.1:5000".parse().unwrap())).body(body).unwrap();
        PreRouting::new(self.app.clone()).strip_prefix(&mut request);
        let routed = request.uri().path().to_owned();
        let service = TowerToHyperService::new(warp::service(filter(self.app.clone())));
        let (parts, body) = service.call(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&bytes).into_owned();
        let answer = Answer { status: parts.status, headers: parts.headers, body, bytes };
        docs::testing::check(method, &routed, &answer);
        answer
    }

    /// Creates another host with the password "pass word".
    pub(super) async fn another_host(&self, email: &str) -> Host {
        let account = NewAccount {
            email: email.into(),
            password: "pass word".into(),
            service_name: "Other".into(),
            service_expl: String::new(),
            service_domain: None,
        };
        self.app.accounts.create_host(account).await.unwrap()
    }

    /// Sends a form to the account of the host with the host's access token.
    pub(super) async fn patch_form(&self, parts: &[Part<'_>]) -> Answer {
        let bearer = self.bearer().await;
        let headers = [("content-type", FORM_TYPE), ("authorization", bearer.as_str())];
        self.send("PATCH", &format!("/api/users/{}/", self.host.id.0), &headers, form(parts)).await
    }

    pub(super) fn kept_images(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.media.path()).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Returns the headers of a guest-side call that does not come from a browser.
    pub(super) fn keys(&self) -> [(&str, &str); 2] {
        [
            ("x-pintalk-access-key", self.host.access_key.as_str()),
            ("x-pintalk-secret-key", self.host.secret_key.as_str()),
        ]
    }

    /// Logs the host in and returns the value of `Authorization` with the access token.
    pub(super) async fn bearer(&self) -> String {
        let login = self.app.accounts.login("dev@shop.example", "pass word").await.unwrap();
        format!("Bearer {}", login.tokens.access)
    }
}

/// Part of a form: name, file name with claimed content type (`None` for a text field), and content.
pub(super) type Part<'a> = (&'a str, Option<(&'a str, &'a str)>, &'a [u8]);

/// Content type of [`form`].
pub(super) const FORM_TYPE: &str = "multipart/form-data; boundary=----pintalk";

/// Encodes a form as a browser does.
pub(super) fn form(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, bytes) in parts {
        body.extend_from_slice(format!("------pintalk\r\nContent-Disposition: form-data; name=\"{name}\"").as_bytes());
        if let Some((file, content_type)) = file {
            body.extend_from_slice(format!("; filename=\"{file}\"\r\nContent-Type: {content_type}").as_bytes());
        }
        body.extend_from_slice(b"\r\n\r\n");
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"------pintalk--\r\n");
    body
}
