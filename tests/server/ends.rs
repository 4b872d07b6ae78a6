//! Tests closed, reopened and deleted rooms, and nodes that stop (SPEC 4 and 6).

use std::time::Duration;

use pintalk::domain::ChatroomId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Room, TestApp, Topology, eventually, texts};
use crate::{on_both, with_topology};

const CLOSE: &str = r#"{"type":"notice","is_host":true,"message":"close","datetime":"2023-03-23T08:15:07"}"#;

on_both! {
    async fn host_closes_a_room_for_all_participants(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let (mut guest, mut host_socket) = (room.join(a).await, host.join(b, &room).await);
        guest.send_text("bye").await;
        host_socket.frame().await;
        host_socket.send(&serde_json::from_str(CLOSE).expect("JSON")).await;
        for client in [&mut guest, &mut host_socket] {
            let notice = client.frame().await;
            assert_eq!((&notice["type"], &notice["is_host"], &notice["message"]), (&json!("notice"), &json!(true), &json!("closed")));
            assert_eq!(notice["datetime"].as_str().map(str::len), Some(19));
            assert_eq!(client.close_code().await, 1000);
        }
        let listed = host.listed(a, &room).await.expect("a room");
        assert_eq!(listed["isClosed"], true);
        assert_eq!(host.join(a, &room).await.close_code().await, 4009);
    }

    async fn guest_that_tries_to_close_a_room_is_disconnected(app) {
        let (a, _) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let mut guest = room.join(a).await;
        guest.send(&serde_json::from_str(CLOSE).expect("JSON")).await;
        assert_eq!(guest.close_code().await, 4003);
        assert_eq!(host.listed(a, &room).await.expect("a room")["isClosed"], false);
    }

    async fn new_join_of_a_guest_resumes_a_closed_room_and_a_reconnection_does_not(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let mut guest = room.join(a).await;
        guest.send_text("one").await;
        let path = host.path_of(b, &room).await;
        let (status, closed) = host.call(b, Method::PATCH, &path, json!({"isClosed": true})).await;
        assert_eq!((status, &closed["isClosed"]), (200, &json!(true)));
        assert_eq!(guest.frame().await["message"], "closed");
        assert_eq!(guest.close_code().await, 1000);
        // The room is already closed, and closing it again succeeds.
        assert_eq!(host.call(a, Method::PATCH, &path, json!({"is_closed": true})).await.0, 200);

        let mut background_tab = room.join_after(b, 1).await;
        assert_eq!(background_tab.frame().await["message"], "closed");
        assert_eq!(background_tab.close_code().await, 1000);
        assert_eq!(host.listed(a, &room).await.expect("a room")["isClosed"], true);

        let mut again = room.join(b).await;
        assert_eq!(texts(again.frame().await["data"].as_array().expect("history")), ["one"]);
        assert_eq!(again.send_text("two").await["seq"], 2);
        assert_eq!(host.listed(a, &room).await.expect("a room")["isClosed"], false);
    }

    async fn host_restores_a_closed_room_with_its_messages(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let mut guest = room.join(a).await;
        guest.send_text("one").await;
        let path = host.path_of(a, &room).await;
        host.call(a, Method::PATCH, &path, json!({"isClosed": true})).await;
        guest.frame().await;
        guest.close_code().await;
        for _ in 0..2 {
            let (status, restored) = host.call(b, Method::PATCH, &format!("{path}restore/"), Value::Null).await;
            assert_eq!((status, &restored["isClosed"], &restored["closedAt"]), (200, &json!(false), &Value::Null));
        }
        let mut host_socket = host.join(b, &room).await;
        assert_eq!(texts(host_socket.frame().await["data"].as_array().expect("history")), ["one"]);
        host_socket.send_text("two").await;
    }

    async fn room_that_its_host_leaves_is_deleted_completely(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let (mut guest, mut host_socket) = (room.join(a).await, host.join(b, &room).await);
        for number in 0..20 {
            guest.send_text(&format!("message {number}")).await;
        }
        host_socket.frames(20).await;
        let path = host.path_of(b, &room).await;
        let id = ChatroomId(path.trim_matches('/').rsplit('/').next().and_then(|id| id.parse().ok()).expect("an id"));
        assert_eq!(host.call(b, Method::DELETE, &path, Value::Null).await.0, 204);
        assert_eq!(guest.close_code().await, 4004);
        assert_eq!(host_socket.close_code().await, 4004);
        assert_eq!(host.call(a, Method::GET, &path, Value::Null).await.0, 404);
        assert_eq!(host.call(a, Method::DELETE, &path, Value::Null).await.0, 404);
        assert_eq!(room.join(a).await.close_code().await, 4004);
        assert_eq!(room.join_after(b, 3).await.close_code().await, 4004);
        if let Some(redis) = &app.redis {
            eventually("what was on its way is dropped", async || (redis.queued_messages().await == 0).then_some(())).await;
            let keys = redis.keys_of(&room.name).await;
            assert!(keys.iter().all(|key| key.contains(":room:")), "only the tombstone stays: {keys:?}");
        }
        assert_eq!(app.store.messages().newest_ids(id, 10).await, Ok(Vec::new()));
    }
}

with_topology! {
    #[clusters]
    async fn stopping_node_asks_clients_to_reconnect_and_loses_nothing(topology) {
        let mut app = TestApp::start(topology).await;
        let host = app.host("host@shop.example").await;
        let room = Room::open(&app, &app.nodes[0], &host).await;
        let (mut on_a, mut on_b) = (room.join(&app.nodes[0]).await, room.join(&app.nodes[1]).await);
        on_a.send_text("before").await;
        on_b.frame().await;
        app.stop_node(0).await;
        let (code, reason) = on_a.closed().await;
        assert_eq!(code, 1012);
        let ms: u64 =
            reason.strip_prefix("retry in ").and_then(|rest| rest.strip_suffix(" ms")).expect(&reason).parse().expect("ms");
        assert!((1_000..5_000).contains(&ms));
        on_b.send_text("after").await;
        let mut back = room.join_after(&app.nodes[0], 1).await;
        assert_eq!(texts(back.frame().await["data"].as_array().expect("history")), ["after"]);
        assert!(!back.is_quiet_for(Duration::ZERO).await || back.send_text("on").await["seq"] == 3);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_embedded_node_has_all_data() {
    let mut app = TestApp::start(Topology::Embedded).await;
    let host = app.host("host@shop.example").await;
    let room = Room::open(&app, &app.nodes[0], &host).await;
    let mut guest = room.join(&app.nodes[0]).await;
    guest.send_text("kept").await;
    app.stop_node(0).await;
    assert_eq!(guest.close_code().await, 1012);
    app.add_node().await;
    let mut guest = room.join(&app.nodes[0]).await;
    assert_eq!(texts(guest.frame().await["data"].as_array().expect("history")), ["kept"]);
    assert_eq!(guest.send_text("and on").await["seq"], 2);
    // The host's login is still valid after the restart.
    host.join(&app.nodes[0], &room).await.frame().await;
    app.stop().await;
}
