//! Tests the protocol of the two unmodified legacy front ends together with version 2 clients (SPEC 4 to 7).

use std::time::Duration;

use chrono::NaiveDateTime;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::on_both;
use crate::support::{Client, Host, Node, Room, TIMEOUT, eventually, message, texts};

/// Values that have the format of a time but contain a date or a time of day that does not exist.
const IMPOSSIBLE: [&str; 8] = [
    "2023-03-23T08:15:77",
    "2023-13-23T08:15:07",
    "2023-00-23T08:15:07.5",
    "2023-02-29T08:15:07.123456",
    "2023-04-31T08:15:07",
    "2023-03-23T24:00:00",
    "2023-03-23T08:60:00",
    "0000-01-01T00:00:00",
];

fn notice(word: &str) -> Value {
    json!({"type": "notice", "message": word, "datetime": "2023-03-23T08:15:07"})
}

fn is_in_calendar(datetime: &Value) -> bool {
    datetime.as_str().is_some_and(|text| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").is_ok())
}

/// Returns the current room list of the host.
async fn list(host: &Host, node: &Node) -> Vec<Value> {
    host.get(node, "/api/chat/chatrooms/").await["results"].as_array().expect("a list").clone()
}

on_both! {
    async fn invalid_time_is_replaced_before_delivery_and_storage(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let (mut guest, mut host_socket) = (room.join(a).await, host.join(b, &room).await);
        let mut sent = Vec::new();
        for impossible in IMPOSSIBLE {
            let mut odd = message("when?");
            odd["datetime"] = json!(impossible);
            guest.send(&odd).await;
            let echo = guest.frame().await;
            assert!(is_in_calendar(&echo["datetime"]), "{echo}");
            assert_eq!(host_socket.frame().await, echo);
            sent.push(echo);
        }
        // The server keeps every valid time, even if the sender's clock is wrong.
        let mut early = message("early");
        early["datetime"] = json!("0001-02-28T23:59:59.000001");
        guest.send(&early).await;
        sent.push(guest.frame().await);
        assert_eq!(sent.last().expect("sent")["datetime"], "0001-02-28T23:59:59.000001");
        assert_eq!(room.join(b).await.frame().await["data"], json!(sent));
        assert_eq!(room.join_after(b, 0).await.frame().await["data"], json!(sent));
        let path = host.path_of(a, &room).await;
        let stored = host.get(a, &format!("{path}chat-messages/?limit=50")).await;
        let stored: Vec<&Value> = stored["results"].as_array().expect("messages").iter().rev().map(|one| &one["datetime"]).collect();
        assert_eq!(stored, sent.iter().map(|one| &one["datetime"]).collect::<Vec<_>>());
        // The legacy widget requests older messages with the time of a message that it received, truncated to whole
        // seconds.
        let mut back = room.join(a).await;
        let oldest = back.frame().await["data"][0]["datetime"].as_str().expect("a time")[..19].to_owned();
        back.send(&json!({"type": "request", "message": oldest})).await;
        assert_eq!(back.frame().await["data"], json!([]));
        let wrong = json!({"type": "chat_message", "message": "hi", "datetime": "2023-3-23T08:15:07"});
        guest.send(&wrong).await;
        host_socket.frame().await; // this frame is the message "early"
        assert_eq!(guest.close_code().await, 4000);
    }

    async fn version_2_frames_are_sent_to_version_2_sockets_only(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let (mut old_guest, mut old_host_socket) = (room.join(a).await, host.join(b, &room).await);
        let (mut guest, mut host_socket) = (room.join_v2(b).await, host.join_v2(a, &room).await);
        let mut junk = Client::open(a, &format!("/ws/chat/{}/?v=two", room.name), Some(crate::support::SHOP)).await;
        // A `typing` notice from a version 1 client is accepted.
        let mut typing = notice("typing");
        typing["datetime"] = json!("2023-99-23T08:15:07");
        old_guest.send(&typing).await;
        for client in [&mut guest, &mut host_socket] {
            let typing = client.frame().await;
            assert_eq!((&typing["message"], &typing["is_host"]), (&json!("typing"), &json!(false)));
            assert!(is_in_calendar(&typing["datetime"]), "{typing}");
        }
        old_host_socket.send(&json!({"type": "notice", "message": "read", "seq": 1, "datetime": "2023-03-23T08:15:08"})).await;
        for client in [&mut guest, &mut host_socket] {
            assert_eq!(client.frame().await["message"], "read");
        }
        old_guest.send(&notice("ping")).await;
        guest.send(&notice("ping")).await;
        let pong = guest.frame().await;
        assert_eq!((&pong["type"], &pong["message"]), (&json!("notice"), &json!("pong")));
        assert!(is_in_calendar(&pong["datetime"]), "{pong}");
        host_socket.nothing().await;
        // Version 1 clients do not receive the notices, so the next frame that they receive is the message.
        let said = guest.send_text("hi").await;
        for client in [&mut old_guest, &mut old_host_socket, &mut junk, &mut host_socket] {
            assert_eq!(client.frame().await, said);
        }
    }

    async fn messages_for_an_away_host_are_unread_and_the_host_stays_online(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let (mut guest, mut host_socket) = (room.join(a).await, host.join_v2(b, &room).await);
        let (mut status, mut watched) = (host.open_status(b).await, host.open_guest_status(a).await);
        status.nothing().await;
        assert!(watched.receives_status("online", TIMEOUT).await);
        let unread = async |node| host.listed(node, &room).await.expect("a room")["unread"].clone();
        guest.send_text("1").await;
        host_socket.frame().await;
        assert_eq!(unread(a).await, 0);
        host_socket.send(&notice("away")).await;
        // The server processes the frames of a socket in order. The notice has therefore taken effect when this message
        // is acknowledged.
        host_socket.send_text("automatic answer").await;
        guest.frame().await;
        guest.send_text("2").await;
        guest.send_text("3").await;
        eventually("two are unread", async || (unread(a).await == 2).then_some(())).await;
        assert_eq!(unread(b).await, 2);
        assert!(!watched.receives_status("offline", Duration::from_millis(1_500)).await);
        // A `read` notice takes effect even if the host has reported being away.
        host_socket.frames(2).await;
        host_socket.send(&json!({"type": "notice", "message": "read", "seq": 3, "datetime": "2023-03-23T08:15:08"})).await;
        eventually("one is read", async || (unread(a).await == 1).then_some(())).await;
        host_socket.send(&notice("back")).await;
        eventually("all is read", async || (unread(b).await == 0).then_some(())).await;
        // An `away` notice has no effect if a version 1 socket or a guest sends it.
        let mut old = host.join(a, &room).await;
        old.frame().await;
        for client in [&mut old, &mut guest] {
            client.send(&notice("away")).await;
        }
        host_socket.leave().await;
        guest.nothing().await;
        guest.send_text("4").await;
        assert_eq!(unread(a).await, 0);
    }

    async fn list_contains_a_message_as_soon_as_it_is_delivered(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let mut rooms = Vec::new();
        for _ in 0..4 {
            rooms.push(Room::open(app, a, &host).await);
        }
        // Rooms have times of the database clock and messages have times of the Redis clock. The pause is longer than
        // the difference between these clocks.
        tokio::time::sleep(Duration::from_millis(100)).await;
        for (round, at) in [0, 3, 1, 2, 0, 1, 3, 2].into_iter().enumerate() {
            let room = &rooms[at];
            let text = format!("message {round}");
            let mut guest = room.join(a).await;
            if round >= 4 {
                guest.frame().await;
            }
            guest.send(&message(&text)).await;
            guest.frame().await;
            let node = if round % 2 == 0 { b } else { a };
            let shown = list(&host, node).await;
            assert_eq!(shown.len(), 4);
            assert_eq!((&shown[0]["name"], &shown[0]["latestMsg"]), (&json!(room.name), &json!(text)), "{shown:?}");
            assert_eq!(shown[0]["unread"], 1 + round / 4);
            assert_eq!(shown[0]["latestMsgAt"], shown[0]["updatedAt"]);
            let page = host.get(node, "/api/chat/chatrooms/?page_size=1&page=2").await;
            assert_eq!((&page["results"][0]["name"], &page["count"]), (&shown[1]["name"], &json!(4)));
            let path = host.path_of(node, room).await;
            assert_eq!(host.get(node, &path).await["updatedAt"], shown[0]["updatedAt"]);
            guest.leave().await;
        }
        let mut guest = rooms[2].join(a).await;
        guest.frame().await;
        guest.send_text("and now?").await;
        let path = host.path_of(b, &rooms[2]).await;
        let (status, pinned) = host.call(b, Method::PATCH, &path, json!({"is_fixed": true})).await;
        assert_eq!((status, &pinned["latestMsg"], &pinned["unread"]), (200, &json!("and now?"), &json!(3)));
        assert_eq!(host.get(a, "/api/chat/chatrooms/?is_closed=true").await["count"], 0);
    }

    async fn null_counts_as_absent_and_a_hidden_status_is_reported(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let mut host_socket = host.open_status(a).await;
        host_socket.nothing().await;
        let mut guest = host.open_guest_status(b).await;
        assert!(guest.receives_status("online", TIMEOUT).await);
        let path = format!("/api/users/{}/", host.account.id.0);
        let configs = format!("{path}configs/");
        for body in [json!({"use_online_status": null}), json!({"useOnlineStatus": null, "emailNotifications": null})] {
            let (status, answer) = host.call(a, Method::PATCH, &configs, body).await;
            assert_eq!((status, &answer["useOnlineStatus"]), (200, &json!(true)));
        }
        let (status, user) = host.call(b, Method::PATCH, &path, json!({"service_name": null, "profileName": null, "description": null})).await;
        assert_eq!((status, &user["serviceName"]), (200, &json!("Shop")));
        let (status, user) = host.call(b, Method::PATCH, &path, json!({"serviceDomain": null})).await;
        assert_eq!((status, &user["serviceDomain"]), (200, &Value::Null));
        // A `null` is ignored. The value under the other spelling of the field applies.
        let (status, answer) =
            host.call(a, Method::PATCH, &configs, json!({"useOnlineStatus": null, "use_online_status": false})).await;
        assert_eq!((status, &answer["useOnlineStatus"]), (200, &json!(false)));
        let last = guest.frame().await;
        assert_eq!((&last["message"], &last["status"]), (&json!("offline"), &json!("offline")));
        assert_eq!(guest.close_code().await, 4009);
        assert_eq!(host_socket.close_code().await, 4009);
    }

    async fn long_pasted_text_fits_into_a_message(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let (mut guest, mut host_socket) = (room.join(a).await, host.join(b, &room).await);
        let all = ["x".repeat(2_001), "한".repeat(10_000), "😀".repeat(8_000), "\u{1}".repeat(5_000), "\"\\\n".repeat(5_000)];
        for text in &all {
            assert_eq!(guest.send_text(text).await, host_socket.frame().await);
            assert_eq!(list(&host, a).await[0]["latestMsg"], *text);
        }
        // JSON escapes of these characters have three times as many bytes. The frame is just below the limit of 32 KiB.
        let escaped = format!(r#"{{"type":"chat_message","message":"{}","datetime":"2023-03-23T08:15:07"}}"#, "\\ud83d\\ude00".repeat(2_700));
        guest.send_raw(Message::text(escaped)).await;
        assert_eq!(guest.frame().await["message"], "😀".repeat(2_700));
        let path = host.path_of(b, &room).await;
        eventually("they are in sql", async || {
            let row = app.store.messages().before(room_id(&path), None, 10).await.ok()?;
            (row.len() == all.len() + 1).then_some(())
        })
        .await;
        let stored = host.get(a, &format!("{path}chat-messages/")).await;
        let stored: Vec<&str> = stored["results"].as_array().expect("messages").iter().rev().filter_map(|one| one["message"].as_str()).collect();
        assert_eq!(stored[..all.len()], all);
        assert_eq!(texts(room.join(b).await.frame().await["data"].as_array().expect("history"))[..all.len()], all);
    }

    async fn legacy_admin_page_reopens_its_status_socket_with_a_token_with_slashes(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let path = format!("/ws/chat/{}/status/?token={}", host.account.uuid, host.token.replace('.', "/"));
        let mut page = Client::open(a, &path, None).await;
        page.send(&json!({"type": "notice", "is_host": true, "status": "online", "datetime": "2023-03-23T12:22:12"})).await;
        page.nothing().await;
        let mut guest = host.open_guest_status(b).await;
        assert!(guest.receives_status("online", TIMEOUT).await);
        for node in [b, a, b, a] {
            page.leave().await;
            page = Client::open(node, &path, None).await;
        }
        assert!(!guest.receives_status("offline", Duration::from_millis(1_500)).await);
        let room = Room::open(app, a, &host).await;
        let chat = format!("/ws/chat/{}/?token={}", room.name, host.token.replace('.', "/"));
        let mut host_socket = Client::open(b, &chat, None).await;
        let mut said = message("from the page");
        said["is_host"] = json!(true);
        host_socket.send(&said).await;
        host_socket.frame().await;
        let path = host.path_of(a, &room).await;
        let stored = host.get(b, &format!("{path}chat-messages/?limit=10&offset=0")).await["results"][0].clone();
        assert_eq!((&stored["is_host"], &stored["isHost"], &stored["id"]), (&json!(true), &json!(true), &json!(1)));
    }
}

fn room_id(path: &str) -> pintalk::domain::ChatroomId {
    let id = path.trim_end_matches('/').rsplit('/').next().and_then(|id| id.parse().ok());
    pintalk::domain::ChatroomId(id.expect("an id"))
}
