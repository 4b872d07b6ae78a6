//! Tests the online status of hosts (SPEC 5).

use std::time::Duration;

use pintalk::domain::HostConfig;
use pintalk::domain::clock::{Clock as _, SystemClock};
use pintalk::store::DeactivatedBy;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::people::NOW;
use crate::support::{Client, Room, SHOP, TestApp, message};
use crate::{on_both, with_topology};

const HELLO: &str = r#"{"type":"notice","is_host":false,"message":"online","datetime":"2023-03-23T08:15:77"}"#;

fn hello() -> Value {
    serde_json::from_str(HELLO).expect("JSON")
}

fn is(frame: &Value, word: &str) -> bool {
    frame["type"] == "notice" && frame["is_host"] == true && frame["message"] == word && frame["status"] == word
}

on_both! {
    async fn guest_receives_the_presence_of_the_host_on_connect_and_on_request(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let mut host_socket = host.open_status(a).await;
        host_socket.nothing().await;
        // Both paths open a status socket of the same host.
        for path in [format!("/ws/chat/{}/status/", host.account.uuid), format!("/ws/status/{}", host.account.uuid)] {
            let mut guest = Client::open(b, &path, Some(SHOP)).await;
            assert!(is(&guest.frame().await, "online"));
            guest.send(&hello()).await;
            assert!(is(&guest.frame().await, "online"));
            // The host is notified that a guest is present.
            let seen = host_socket.frame().await;
            assert_eq!((&seen["is_host"], &seen["message"]), (&json!(false), &json!("online")));
        }
    }

    async fn ping_is_answered_on_version_2_status_sockets_and_not_relayed(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let (mut host_socket, mut old_host_socket) = (host.open_status_v2(a).await, host.open_status(b).await);
        let (mut guest, mut old_guest) = (host.open_guest_status_v2(b).await, host.open_guest_status(a).await);
        for guest in [&mut guest, &mut old_guest] {
            assert!(is(&guest.frame().await, "online"));
        }
        let ping = json!({"type": "notice", "message": "ping", "datetime": NOW});
        for client in [&mut host_socket, &mut guest] {
            client.send(&ping).await;
            let mut pong = client.frame().await;
            while is(&pong, "online") {
                pong = client.frame().await;
            }
            assert_eq!((&pong["type"], &pong["message"], &pong["is_host"]), (&json!("notice"), &json!("pong"), &json!(true)));
            assert_eq!(pong["datetime"].as_str().map(str::len), Some(19));
            assert_eq!(pong.as_object().map(serde_json::Map::len), Some(4), "as on the chat socket: {pong}");
        }
        for client in [&mut old_host_socket, &mut old_guest] {
            client.send(&ping).await;
        }
        for client in [&mut host_socket, &mut old_host_socket] {
            client.nothing().await;
        }
        // The event that the host is online may reach the node of a guest after the guest has connected. The guest then
        // receives `online` once more.
        for client in [&mut guest, &mut old_guest] {
            let frames = client.frames_so_far().await;
            assert!(frames.iter().all(|frame| is(frame, "online")), "{frames:?}");
        }
    }

    async fn pings_of_a_status_socket_do_not_request_the_status(app) {
        let (a, _) = app.two();
        let host = app.host("host@shop.example").await;
        let mut host_socket = host.open_status(a).await;
        host_socket.nothing().await;
        let mut guest = host.open_guest_status_v2(a).await;
        assert!(is(&guest.frame().await, "online"));
        // An `online` notice costs 20 tokens of a burst of 100. A ping costs one token, so all 60 pings are within the
        // limit.
        let mut repeated = 0;
        for _ in 0..60 {
            guest.send(&json!({"type": "notice", "message": "ping"})).await;
            let mut frame = guest.frame().await;
            while is(&frame, "online") {
                repeated += 1;
                frame = guest.frame().await;
            }
            assert_eq!(frame["message"], "pong");
        }
        // The event that the host is online may reach the node after the guest has connected. One further `online`
        // frame is therefore permitted.
        assert!(repeated <= 1, "{repeated}");
        host_socket.nothing().await;
        guest.send(&hello()).await;
        assert!(is(&guest.frame().await, "online"));
    }

    async fn guest_of_an_offline_host_receives_nothing_until_the_host_is_online(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let mut guest = host.open_guest_status(a).await;
        guest.send(&hello()).await;
        assert!(guest.is_quiet_for(Duration::from_millis(300)).await);
        let _desk = host.open_status(b).await;
        assert!(is(&guest.frame().await, "online"));
    }

    async fn guest_receives_offline_when_the_last_tab_of_the_host_on_any_node_is_closed(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let tabs = [host.open_status(a).await, host.open_status(b).await, host.open_status(a).await];
        let mut guest = host.open_guest_status(b).await;
        assert!(is(&guest.frame().await, "online"));
        let [first, second, third] = tabs;
        first.leave().await;
        third.leave().await;
        assert!(!guest.receives_status("offline", Duration::from_millis(1_500)).await);
        let left = std::time::Instant::now();
        second.leave().await;
        assert!(guest.receives_status("offline", Duration::from_secs(20)).await);
        assert!(left.elapsed() < Duration::from_millis(1_500), "{:?}", left.elapsed());
        let _back = host.open_status(a).await;
        assert!(is(&guest.frame().await, "online"));
    }

    async fn reconnection_within_a_second_is_not_reported(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let mut host_socket = host.open_status(a).await;
        host_socket.nothing().await;
        let mut guest = host.open_guest_status(b).await;
        assert!(is(&guest.frame().await, "online"));
        host_socket.leave().await;
        let _again = host.open_status(a).await;
        assert!(!guest.receives_status("offline", Duration::from_millis(1_500)).await);
    }

    async fn reconnecting_host_stays_online_if_no_pause_lasts_a_second(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let mut host_socket = host.open_status(a).await;
        let mut guest = host.open_guest_status(b).await;
        assert!(is(&guest.frame().await, "online"));
        // Each pause is well below one second. The sum of the pauses is well above one second.
        for _ in 0..3 {
            host_socket.leave().await;
            assert!(!guest.receives_status("offline", Duration::from_millis(600)).await);
            host_socket = host.open_status(a).await;
        }
        for _ in 0..10 {
            host_socket.leave().await;
            host_socket = host.open_status(a).await;
        }
        assert!(!guest.receives_status("offline", Duration::from_millis(1_500)).await);
    }

    async fn host_that_logs_out_is_offline_at_once(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let mut host_socket = host.open_status(a).await;
        host_socket.nothing().await;
        let mut guest = host.open_guest_status(b).await;
        assert!(is(&guest.frame().await, "online"));
        let out = std::time::Instant::now();
        host.call(b, Method::POST, "/api/auth/logout/", Value::Null).await;
        assert!(guest.receives_status("offline", Duration::from_secs(20)).await);
        assert!(out.elapsed() < Duration::from_millis(900), "no grace: {:?}", out.elapsed());
        assert_eq!(host_socket.close_code().await, 4001);
    }

    async fn status_socket_notifies_the_host_of_messages_in_all_rooms(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let other = app.host_of("other@other.example", "other.example").await;
        let (mut host_socket, mut elsewhere) = (host.open_status(a).await, other.open_status(a).await);
        host_socket.nothing().await;
        let (one, two) = (Room::open(app, a, &host).await, Room::open(app, b, &host).await);
        let mut guest = one.join(b).await;
        guest.send_text("anybody there?").await;
        assert_eq!(
            host_socket.frame().await,
            json!({
                "type": "notice", "is_host": false, "message": "chat_message", "chatroom": one.name,
                "preview": "anybody there?", "seq": 1, "datetime": NOW,
            })
        );
        two.join(a).await.send_text("another").await;
        assert_eq!(host_socket.frame().await["chatroom"], two.name.as_str());
        // The host is notified of a room with many messages at most once per second. The notice contains the newest
        // message.
        for number in 2..=10 {
            guest.send_text(&format!("message {number}")).await;
        }
        let mut notified = Vec::new();
        while notified.last() != Some(&10) {
            notified.extend(host_socket.frame().await["seq"].as_u64());
        }
        assert!(notified.len() <= 3, "{notified:?}");
        // Messages of the host cause no notification of the host. Other hosts receive no notification of these
        // messages.
        host.join(a, &two).await.frame().await;
        host.join(b, &two).await.send(&message("my own")).await;
        assert!(host_socket.is_quiet_for(Duration::from_millis(1_500)).await);
        elsewhere.nothing().await;
    }

    async fn host_may_hide_the_status(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let mut host_socket = host.open_status(a).await;
        host_socket.nothing().await;
        let mut guest = host.open_guest_status(b).await;
        assert!(is(&guest.frame().await, "online"));
        let path = format!("/api/users/{}/configs/", host.account.id.0);
        let (status, config) = host.call(a, Method::PATCH, &path, json!({"use_online_status": false})).await;
        assert_eq!((status, &config["useOnlineStatus"]), (200, &json!(false)));
        // The guest may receive `online` a second time, from the event that the host is online.
        assert_eq!(guest.close_code_at_last().await, 4009);
        assert_eq!(host_socket.close_code().await, 4009);
        assert_eq!(host.open_guest_status(a).await.close_code().await, 4009);
        assert_eq!(host.open_status(b).await.close_code().await, 4009);
        host.call(b, Method::PATCH, &path, json!({"useOnlineStatus": true})).await;
        crate::support::eventually("the status is shown again", async || {
            let mut host_socket = host.open_status(a).await;
            host_socket.is_admitted().await.then_some(())
        })
        .await;
    }

    async fn status_of_another_host_is_4004_and_an_unregistered_origin_4003(app) {
        let (a, _) = app.two();
        let host = app.host("host@shop.example").await;
        let other = app.host_of("other@other.example", "other.example").await;
        let path = format!("/ws/status/{}/", host.account.uuid);
        let code = Client::open(a, &format!("{path}?token={}", other.token), None).await.close_code().await;
        assert_eq!(code, 4004);
        assert_eq!(Client::open(a, &path, Some("https://other.example")).await.close_code().await, 4003);
        assert_eq!(Client::open(a, &path, None).await.close_code().await, 4003);
        assert_eq!(Client::open(a, &format!("{path}?token=x"), None).await.close_code().await, 4001);
    }

    async fn notices_of_a_host_are_ignored_and_other_types_are_4000(app) {
        let (a, _) = app.two();
        let host = app.host("host@shop.example").await;
        let mut host_socket = host.open_status(a).await;
        host_socket.send(&json!({"type": "notice", "is_host": true, "status": "online", "datetime": "2023-03-23T12:22:12"})).await;
        host_socket.send(&json!({"type": "notice", "message": {"deep": [1]}})).await;
        host_socket.nothing().await;
        host_socket.send(&json!({"type": "chat_message", "message": "hi"})).await;
        assert_eq!(host_socket.close_code().await, 4000);
        let mut guest = host.open_guest_status(a).await;
        guest.frame().await;
        guest.send(&json!({"type": "notice"})).await;
        assert_eq!(guest.close_code_at_last().await, 4000);
    }
}

with_topology! {
    #[clusters]
    async fn host_of_a_draining_node_stays_online_until_it_had_time_to_reconnect(topology) {
        let mut app = TestApp::start(topology).await;
        let (host, absent) = (app.host("host@shop.example").await, app.host("absent@shop.example").await);
        let (mut host_socket, mut other) = (host.open_status(&app.nodes[0]).await, absent.open_status(&app.nodes[0]).await);
        host_socket.nothing().await;
        other.nothing().await;
        let (mut guest, mut waiting) = (host.open_guest_status(&app.nodes[1]).await, absent.open_guest_status(&app.nodes[1]).await);
        for guest in [&mut guest, &mut waiting] {
            assert!(is(&guest.frame().await, "online"));
        }
        let node = app.nodes.remove(0);
        node.shutdown.begin();
        let (code, reason) = host_socket.closed().await;
        let sent_away = std::time::Instant::now();
        assert_eq!((code, other.closed().await.0), (1012, 1012));
        let ms: u64 = reason.trim_start_matches("retry in ").trim_end_matches(" ms").parse().expect("a time");
        // The draining node does not wait for its clients.
        node.ended().await;
        assert!(sent_away.elapsed() < Duration::from_secs(4), "{:?}", sent_away.elapsed());
        let pause = Duration::from_millis(ms).saturating_sub(sent_away.elapsed());
        assert!(!guest.receives_status("offline", pause).await);
        let mut back = host.open_status(&app.nodes[0]).await;
        back.nothing().await;
        // A host who does not reconnect goes offline within 20 seconds. Another node may remove the presence entries of
        // the stopped node only after it has held its own lease for 15 seconds.
        assert!(waiting.receives_status("offline", Duration::from_secs(20).saturating_sub(sent_away.elapsed())).await);
        assert!(sent_away.elapsed() > Duration::from_secs(5), "{:?}", sent_away.elapsed());
        assert!(!guest.receives_status("offline", Duration::from_millis(500)).await);
        app.stop().await;
    }
}

with_topology! {
    #[clusters]
    async fn status_is_read_again_after_the_subscriber_was_disconnected(topology) {
        let app = TestApp::start(topology).await;
        let (a, b) = app.two();
        let hosts = [
            app.host("hides@shop.example").await,
            app.host("out@shop.example").await,
            app.host("gone@shop.example").await,
            app.host("stays@shop.example").await,
        ];
        let (mut host_sockets, mut guests) = (Vec::new(), Vec::new());
        for host in &hosts {
            host_sockets.push(host.open_status(a).await);
            host_sockets.push(host.open_status(b).await);
            guests.push(host.open_guest_status(b).await);
        }
        for host_socket in &mut host_sockets {
            assert!(host_socket.is_admitted().await);
        }
        // Changes a setting, a login and an account only in the database. The changes are not published to the nodes.
        let hide = HostConfig { use_online_status: false, email_notifications: true };
        app.store.hosts().set_config(hosts[0].account.id, hide).await.expect("SQL");
        let sid = app.sid_of(&hosts[1]);
        app.store.logins().end(&sid, SystemClock.now()).await.expect("SQL");
        app.store.hosts().deactivate(hosts[2].account.id, DeactivatedBy::Operator, SystemClock.now()).await.expect("SQL");
        app.redis.as_ref().expect("a cluster").kill_listeners().await;
        for (at, code) in [4009, 4009, 4001, 4001, 4001, 4001].into_iter().enumerate() {
            assert_eq!(host_sockets[at].close_code_at_last().await, code, "{at}");
        }
        assert_eq!(guests[0].close_code_at_last().await, 4009);
        assert!(guests[1].receives_status("offline", Duration::from_secs(2)).await);
        for host_socket in &mut host_sockets[6..] {
            assert!(host_socket.is_admitted().await);
        }
        assert!(!guests[3].receives_status("offline", Duration::from_millis(500)).await);
        app.stop().await;
    }
}
