//! Tests two nodes behind a real nginx with the configuration of helm/README.md.

use pintalk_kit::nginx::Nginx;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Host, MYSQL, Room, SHOP, TestApp, Topology};

async fn guest_behind(nginx: &Nginx, room: &Room, query: &str) -> Client {
    Client::open_at(nginx.address, &format!("/ws/chat/{}/{query}", room.name), Some(SHOP)).await
}

async fn host_behind(nginx: &Nginx, room: &Room, host: &Host, after: &str) -> Client {
    let path = format!("/ws/chat/{}/?token={}{after}", room.name, host.token);
    Client::open_at(nginx.address, &path, None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_behind_nginx_exchange_messages_across_nodes_and_lose_nothing_when_one_drains() {
    let flags = ["--trusted-proxies", "127.0.0.1", "--drain", "1s"];
    let mut app = TestApp::start_with(MYSQL, &flags).await;
    let host = app.host("host@shop.example").await;
    let nginx = Nginx::before(&[app.nodes[0].address, app.nodes[1].address]);

    // A page of the shop creates a room through nginx, and the host lists it.
    let request = app.http.post(nginx.url("/api/chat/")).header("Origin", SHOP);
    let request = request.header("X-PinTalk-Access-Key", &host.account.access_key);
    let answer = request.header("X-PinTalk-Secret-Key", &host.account.secret_key).send().await.expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["access-control-allow-origin"]),
        (201, &SHOP.parse().unwrap())
    );
    let body: Value = answer.json().await.expect("JSON");
    let room = Room { name: body["name"].as_str().expect("a name").to_owned(), body };
    let list =
        app.http.get(nginx.url("/api/chat/chatrooms/")).bearer_auth(&host.token).send().await.expect("an answer");
    assert_eq!(list.json::<Value>().await.expect("JSON")["count"], 1);
    // nginx does not expose the operator endpoints.
    assert_eq!(app.http.get(nginx.url("/metrics")).send().await.expect("an answer").status(), 404);

    // nginx selects the node with fewer connections, so it opens the second socket on the other node.
    let (mut guest, mut host_socket) =
        (guest_behind(&nginx, &room, "").await, host_behind(&nginx, &room, &host, "").await);
    for number in 1..=10 {
        guest.send_text(&format!("question {number}")).await;
        assert_eq!(host_socket.frame().await["seq"], number * 2 - 1);
        host_socket.send_text(&format!("answer {number}")).await;
        assert_eq!(guest.frame().await["seq"], number * 2);
    }

    // One node drains. Its clients reconnect through nginx and send the last `seq` that they received.
    let gone = app.nodes.remove(0);
    gone.shutdown.begin();
    gone.ended().await;
    let mut sent_away = 0;
    if !guest.is_admitted().await {
        guest = guest_behind(&nginx, &room, "?after=20").await;
        sent_away += 1;
    }
    if !host_socket.is_admitted().await {
        host_socket = host_behind(&nginx, &room, &host, "&after=20").await;
        sent_away += 1;
    }
    assert_eq!(sent_away, 1, "each node had one of them");
    guest.send_text("still there?").await;
    assert_eq!(host_socket.frame().await["seq"], 21);
    host_socket.send_text("yes").await;
    assert_eq!(guest.frame().await["seq"], 22);
    let path = format!("{}chat-messages/?limit=1", host.path_of(&app.nodes[0], &room).await);
    let (_, page) = host.call(&app.nodes[0], Method::GET, &path, Value::Null).await;
    assert_eq!(page["count"], 22);

    let log = nginx.log();
    assert!(log.contains("GET /ws/chat/") && !log.contains(&host.token), "{log}");
    drop(nginx);
    app.stop().await;
}

/// A proxy exposes the node under `/chat`. It either keeps this prefix or strips it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_reachable_under_a_path_that_nginx_keeps_or_strips() {
    let flags = ["--trusted-proxies", "127.0.0.1", "--public-url", "http://shop.example/chat"];
    let app = TestApp::start_with(Topology::Embedded, &flags).await;
    let host = app.host("host@shop.example").await;
    for strips in [false, true] {
        let nginx = Nginx::under("/chat", strips, &[app.nodes[0].address]);
        let room = publish_under_a_path(&app, &nginx, &host).await;
        let status = format!("/chat/ws/status/{}/?v=2", host.account.uuid);
        let mut status = Client::open_at(nginx.address, &status, Some(SHOP)).await;
        status.send(&json!({"type": "notice", "message": "ping"})).await;
        assert_eq!(status.frame().await["message"], "pong");
        let path = format!("/chat/ws/chat/{}/", room.name);
        let mut guest = Client::open_at(nginx.address, &path, Some(SHOP)).await;
        let mut host_socket = Client::open_at(nginx.address, &format!("{path}?token={}", host.token), None).await;
        guest.send_text("question").await;
        assert_eq!(host_socket.frame().await["message"], "question");
        drop((guest, host_socket, status));

        // Metrics and paths outside the prefix are not exposed, and an unknown file is not found.
        for path in ["/chat/metrics", "/api/users/client/", "/chatx/widget.js", "/chat/none.js"] {
            assert_eq!(app.http.get(nginx.url(path)).send().await.expect("an answer").status(), 404, "{path}");
        }
    }
    app.stop().await;
}

/// Checks requests, pages and links of a node that nginx exposes under `/chat`. Returns a room that a page of the shop
/// created.
async fn publish_under_a_path(app: &TestApp, nginx: &Nginx, host: &Host) -> Room {
    let get = async |path: &str| {
        let answer = app.http.get(nginx.url(path)).bearer_auth(&host.token).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        answer
    };
    let request = app.http.post(nginx.url("/chat/api/chat/")).header("Origin", SHOP);
    let request = request.header("X-PinTalk-Access-Key", &host.account.access_key);
    let answer = request.header("X-PinTalk-Secret-Key", &host.account.secret_key).send().await.expect("an answer");
    let body: Value = answer.json().await.expect("JSON");
    let room = Room { name: body["name"].as_str().expect("a name").to_owned(), body };

    let login = json!({"email": host.account.email, "password": crate::support::people::PASSWORD});
    let login = app.http.post(nginx.url("/chat/api/auth/login/")).json(&login).send().await.expect("an answer");
    let mut cookies = login.headers().get_all("set-cookie").iter().map(|cookie| cookie.to_str().expect("text"));
    let cookie = cookies.next_back().expect("a cookie").to_owned();
    assert!(cookie.starts_with("pintalk_refresh_token=ey") && cookie.contains("; Path=/chat; "), "{cookie}");
    let cookie = cookie.split(';').next().expect("a pair");
    let refreshed = app.http.post(nginx.url("/chat/api/auth/token/refresh/")).header("Cookie", cookie).send().await;
    assert_eq!(refreshed.expect("an answer").status(), 201);

    let docs = get("/chat/api/docs").await.text().await.expect("text");
    for link in docs.split("href=\"/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(link.starts_with("chat/"), "{link}");
        get(&format!("/{link}")).await;
    }
    let document: Value = get("/chat/api/openapi.json").await.json().await.expect("JSON");
    assert_eq!(document["servers"][0]["url"], "http://shop.example/chat");
    for path in ["/chat/", "/chat/widget.js", "/chat/console/", "/chat/health/ready"] {
        get(path).await;
    }
    room
}
