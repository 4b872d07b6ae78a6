//! What is too much, and when to come back (SPEC 1, DESIGN "Limits").

use std::time::Duration;

use serde_json::json;

use super::JSON;
use crate::http::testing::{ADMIN, Answer, SHOP, World};

const LOGIN: &str = "/api/auth/login/";

impl World {
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

pub(super) async fn an_account_is_tried_ten_times_a_minute_whether_it_exists_or_not(world: World) {
    for email in ["dev@shop.example", "nobody@shop.example"] {
        for at in 0..10 {
            // Whatever comes of it, and from wherever.
            let answer = world.log_in(&format!("192.0.2.{at}"), email, "pass wort").await;
            assert_eq!(answer.status, 401);
        }
        let right = world.log_in("192.0.2.10", email, "pass word").await;
        assert_eq!(right.header("retry-after"), Some("6"), "{email}");
        world.wait(&right);
        let expected = if email == "dev@shop.example" { 200 } else { 401 };
        assert_eq!(world.log_in("192.0.2.10", email, "pass word").await.status, expected);
    }
}

pub(super) async fn an_address_tries_twenty_times_a_minute_and_is_then_not_even_read(world: World) {
    for at in 0..20 {
        let email = format!("{at}@shop.example");
        assert_eq!(world.log_in("2001:db8::1", &email, "pass word").await.status, 401);
    }
    let unreadable = [JSON, ("x-forwarded-for", "2001:db8::2"), ("origin", ADMIN)];
    let refused = world.send("POST", LOGIN, &unreadable, "{").await;
    assert_eq!(refused.header("retry-after"), Some("3"));
    assert_eq!(refused.header("access-control-allow-origin"), Some(ADMIN));
    assert!(refused.header("access-control-expose-headers").unwrap().contains("retry-after"));
    assert_eq!(world.log_in("2001:db8:0:1::1", "dev@shop.example", "pass word").await.status, 200);
    world.wait(&refused);
    assert_eq!(world.send("POST", LOGIN, &unreadable, "{").await.status, 400);
}

pub(super) async fn a_page_makes_sixty_rooms_a_minute_by_address_and_a_server_by_access_key(world: World) {
    let [access, secret] = world.keys();
    let page = |from: &'static str| [access, secret, ("origin", SHOP), ("x-forwarded-for", from)];
    let server = |from: &'static str| [access, secret, ("x-forwarded-for", from)];
    for _ in 0..60 {
        assert_eq!(world.ask("POST", "/api/chat/", &page("192.0.2.1")).await.status, 201);
    }
    let refused = world.ask("POST", "/api/chat/", &page("192.0.2.1")).await;
    assert_eq!(refused.header("access-control-allow-origin"), Some(SHOP));
    assert_eq!(world.ask("POST", "/api/chat/", &page("192.0.2.2")).await.status, 201);
    for at in 0..60 {
        let from = if at % 2 == 0 { "192.0.2.1" } else { "192.0.2.3" };
        assert_eq!(world.ask("POST", "/api/chat/", &server(from)).await.status, 201);
    }
    assert_eq!(world.ask("POST", "/api/chat/", &server("192.0.2.4")).await.status, 429);
    world.wait(&refused);
    assert_eq!(world.ask("POST", "/api/chat/", &page("192.0.2.1")).await.status, 201);
    assert_eq!(world.ask("POST", "/api/chat/", &server("192.0.2.4")).await.status, 201);
}

pub(super) async fn whoever_may_make_no_room_at_all_uses_nothing_up(world: World) {
    let [access, secret] = world.keys();
    for _ in 0..61 {
        assert_eq!(world.ask("POST", "/api/chat/", &[access, ("x-pintalk-secret-key", "x")]).await.status, 401);
        let evil = [access, secret, ("origin", "https://evil.example")];
        assert_eq!(world.ask("POST", "/api/chat/", &evil).await.status, 403);
    }
    assert_eq!(world.ask("POST", "/api/chat/", &[access, secret]).await.status, 201);
    assert_eq!(world.ask("POST", "/api/chat/", &[access, secret, ("origin", SHOP)]).await.status, 201);
}
