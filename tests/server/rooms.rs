//! Tests the HTTP API of rooms through both nodes (SPEC 3).

use reqwest::Method;
use serde_json::{Value, json};

use crate::on_both;
use crate::support::{Room, SHOP, eventually};

on_both! {
    async fn room_created_by_a_guest_is_listed_on_another_node(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        assert_eq!(room.name.len(), 22);
        assert_eq!(room.body["guest"].as_str().map(|guest| guest.split(' ').count()), Some(2));
        assert_eq!(room.body["host"]["uuid"], host.account.uuid.as_str());
        assert_eq!((&room.body["isClosed"], &room.body["closedAt"]), (&json!(false), &Value::Null));
        let listed = host.listed(b, &room).await.expect("a room");
        assert_eq!((&listed["host"], &listed["unread"], &listed["guestOnline"]), (&json!(host.account.id.0), &json!(0), &json!(false)));
        let mut guest = room.join(a).await;
        guest.send_text("anybody there?").await;
        eventually("one is unread, and the guest is there", async || {
            let listed = host.listed(b, &room).await?;
            (listed["unread"] == 1 && listed["guestOnline"] == true).then_some(())
        })
        .await;
        let mut host_socket = host.join(b, &room).await;
        host_socket.frame().await;
        guest.send_text("hello").await;
        host_socket.frame().await;
        assert_eq!(host.listed(a, &room).await.expect("a room")["unread"], 0);
        host_socket.leave().await;
        eventually("the room stays read", async || {
            let listed = host.listed(a, &room).await?;
            (listed["unread"] == 0 && !listed["lastCheckedAt"].is_null() && listed["latestMsg"] == "hello").then_some(())
        })
        .await;
    }

    async fn rooms_are_listed_pinned_first_then_by_last_message(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let mut rooms = Vec::new();
        for _ in 0..7 {
            rooms.push(Room::open(app, a, &host).await);
        }
        for (pinned, status) in rooms.iter().zip([200, 200, 200, 200, 200, 422]) {
            let path = host.path_of(a, pinned).await;
            assert_eq!(host.call(b, Method::PATCH, &path, json!({"isFixed": true})).await.0, status);
        }
        rooms[5].join(a).await.send_text("hi").await;
        eventually("it has moved", async || {
            let list = host.get(b, "/api/chat/chatrooms/").await;
            assert_eq!((&list["count"], &list["next"], &list["previous"]), (&json!(7), &Value::Null, &Value::Null));
            let names: Vec<&str> = list["results"].as_array()?.iter().filter_map(|room| room["name"].as_str()).collect();
            let wanted: Vec<&str> = [4, 3, 2, 1, 0, 5, 6].iter().map(|at| rooms[*at].name.as_str()).collect();
            (names == wanted).then_some(())
        })
        .await;
        // A room that is closed is no longer pinned.
        let path = host.path_of(a, &rooms[0]).await;
        let (_, closed) = host.call(a, Method::PATCH, &path, json!({"is_closed": true})).await;
        assert_eq!((&closed["isFixed"], &closed["isClosed"]), (&json!(false), &json!(true)));
        let page = host.get(a, "/api/chat/chatrooms/?page_size=2&is_closed=false").await;
        assert_eq!((&page["count"], page["results"].as_array().map(Vec::len)), (&json!(6), Some(2)));
        assert!(page["next"].as_str().is_some_and(|next| next.starts_with("http://")), "{page}");
        assert_eq!(host.call(a, Method::GET, "/api/chat/chatrooms/?page=9", Value::Null).await.0, 404);
    }

    async fn room_of_another_host_is_403_and_an_unknown_one_404(app) {
        let (a, b) = app.two();
        let (host, other) = (app.host("host@shop.example").await, app.host("other@shop.example").await);
        let room = Room::open(app, a, &host).await;
        let path = host.path_of(a, &room).await;
        for (method, path) in [
            (Method::GET, path.clone()),
            (Method::PATCH, path.clone()),
            (Method::DELETE, path.clone()),
            (Method::PATCH, format!("{path}restore/")),
            (Method::GET, format!("{path}chat-messages/")),
        ] {
            let (status, body) = other.call(b, method.clone(), &path, json!({"isFixed": true})).await;
            assert_eq!((status, &body["code"]), (403, &json!(403)), "{method} {path}");
        }
        assert_eq!(host.call(a, Method::GET, "/api/chat/chatrooms/999999/", Value::Null).await.0, 404);
        assert_eq!(host.get(b, &path).await["name"], room.name.as_str());
    }

    async fn repeated_call_with_an_idempotency_key_creates_one_room(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let mut names = Vec::new();
        for node in [a, b, a] {
            let answer = app
                .http
                .post(node.url("/api/chat"))
                .header("X-PinTalk-Access-Key", &host.account.access_key)
                .header("X-PinTalk-Secret-Key", &host.account.secret_key)
                .header("Idempotency-Key", "0123456789abcdef")
                .header("Origin", SHOP)
                .send()
                .await
                .expect("an answer");
            assert_eq!(answer.status(), 201);
            assert_eq!(answer.headers()["access-control-allow-origin"], SHOP);
            names.push(answer.json::<Value>().await.expect("JSON")["name"].clone());
        }
        assert!(names.iter().all(|name| name == &names[0]), "{names:?}");
    }

    async fn conversation_is_downloaded_as_a_text_file_named_after_the_guest(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let (mut guest, mut host_socket) = (room.join(a).await, host.join(b, &room).await);
        let mut expected = String::new();
        for number in 1..=150 {
            guest.send_text(&format!("question {number}\nof two lines")).await;
            host_socket.frame().await;
            host_socket.send_text("답").await;
            guest.frame().await;
            let guest = room.body["guest"].as_str().expect("a name");
            expected += &format!("[2023-03-23 08:15:07.123 {guest}] question {number}\n    of two lines\n");
            expected += "[2023-03-23 08:15:07.123 Shop] 답\n";
        }
        let path = format!("{}download/", host.path_of(b, &room).await);
        for accept in ["application/json; version=1", "text/plain", "*/*"] {
            let answer = host.raw(b, &path, accept).await;
            assert_eq!((answer.status().as_u16(), &answer.headers()["content-type"]), (200, &"text/plain; charset=utf-8".parse().unwrap()));
            let name = answer.headers()["content-disposition"].to_str().expect("text").to_owned();
            let encoded = name.split_once("filename*=UTF-8''").expect("an RFC 5987 name").1;
            let decoded = percent_encoding::percent_decode_str(encoded).decode_utf8().expect("UTF-8");
            let (guest, time) = decoded.split_once('_').expect("a guest and a time");
            assert!(name.starts_with("attachment; ") && guest == room.body["guest"] && time.ends_with(".txt"), "{decoded}");
            assert_eq!(answer.text().await.expect("text"), expected);
        }
        assert_eq!(host.raw(b, &path, "image/png").await.status(), 406);
        let other = app.host_of("other@other.example", "other.example").await;
        assert_eq!(other.raw(a, &path, "*/*").await.status(), 403);
        // The downloaded file of a room without messages is empty.
        let empty = Room::open(app, a, &host).await;
        let path = format!("{}download", host.path_of(b, &empty).await);
        assert_eq!(host.raw(a, &path, "*/*").await.text().await.expect("text"), "");
    }

    async fn refresh_token_is_used_on_any_node_and_a_stolen_one_ends_the_login(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let refresh = async |node: &crate::support::Node, cookie: &str| {
            let request = app.http.post(node.url("/api/auth/token/refresh/")).header("Cookie", cookie);
            let answer = request.send().await.expect("an answer");
            let cookie = answer.headers().get("set-cookie").and_then(|cookie| cookie.to_str().ok()).unwrap_or_default();
            let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
            (answer.status().as_u16(), cookie, answer.json::<Value>().await.expect("JSON"))
        };
        let (status, second, body) = refresh(b, &host.refresh_cookie).await;
        assert_eq!(status, 201);
        assert!(body["access"].is_string() && body["access"] == body["access_token"] && body["access"] == body["accessToken"]);
        // Two tabs may use the same refresh token concurrently. This is not treated as theft.
        assert_eq!(refresh(a, &host.refresh_cookie).await.0, 201);
        assert_eq!(refresh(a, &second).await.0, 201);
        // A refresh token that was replaced two refreshes ago is treated as stolen. The login ends, and its other
        // tokens become invalid as well.
        let room = Room::open(app, a, &host).await;
        let mut host_socket = host.join(b, &room).await;
        host_socket.nothing().await;
        assert_eq!(refresh(b, &host.refresh_cookie).await.0, 401);
        assert_eq!(host_socket.close_code().await, 4001);
        assert_eq!(refresh(a, &second).await.0, 401);
    }
}
