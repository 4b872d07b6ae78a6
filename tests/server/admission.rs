//! Tests the admission of sockets and the close codes of rejected sockets (SPEC 4 and 5).

use crate::support::{Client, Room, SHOP, TestApp, eventually};
use crate::{on_both, with_topology};
use serde_json::json;

on_both! {
    async fn guest_is_admitted_by_the_origin_of_the_page(app) {
        let (a, b) = app.two();
        let host = app.host_of("host@shop.example", "shop.example, *.shops.example:8443").await;
        let room = Room::open(app, a, &host).await;
        let path = format!("/ws/chat/{}/", room.name);
        for origin in [SHOP, "http://SHOP.example", "https://shop.example:443", "https://a.b.shops.example:8443"] {
            assert!(Client::open(b, &path, Some(origin)).await.is_admitted().await, "{origin}");
        }
        for origin in [Some("https://evil.example"), Some("null"), Some("file://"), Some("https://shop.example:8443"), None] {
            assert_eq!(Client::open(a, &path, origin).await.close_code().await, 4003, "{origin:?}");
        }
        // The path may end without a slash.
        assert!(Client::open(a, path.trim_end_matches('/'), Some(SHOP)).await.is_admitted().await);
    }

    async fn host_is_admitted_by_a_token_with_dots_or_slashes(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let other = app.host("other@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let path = |token: &str| format!("/ws/chat/{}/?token={token}", room.name);
        Client::open(b, &path(&host.token), None).await.send_text("here").await;
        Client::open(b, &path(&host.token.replace('.', "/")), Some("https://admin.example")).await.frame().await;
        for bad in ["", "nonsense", "a.b.c", "undefined", &format!("{}x", host.token)] {
            assert_eq!(Client::open(a, &path(bad), Some(SHOP)).await.close_code().await, 4001, "{bad}");
        }
        assert_eq!(Client::open(a, &path(&other.token), Some(SHOP)).await.close_code().await, 4003);
        let refresh = host.refresh_cookie.split('=').nth(1).expect("a cookie");
        assert_eq!(Client::open(a, &path(refresh), None).await.close_code().await, 4001);
    }

    async fn unknown_room_is_4004_whatever_its_name(app) {
        let (a, _) = app.two();
        let long = "x".repeat(4_000);
        for name in ["AAAAAAAAAAAAAAAAAAAAAA", "short", "%00", "한글", &long] {
            let path = format!("/ws/chat/{}/", name.replace("한글", "%ED%95%9C%EA%B8%80"));
            assert_eq!(Client::open(a, &path, Some(SHOP)).await.close_code().await, 4004, "{name}");
        }
        assert_eq!(Client::open(a, "/ws/status/AAAAAAAAAAAAAAAAAAAAAA/", Some(SHOP)).await.close_code().await, 4004);
    }

    async fn invalid_after_is_4000(app) {
        let (a, _) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        for after in ["", "x", "-1", "1.5", "%2B1"] {
            let path = format!("/ws/chat/{}/?after={after}", room.name);
            assert_eq!(Client::open(a, &path, Some(SHOP)).await.close_code().await, 4000, "{after}");
        }
    }

    async fn end_of_a_login_closes_its_sockets_on_all_nodes_and_no_others(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let other_login = host.again(app).await;
        let room = Room::open(app, a, &host).await;
        let (mut on_a, mut on_b, mut kept) =
            (host.join(a, &room).await, host.open_status(b).await, other_login.join(b, &room).await);
        kept.nothing().await;
        let (status, _) = host.call(a, reqwest::Method::POST, "/api/auth/logout/", json!(null)).await;
        assert_eq!(status, 204);
        assert_eq!(on_a.close_code().await, 4001);
        assert_eq!(on_b.close_code().await, 4001);
        assert_eq!(host.join(b, &room).await.close_code().await, 4001);
        kept.send_text("still here").await;
    }
}

with_topology! {
    #[embedded]
    #[clusters]
    async fn too_many_sockets_in_a_room_or_of_an_address_are_4029(topology) {
        let flags = ["--limit-sockets-per-room", "3", "--limit-sockets-per-address", "5"];
        let app = TestApp::start_with(topology, &flags).await;
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let (room, other) = (Room::open(&app, a, &host).await, Room::open(&app, a, &host).await);
        let mut inside = Vec::new();
        for node in [a, b, a] {
            let mut client = room.join(node).await;
            client.nothing().await;
            inside.push(client);
        }
        assert_eq!(room.join(b).await.close_code().await, 4029);
        // The limit on guests' sockets does not apply to the host.
        assert!(host.join(b, &room).await.is_admitted().await);
        inside.pop().expect("a client").leave().await;
        let mut welcome = eventually("there is room again", async || {
            let mut client = room.join(b).await;
            client.is_admitted().await.then_some(client)
        })
        .await;
        welcome.send_text("in again").await;
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(other.join(a).await);
        }
        // The last socket exceeds a limit: a room may have three sockets, and an address may have five on each node.
        assert_eq!(clients.last_mut().expect("a client").close_code().await, 4029);
        drop((inside, welcome, clients));
        app.stop().await;
    }
}
