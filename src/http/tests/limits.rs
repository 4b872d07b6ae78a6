//! Tests of rate limits and `Retry-After` (SPEC 1, DESIGN "Limits").

use std::time::Duration;

use serde_json::json;

use super::JSON;
use crate::http::testing::{ADMIN, Answer, SHOP, TestServer};

const LOGIN: &str = "/api/auth/login/";

impl TestServer {
    async fn log_in(&self, from: &str, email: &str, password: &str) -> Answer {
        let body = json!({"email": email, "password": password}).to_string();
        self.send("POST", LOGIN, &[JSON, ("x-forwarded-for", from)], body).await
    }

    fn wait(&self, answer: &Answer) {
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (429, &json!(429)), "{answer:?}");
        let seconds = answer.header("retry-after").unwrap().parse().unwrap();
        assert!(seconds >= 1);
        self.clock.advance(Duration::from_secs(seconds));
    }
}

pub(super) async fn ten_wrong_passwords_a_minute_close_an_account_to_one_address_and_no_other(server: TestServer) {
    let mut answers = Vec::new();
    for email in ["dev@shop.example", "unknown@shop.example"] {
        let mut seen = Vec::new();
        for _ in 0..12 {
            let answer = server.log_in("192.0.2.1", email, "pass wort").await;
            seen.push((answer.status, answer.body.clone(), answer.header("retry-after").map(str::to_owned)));
        }
        server.clock.advance(Duration::from_secs(60));
        answers.push(seen);
    }
    assert_eq!(answers[0], answers[1], "an account that does not exist looks the same");
    assert_eq!(answers[0].iter().filter(|(status, ..)| *status == 401).count(), 10);
    assert_eq!(answers[0][10].2.as_deref(), Some("6"));
    assert_eq!(server.log_in("192.0.2.2", "dev@shop.example", "pass word").await.status, 200);
    for _ in 0..10 {
        assert_eq!(server.log_in("192.0.2.1", "dev@shop.example", "pass wort").await.status, 401);
    }
    let refused = server.log_in("192.0.2.1", "dev@shop.example", "pass word").await;
    server.wait(&refused);
    assert_eq!(server.log_in("192.0.2.1", "dev@shop.example", "pass word").await.status, 200);
}

pub(super) async fn a_hundred_failures_close_an_account_to_all_but_its_devices(server: TestServer) {
    let home = server.log_in("192.0.2.1", "dev@shop.example", "pass word").await;
    let cookie = home.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    server.another_host("other@shop.example").await;
    let other = server.log_in("192.0.2.1", "other@shop.example", "pass word").await;
    let others = other.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    for at in 0..100 {
        assert_eq!(server.log_in(&format!("198.51.100.{at}"), "dev@shop.example", "pass wort").await.status, 401);
    }
    let with = async |from: &str, cookie: &str| {
        let body = json!({"email": "dev@shop.example", "password": "pass word"}).to_string();
        server.send("POST", LOGIN, &[JSON, ("x-forwarded-for", from), ("cookie", cookie)], body).await
    };
    let forged = format!("{}x", &cookie[..cookie.len() - 1]);
    let access = format!("__Host-pintalk_refresh_token={}", home.json()["accessToken"].as_str().unwrap());
    for no_device in ["", "__Host-pintalk_refresh_token=x.y.z", &forged, &access, &others] {
        let refused = with("192.0.2.1", no_device).await;
        assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, Some("36")), "{no_device}");
    }
    assert_eq!(with("203.0.113.1", &cookie).await.status, 200, "from wherever");
    // A refresh token of a revoked login still proves that the device was logged in.
    let sid = server.app.accounts.authenticate(home.json()["accessToken"].as_str().unwrap()).await.unwrap().sid;
    server.app.accounts.logout(&sid).await.unwrap();
    assert_eq!(with("203.0.113.1", &cookie).await.status, 200);
    let refused = with("192.0.2.1", "").await;
    server.wait(&refused);
    assert_eq!(with("192.0.2.1", "").await.status, 200);
}

pub(super) async fn failures_from_other_addresses_do_not_block_a_logged_in_password_change(server: TestServer) {
    let bearer = server.bearer().await;
    for at in 0..100 {
        assert_eq!(server.log_in(&format!("198.51.100.{at}"), "dev@shop.example", "pass wort").await.status, 401);
    }
    let change = async |current: &str, new: &str| {
        let body = json!({"currentPassword": current, "newPassword": new}).to_string();
        let headers = [JSON, ("authorization", bearer.as_str())];
        server.send("POST", "/api/auth/password-change/", &headers, body).await
    };
    for _ in 0..10 {
        assert_eq!(change("pass wort", "new pass word").await.status, 401);
    }
    let refused = change("pass word", "new pass word").await;
    server.wait(&refused);
    assert_eq!(change("pass word", "new pass word").await.status, 200);
    let leave = json!({"password": "pass word"}).to_string();
    let headers = [JSON, ("authorization", bearer.as_str())];
    server.clock.advance(Duration::from_secs(600));
    for _ in 0..10 {
        assert_eq!(server.send("POST", "/api/auth/leave/", &headers, &leave).await.status, 401);
    }
    assert_eq!(server.send("POST", "/api/auth/leave/", &headers, &leave).await.status, 429);
}

pub(super) async fn password_resets_block_no_login(server: TestServer) {
    let reset = async |call: &str, from: &str| {
        let headers = [JSON, ("x-forwarded-for", from)];
        let body = json!({"email": "dev@shop.example"}).to_string();
        server.send("POST", &format!("/api/auth/{call}/"), &headers, body).await
    };
    for at in 0..30 {
        let call = if at % 2 == 0 { "password-reset" } else { "restore" };
        assert_eq!(reset(call, &format!("198.51.100.{at}")).await.status, 200);
    }
    assert_eq!(reset("password-reset", "192.0.2.1").await.status, 200);
    assert_eq!(server.log_in("192.0.2.1", "dev@shop.example", "pass word").await.status, 200);
    // Requests for temporary passwords are limited per address.
    for _ in 0..4 {
        assert_eq!(reset("restore", "192.0.2.1").await.status, 200);
    }
    for call in ["password-reset", "restore"] {
        assert_eq!(reset(call, "192.0.2.1").await.header("retry-after"), Some("720"));
    }
}

pub(super) async fn unauthenticated_calls_that_query_sql_are_counted_by_address(server: TestServer) {
    let from = ("x-forwarded-for", "192.0.2.1");
    let [access, secret] = server.keys();
    // After this call, the keys are in the cache of the node.
    assert_eq!(server.ask("GET", "/api/users/client/", &[access, secret]).await.status, 200);
    let unknown = |at: usize| format!("{at:022}");
    for at in 0..60 {
        let key = unknown(at);
        let headers = [("x-pintalk-access-key", key.as_str()), secret, from];
        let path = if at % 2 == 0 { "/api/users/client/" } else { "/api/chat/" };
        let method = if at % 2 == 0 { "GET" } else { "POST" };
        assert_eq!(server.ask(method, path, &headers).await.status, 401);
    }
    for wrong in [[access, ("x-pintalk-secret-key", "x"), from], [("x-pintalk-access-key", &unknown(60)), secret, from]]
    {
        let refused = server.ask("GET", "/api/users/client/", &wrong).await;
        assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, Some("1")));
    }
    assert_eq!(server.ask("GET", "/api/users/client/", &[access, secret, from]).await.status, 200);

    for (path, body) in [
        ("check-email", json!({"email": "free@shop.example"})),
        ("email-confirmation", json!({"verificationCode": "123456"})),
        ("signup", json!({"email": "free@shop.example", "password": "pass word", "serviceName": "Shop"})),
    ] {
        let path = format!("/api/auth/{path}/");
        let mut passed = 0;
        let refused = loop {
            let answer = server.send("POST", &path, &[JSON, from], body.to_string()).await;
            if answer.status == 429 {
                break answer;
            }
            passed += 1;
            assert!(passed <= 60, "{path}");
        };
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_ne!(
            server.send("POST", &path, &[JSON, ("x-forwarded-for", "192.0.2.2")], body.to_string()).await.status,
            429
        );
        server.clock.advance(Duration::from_secs(60));
    }
    let path = format!("/media/{}.png", unknown(0));
    for _ in 0..600 {
        assert_eq!(server.ask("GET", &path, &[from]).await.status, 404);
    }
    assert_eq!(server.ask("GET", &path, &[from]).await.status, 429);
}

pub(super) async fn new_keys_do_not_fill_a_hosts_buckets(server: TestServer) {
    let mut made = 0;
    for at in 0..20 {
        for _ in 0..60 {
            made += usize::from(server.app.limits.room_of(server.host.id, [198, 51, 100, at].into()).await.is_ok());
        }
    }
    assert_eq!(made, 600);
    let rotated = server.app.accounts.rotate_keys(server.host.id, true).await.unwrap().unwrap();
    let keys = [
        ("x-pintalk-access-key", rotated.access_key.as_str()),
        ("x-pintalk-secret-key", rotated.secret_key.as_str()),
        ("x-forwarded-for", "203.0.113.1"),
    ];
    assert_eq!(server.ask("POST", "/api/chat/", &keys).await.status, 429);
    let [access, secret, from] = keys;
    assert_eq!(server.ask("POST", "/api/chat/", &[access, secret, from, ("origin", SHOP)]).await.status, 201);
}

pub(super) async fn address_has_twenty_login_attempts_per_minute_and_then_its_body_is_not_read(server: TestServer) {
    for at in 0..20 {
        let email = format!("{at}@shop.example");
        assert_eq!(server.log_in("2001:db8::1", &email, "pass word").await.status, 401);
    }
    let unreadable = [JSON, ("x-forwarded-for", "2001:db8::2"), ("origin", ADMIN)];
    let refused = server.send("POST", LOGIN, &unreadable, "{").await;
    assert_eq!(refused.header("retry-after"), Some("3"));
    assert_eq!(refused.header("access-control-allow-origin"), Some(ADMIN));
    assert!(refused.header("access-control-expose-headers").unwrap().contains("retry-after"));
    assert_eq!(server.log_in("2001:db8:0:1::1", "dev@shop.example", "pass word").await.status, 200);
    server.wait(&refused);
    assert_eq!(server.send("POST", LOGIN, &unreadable, "{").await.status, 400);
}

pub(super) async fn page_and_server_create_sixty_rooms_per_minute_and_address(server: TestServer) {
    let [access, secret] = server.keys();
    let page = |from: &'static str| [access, secret, ("origin", SHOP), ("x-forwarded-for", from)];
    let from_server = |from: &'static str| [access, secret, ("x-forwarded-for", from)];
    for _ in 0..60 {
        assert_eq!(server.ask("POST", "/api/chat/", &page("192.0.2.1")).await.status, 201);
    }
    let refused = server.ask("POST", "/api/chat/", &page("192.0.2.1")).await;
    assert_eq!(refused.header("access-control-allow-origin"), Some(SHOP));
    assert_eq!(
        server.ask("POST", "/api/chat/", &from_server("192.0.2.1")).await.status,
        429,
        "without Origin it is the same"
    );
    assert_eq!(server.ask("POST", "/api/chat/", &page("192.0.2.2")).await.status, 201);
    // A visitor who omits `Origin` reaches the limit of the client address before the limit of the host.
    for _ in 0..60 {
        assert_eq!(server.ask("POST", "/api/chat/", &from_server("192.0.2.3")).await.status, 201);
    }
    assert_eq!(server.ask("POST", "/api/chat/", &from_server("192.0.2.3")).await.status, 429);
    assert_eq!(server.ask("POST", "/api/chat/", &from_server("192.0.2.4")).await.status, 201);
    server.wait(&refused);
    assert_eq!(server.ask("POST", "/api/chat/", &page("192.0.2.1")).await.status, 201);
    assert_eq!(server.ask("POST", "/api/chat/", &from_server("192.0.2.3")).await.status, 201);
}

pub(super) async fn rejected_room_creation_consumes_no_limit(server: TestServer) {
    let [access, secret] = server.keys();
    for at in 0..61 {
        let from = format!("192.0.2.{at}");
        let from = ("x-forwarded-for", from.as_str());
        assert_eq!(server.ask("POST", "/api/chat/", &[access, ("x-pintalk-secret-key", "x"), from]).await.status, 401);
        let evil = [access, secret, ("origin", "https://evil.example")];
        assert_eq!(server.ask("POST", "/api/chat/", &evil).await.status, 403);
    }
    assert_eq!(server.ask("POST", "/api/chat/", &[access, secret]).await.status, 201);
    assert_eq!(server.ask("POST", "/api/chat/", &[access, secret, ("origin", SHOP)]).await.status, 201);
}
