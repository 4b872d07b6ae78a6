//! Tests the chat between guests and hosts (SPEC 4 and 6).

use pintalk::domain::ChatroomId;
use serde_json::{Value, json};

use crate::support::{Client, Room, TestApp, eventually, message, texts};
use crate::{on_both, with_topology};

on_both! {
    async fn guest_and_host_exchange_messages_across_nodes(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let (mut guest, mut host_socket) = (room.join(a).await, host.join(b, &room).await);

        guest.send(&message("hello?")).await;
        let (echo, received) = (guest.frame().await, host_socket.frame().await);
        assert_eq!(echo, received);
        assert_eq!((&echo["type"], &echo["is_host"], &echo["seq"]), (&json!("chat_message"), &json!(false), &json!(1)));
        assert_eq!(echo["datetime"], "2023-03-23T08:15:07.123");
        assert!(echo["id"].as_str().is_some_and(|id| !id.is_empty()));

        host_socket.send_text("what can I do for you?").await;
        let answer = guest.frame().await;
        assert_eq!((&answer["is_host"], &answer["seq"]), (&json!(true), &json!(2)));
    }

    async fn sender_of_a_message_is_determined_by_the_socket(app) {
        let (a, _) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let (mut guest, mut host_socket) = (room.join(a).await, host.join(a, &room).await);
        let mut lie = message("I am the host");
        lie["is_host"] = json!(true);
        guest.send(&lie).await;
        assert_eq!(guest.frame().await["is_host"], false);
        assert_eq!(host_socket.frame().await["is_host"], false);
        let mut odd = message("hm");
        odd["is_host"] = json!("perhaps");
        host_socket.send(&odd).await;
        assert_eq!(host_socket.frame().await["is_host"], true);
    }

    async fn join_returns_the_newest_fifty_messages_and_nothing_in_an_empty_room(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let mut guest = room.join(a).await;
        guest.nothing().await;
        for number in 1..=60 {
            guest.send_text(&format!("message {number}")).await;
        }
        let history = host.join(b, &room).await.frame().await;
        let data = history["data"].as_array().expect("history").clone();
        assert_eq!(history["type"], "chat_message");
        assert_eq!(history.get("more"), None);
        assert_eq!(texts(&data), (11..=60).map(|number| format!("message {number}")).collect::<Vec<_>>());
        assert_eq!(data[0]["seq"], 11);
        assert_eq!(room.join(a).await.frame().await, history, "the guest receives the same history");
    }

    async fn reconnection_returns_missed_messages_and_continues_live(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let mut guest = room.join(a).await;
        for number in 1..=5 {
            guest.send_text(&format!("message {number}")).await;
        }
        let mut back = room.join_after(b, 2).await;
        let missed = back.frame().await;
        assert_eq!(texts(missed["data"].as_array().expect("history")), ["message 3", "message 4", "message 5"]);
        guest.send_text("and one more").await;
        assert_eq!(back.frame().await["seq"], 6);
        // `after=0` returns all messages. The newest `seq` or a higher one returns none.
        assert_eq!(room.join_after(b, 0).await.frame().await["data"].as_array().expect("history").len(), 6);
        for seq in [6, 1_000_000] {
            let mut level = room.join_after(b, seq).await;
            let said = guest.send_text("still there?").await;
            let received = level.frame().await;
            assert!(received == said || received["data"][0] == said, "{received}");
        }
    }

    async fn hundreds_of_missed_messages_arrive_in_order_in_several_frames(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let mut guests = [room.join(a).await, room.join(b).await];
        let long = "길".repeat(1_000);
        for round in 0..8 {
            for guest in &mut guests {
                for number in 0..10 {
                    guest.send(&message(&format!("{round} {number} {long}"))).await;
                }
            }
            for guest in &mut guests {
                guest.frames(20).await;
            }
        }
        let mut back = room.join_after(a, 0).await;
        let mut seqs: Vec<u64> = Vec::new();
        loop {
            let frame = back.frame().await;
            assert!(frame.to_string().len() <= 128 * 1024);
            seqs.extend(frame["data"].as_array().expect("history").iter().filter_map(|each| each["seq"].as_u64()));
            if frame["more"] != true {
                break;
            }
        }
        assert_eq!(seqs, (1..=160).collect::<Vec<_>>());
    }

    async fn repeated_id_of_one_side_is_the_same_message(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let (mut guest, mut host_socket) = (room.join(a).await, host.join(b, &room).await);
        let mut first = message("once");
        first["id"] = json!("client-1");
        guest.send(&first).await;
        let original = guest.frame().await;
        assert_eq!(original["id"], "client-1");
        assert_eq!(host_socket.frame().await, original);
        // Another socket of the guest sends a message with the same id and a different text. Only this socket receives
        // a frame, which contains the original message.
        let mut second_tab = room.join(b).await;
        second_tab.frame().await;
        first["message"] = json!("twice");
        second_tab.send(&first).await;
        assert_eq!(second_tab.frame().await, original);
        // Ids of guest and host are independent, so the host may use an id that the guest has used.
        let mut reply = message("my own");
        reply["id"] = json!("client-1");
        host_socket.send(&reply).await;
        assert_eq!(host_socket.frame().await["seq"], 2);
        assert_eq!(guest.frame().await["seq"], 2);
    }

    async fn older_messages_are_requested_by_number_or_wall_clock(app) {
        let (a, _) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let mut guest = room.join(a).await;
        for number in 0..120 {
            let mut numbered = message(&format!("message {}", number + 1));
            numbered["datetime"] = json!(format!("2023-03-23T08:{:02}:{:02}.5", number / 60, number % 60));
            guest.send(&numbered).await;
            guest.frame().await;
        }
        let mut late = room.join(a).await;
        assert_eq!(late.frame().await["data"][0]["seq"], 71);
        // The legacy widget requests older messages with the time of the oldest message that it shows, in whole
        // seconds.
        late.send(&json!({"type": "request", "message": "2023-03-23T08:01:10"})).await;
        let page = late.frame().await;
        let seqs: Vec<u64> = page["data"].as_array().expect("a page").iter().filter_map(|each| each["seq"].as_u64()).collect();
        assert_eq!(seqs, (21..=70).rev().collect::<Vec<_>>());
        late.send(&json!({"type": "request", "before": 21})).await;
        assert_eq!(late.frame().await["data"].as_array().expect("a page").len(), 20);
        late.send(&json!({"type": "request", "before": 1})).await;
        assert_eq!(late.frame().await["data"], json!([]));
    }

    async fn typing_and_read_are_relayed_and_not_stored(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let (mut guest, mut host_socket) = (room.join_v2(a).await, host.join_v2(b, &room).await);
        guest.send_text("hi").await;
        host_socket.frame().await;
        let typing = json!({"type": "notice", "is_host": false, "message": "typing", "datetime": "2023-03-23T08:15:07"});
        guest.send(&typing).await;
        assert_eq!(host_socket.frame().await, typing);
        host_socket.send(&json!({"type": "notice", "message": "read", "seq": 1, "datetime": "2023-03-23T08:15:08"})).await;
        guest.frame().await; // this is the `typing` notice that the guest sent
        let read = guest.frame().await;
        assert_eq!((&read["message"], &read["is_host"], &read["seq"]), (&json!("read"), &json!(true), &json!(1)));
        let history = room.join(a).await.frame().await;
        assert_eq!(history["data"].as_array().expect("history").len(), 1);
    }

    async fn message_is_readable_at_once_and_in_sql_soon(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(app, a, &host).await;
        let mut guest = room.join(a).await;
        let path = host.path_of(b, &room).await;
        for number in 1..=30 {
            guest.send_text(&format!("message {number}")).await;
            // The page includes every message that was acknowledged before this request.
            let page = host.get(b, &format!("{path}chat-messages/?limit=2")).await;
            assert_eq!((&page["count"], &page["results"][0]["message"]), (&json!(number), &json!(format!("message {number}"))));
        }
        let newest = &host.get(b, &format!("{path}chat-messages/?limit=1")).await["results"][0];
        assert_eq!((&newest["id"], &newest["isHost"], &newest["is_host"]), (&json!(30), &json!(false), &json!(false)));
        assert_eq!(newest["datetime"], "2023-03-23T08:15:07.123");
        let id = host.listed(a, &room).await.expect("a room")["id"].as_i64().expect("an id");
        eventually("all of it is in SQL", async || {
            (app.store.rooms().count_messages(ChatroomId(id), None).await == Ok(30)).then_some(())
        })
        .await;
        eventually("the list shows the newest", async || {
            (host.listed(b, &room).await?["latestMsg"] == "message 30").then_some(())
        })
        .await;
    }
}

with_topology! {
    #[clusters]
    async fn cluster_stores_a_message_in_redis_before_delivery(topology) {
        let app = TestApp::start(topology).await;
        let (a, _) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(&app, a, &host).await;
        let mut guest = room.join(a).await;
        guest.send_text("kept").await;
        let keys = app.redis.as_ref().expect("redis").keys_of(&room.name).await;
        assert!(keys.iter().any(|key| key.contains(":log:")), "{keys:?}");
        app.stop().await;
    }
}

with_topology! {
    #[embedded]
    #[clusters]
    async fn concurrent_messages_are_received_by_all_once_and_in_order(topology) {
        let app = TestApp::start(topology).await;
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let room = Room::open(&app, a, &host).await;
        let mut people: Vec<Client> = Vec::new();
        for at in 0..6 {
            people.push(room.join(if at % 2 == 0 { a } else { b }).await);
        }
        let talks = people.into_iter().enumerate().map(|(who, mut person)| async move {
            for number in 0..50 {
                person.send(&message(&format!("{who} {number}"))).await;
            }
            person.frames(300).await
        });
        let received: Vec<Vec<Value>> = futures_util::future::join_all(talks).await;
        for frames in &received {
            assert_eq!(frames, &received[0]);
            let seqs: Vec<u64> = frames.iter().filter_map(|frame| frame["seq"].as_u64()).collect();
            assert_eq!(seqs, (1..=300).collect::<Vec<_>>());
            for who in 0..6 {
                let received: Vec<String> =
                    texts(frames).into_iter().filter(|text| text.starts_with(&format!("{who} "))).collect();
                assert_eq!(received, (0..50).map(|number| format!("{who} {number}")).collect::<Vec<_>>());
            }
        }
        app.stop().await;
    }
}
