//! Tests that requests over a limit are rejected with a correct `Retry-After` (SPEC 1, DESIGN "Limits").

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::support::{Client, Host, Node, Room, SHOP, TestApp, people};
use crate::with_topology;

/// Flags with which a node trusts this test as a proxy and reads the client's address from a header.
const PROXY: [&str; 2] = ["--trusted-proxies", "127.0.0.1"];

const FORWARDED: &str = "X-Forwarded-For";

/// Time in which a limit of two per minute refills one token. A test must send its third request within this time to
/// have it rejected.
const HALF_A_MINUTE: Duration = Duration::from_secs(30);

async fn send(request: RequestBuilder) -> Response {
    request.send().await.expect("an answer")
}

async fn log_in(app: &TestApp, node: &Node, from: &str, email: &str) -> Response {
    let body = json!({"email": email, "password": people::PASSWORD});
    send(app.http.post(node.url("/api/auth/login/")).header(FORWARDED, from).json(&body)).await
}

/// Creates a room. The request comes from the given page of the shop, or from the shop's server if `page` is `None`.
async fn open_room(app: &TestApp, node: &Node, host: &Host, from: &str, page: Option<&str>) -> Response {
    let request = app.http.post(node.url("/api/chat/")).header(FORWARDED, from);
    let request = request.header("X-PinTalk-Access-Key", &host.account.access_key);
    let request = request.header("X-PinTalk-Secret-Key", &host.account.secret_key);
    send(page.into_iter().fold(request, |request, page| request.header("Origin", page))).await
}

/// Sends a handshake and returns the response. Its status is 101 if the node accepts the handshake.
async fn handshake(app: &TestApp, node: &Node, room: &Room, from: &str) -> Response {
    let request = format!("ws://{}/", node.address).into_client_request().expect("a request");
    let request = app.http.get(node.url(&format!("/ws/chat/{}/", room.name))).headers(request.headers().clone());
    send(request.header("Origin", SHOP).header(FORWARDED, from)).await
}

/// Asserts that the response has status 429, and returns the duration in its `Retry-After`.
async fn refused(answer: Response) -> Duration {
    assert_eq!(answer.status(), 429);
    let seconds = answer.headers()["retry-after"].to_str().ok().and_then(|text| text.parse().ok()).expect("seconds");
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["code"], 429);
    assert!(seconds >= 1);
    Duration::from_secs(seconds)
}

with_topology! {
    #[embedded]
    #[clusters]
    async fn logins_of_an_address_are_counted_across_nodes(topology) {
        let flags = ["--limit-logins-per-address", "2"];
        let app = TestApp::start_with(topology, &[&PROXY[..], &flags].concat()).await;
        let (a, b) = app.two();
        for (node, email) in [(a, "one@shop.example"), (b, "two@shop.example")] {
            assert_eq!(log_in(&app, node, "192.0.2.1", email).await.status(), 401);
        }
        for node in [a, b] {
            let wait = refused(log_in(&app, node, "192.0.2.1", "three@shop.example").await).await;
            assert!(wait <= HALF_A_MINUTE, "{wait:?}");
        }
        // The limit per address does not affect another address.
        assert_eq!(log_in(&app, b, "192.0.2.2", "three@shop.example").await.status(), 401);
        app.stop().await;
    }
}

with_topology! {
    #[embedded]
    #[clusters]
    async fn wrong_passwords_are_counted_across_nodes_per_account_and_address_and_per_account(topology) {
        let flags = ["--limit-logins-per-account", "2", "--limit-login-failures-per-hour", "8"];
        let app = TestApp::start_with(topology, &[&PROXY[..], &flags].concat()).await;
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let wrong = async |node: &Node, from: &str, email: &str, cookie: &str| {
            let body = json!({"email": email, "password": "another"});
            let request = app.http.post(node.url("/api/auth/login/")).header(FORWARDED, from).header("Cookie", cookie);
            send(request.json(&body)).await
        };
        let right = async |node: &Node, from: &str, cookie: &str| {
            let body = json!({"email": host.account.email, "password": people::PASSWORD});
            let request = app.http.post(node.url("/api/auth/login/")).header(FORWARDED, from).header("Cookie", cookie);
            send(request.json(&body)).await
        };
        for email in [&*host.account.email, "nobody@shop.example"] {
            for node in [a, b] {
                assert_eq!(wrong(node, "192.0.2.1", email, "").await.status(), 401);
            }
            for node in [a, b] {
                let wait = refused(wrong(node, "192.0.2.1", email, "").await).await;
                assert!(wait <= HALF_A_MINUTE, "{wait:?}");
            }
        }
        // Other addresses are not blocked. A successful login makes its client a known device.
        let home = right(b, "192.0.2.2", "").await;
        assert_eq!(home.status(), 200);
        let cookie = home.headers()["set-cookie"].to_str().expect("text").split(';').next().expect("a pair").to_owned();
        for at in 0..6 {
            let node = if at % 2 == 0 { a } else { b };
            assert_eq!(wrong(node, &format!("198.51.100.{at}"), &host.account.email, "").await.status(), 401);
        }
        for node in [a, b] {
            refused(right(node, "192.0.2.3", "").await).await;
            assert_eq!(right(node, "192.0.2.3", &cookie).await.status(), 200);
        }
        app.stop().await;
    }
}

with_topology! {
    #[embedded]
    async fn flood_of_logins_does_not_delay_a_valid_one(topology) {
        let app = TestApp::start_with(topology, &[&PROXY[..], &["--limits", "off"]].concat()).await;
        let (node, _) = app.two();
        let host = app.host("host@shop.example").await;
        let (is_over, is_full) = (AtomicBool::new(false), tokio::sync::Notify::new());
        let flood = futures_util::future::join_all((0..80).map(|at| {
            let (app, is_over, is_full) = (&app, &is_over, &is_full);
            async move {
                while !is_over.load(Relaxed) {
                    let email = format!("{at}@shop.example");
                    let answer = log_in(app, node, &format!("198.51.100.{}", at % 10), &email).await;
                    if answer.status() == 503 {
                        assert!(answer.headers().contains_key("retry-after"));
                        is_full.notify_one();
                    } else {
                        assert_eq!(answer.status(), 401);
                    }
                }
            }
        }));
        let valid = async {
            is_full.notified().await;
            let began = std::time::Instant::now();
            let answer = log_in(&app, node, "192.0.2.1", &host.account.email).await;
            is_over.store(true, Relaxed);
            (answer.status(), began.elapsed())
        };
        let ((status, took), _) = futures_util::future::join(valid, flood).await;
        assert_eq!(status, 200);
        assert!(took < Duration::from_secs(2), "{took:?}");
        app.stop().await;
    }
}

with_topology! {
    #[embedded]
    #[clusters]
    async fn new_rooms_are_limited_per_address_and_without_an_origin_per_host_too(topology) {
        let flags = ["--limit-rooms-per-minute", "2"];
        let app = TestApp::start_with(topology, &[&PROXY[..], &flags].concat()).await;
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        for node in [a, b] {
            assert_eq!(open_room(&app, node, &host, "2001:db8::1", Some(SHOP)).await.status(), 201);
            assert_eq!(open_room(&app, node, &host, "192.0.2.1", None).await.status(), 201);
        }
        for node in [a, b] {
            // Addresses in the same /64 network share one limit.
            refused(open_room(&app, node, &host, "2001:db8::2", Some(SHOP)).await).await;
            refused(open_room(&app, node, &host, "192.0.2.1", None).await).await;
        }
        assert_eq!(open_room(&app, a, &host, "2001:db8:0:1::1", Some(SHOP)).await.status(), 201);
        // The limit per host is ten times the limit per address. The requests above have used two of these tokens.
        let mut made = 2;
        for at in 2..20 {
            let from = format!("192.0.2.{at}");
            for node in [a, b] {
                made += usize::from(open_room(&app, node, &host, &from, None).await.status() == 201);
            }
        }
        assert_eq!(made, 20);
        assert_eq!(open_room(&app, b, &host, "192.0.2.99", Some(SHOP)).await.status(), 201);
        app.stop().await;
    }
}

with_topology! {
    #[embedded]
    #[clusters]
    async fn client_that_waits_for_retry_after_is_admitted(topology) {
        let app = TestApp::start_with(topology, &["--limit-rooms-per-minute", "20"]).await;
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let mut made = 0;
        let wait = loop {
            let answer = open_room(&app, if made % 2 == 0 { a } else { b }, &host, "", Some(SHOP)).await;
            if answer.status() != 201 {
                break refused(answer).await;
            }
            made += 1;
        };
        assert!(made >= 20 && wait <= Duration::from_secs(3), "{made} rooms, {wait:?}");
        // The wait is in real time, because Redis uses its own clock.
        tokio::time::sleep(wait).await;
        assert_eq!(open_room(&app, b, &host, "", Some(SHOP)).await.status(), 201);
        app.stop().await;
    }
}

with_topology! {
    #[embedded]
    #[clusters]
    async fn each_node_rejects_handshakes_above_its_limit_with_429(topology) {
        let flags = ["--limit-handshakes-per-minute", "2"];
        let app = TestApp::start_with(topology, &[&PROXY[..], &flags].concat()).await;
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(&app, a, &host).await;
        // Only handshakes are counted. These requests are not handshakes.
        let path = format!("/ws/chat/{}/", room.name);
        for _ in 0..5 {
            assert_eq!(send(app.http.get(a.url(&path)).header(FORWARDED, "192.0.2.1")).await.status(), 400);
        }
        let mut sockets = Vec::new();
        for _ in 0..2 {
            assert_eq!(handshake(&app, a, &room, "192.0.2.1").await.status(), 101);
            sockets.push(room.join(a).await);
        }
        let wait = refused(handshake(&app, a, &room, "192.0.2.1").await).await;
        assert!(wait <= HALF_A_MINUTE, "{wait:?}");
        let metrics = send(app.http.get(a.url("/metrics"))).await.text().await.expect("text");
        assert!(metrics.contains("pintalk_limited_total{kind=\"handshake\"} 1\n"), "{metrics}");
        // The limit for the test's own address has also been reached. Sockets that are open are not affected.
        refused(handshake(&app, a, &room, "127.0.0.1").await).await;
        sockets[0].send_text("still here").await;
        assert_eq!(handshake(&app, a, &room, "192.0.2.2").await.status(), 101);
        if app.nodes.len() > 1 {
            assert_eq!(handshake(&app, b, &room, "192.0.2.1").await.status(), 101);
        }
        drop(sockets);
        app.stop().await;
    }
}

with_topology! {
    #[embedded]
    #[clusters]
    async fn forwarded_address_of_an_untrusted_proxy_is_ignored(topology) {
        let flags = ["--limit-logins-per-address=2", "--limit-rooms-per-minute=2", "--limit-handshakes-per-minute=2"];
        let app = TestApp::start_with(topology, &flags).await;
        let (a, _) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(&app, a, &host).await;
        let (mut logins, mut rooms, mut handshakes) = (1, 1, 0);
        for at in 0..10 {
            let from = format!("192.0.2.{at}");
            logins += usize::from(log_in(&app, a, &from, &format!("{at}@shop.example")).await.status() == 401);
            rooms += usize::from(open_room(&app, a, &host, &from, Some(SHOP)).await.status() == 201);
            handshakes += usize::from(handshake(&app, a, &room, &from).await.status() == 101);
        }
        assert_eq!((logins, rooms, handshakes), (2, 2, 2));
        app.stop().await;
    }
}

with_topology! {
    #[embedded]
    #[clusters]
    async fn disabled_limits_reject_nothing(topology) {
        let single = ["--limit-logins-per-address=off", "--limit-logins-per-account=off", "--limit-rooms-per-minute=off",
            "--limit-handshakes-per-minute=off"];
        let low = ["--limits=off", "--limit-logins-per-address=1", "--limit-logins-per-account=1",
            "--limit-rooms-per-minute=1", "--limit-handshakes-per-minute=1"];
        for flags in [&single[..], &low[..]] {
            let app = TestApp::start_with(topology, flags).await;
            let (a, b) = app.two();
            let host = app.host("host@shop.example").await;
            for node in [a, b].repeat(11) {
                assert_eq!(log_in(&app, node, "", "host@shop.example").await.status(), 200);
            }
            let mut last = None;
            for node in [a, b].repeat(31) {
                last = Some(Room::open(&app, node, &host).await);
            }
            let path = format!("/ws/chat/{}/", last.expect("a room").name);
            for _ in 0..10 {
                assert!(Client::open(b, &path, Some(SHOP)).await.is_admitted().await);
            }
            app.stop().await;
        }
    }
}

with_topology! {
    #[clusters]
    async fn keys_of_a_flood_from_forged_addresses_expire_in_redis(topology) {
        let app = TestApp::start_with(topology, &PROXY).await;
        let (a, b) = app.two();
        let flood = (0..200).map(|at| {
            let (app, from) = (&app, format!("198.51.100.{at}"));
            let node = if at % 2 == 0 { a } else { b };
            // The request contains no account, so only the limit per address applies.
            async move { send(app.http.post(node.url("/api/auth/login/")).header(FORWARDED, from)).await }
        });
        for answer in futures_util::future::join_all(flood).await {
            assert_eq!(answer.status(), 400);
        }
        let kept = app.redis.as_ref().expect("a Redis").spans_kept(":limit:").await;
        assert!(kept.iter().all(|span| (1..=60_000).contains(span)), "{kept:?}");
        app.stop().await;
    }
}
