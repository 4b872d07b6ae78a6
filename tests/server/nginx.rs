//! Two nodes behind a real nginx, with the configuration of helm/README.md.

use reqwest::Method;
use serde_json::Value;

use crate::support::{Client, Host, MYSQL, Room, SHOP, TestApp};

#[path = "../support/nginx.rs"]
mod process;

use process::Nginx;

impl Nginx {
    async fn guest(&self, room: &Room, query: &str) -> Client {
        Client::open_at(self.address, &format!("/ws/chat/{}/{query}", room.name), Some(SHOP)).await
    }

    async fn desk(&self, room: &Room, host: &Host, after: &str) -> Client {
        let path = format!("/ws/chat/{}/?token={}{after}", room.name, host.token);
        Client::open_at(self.address, &path, None).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_nginx_people_talk_across_nodes_and_lose_nothing_when_one_goes_away() {
    let flags = ["--trusted-proxies", "127.0.0.1", "--drain", "1s"];
    let mut app = TestApp::start_with(MYSQL, &flags).await;
    let host = app.host("host@shop.example").await;
    let nginx = Nginx::before(&[app.nodes[0].address, app.nodes[1].address]);

    // A page of the shop opens a room, the host lists it: plain HTTP.
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
    // What is for the operator is not for the world.
    assert_eq!(app.http.get(nginx.url("/metrics")).send().await.expect("an answer").status(), 404);

    // Least connections: the second socket comes to the other node.
    let (mut guest, mut desk) = (nginx.guest(&room, "").await, nginx.desk(&room, &host, "").await);
    for number in 1..=10 {
        guest.say(&format!("question {number}")).await;
        assert_eq!(desk.frame().await["seq"], number * 2 - 1);
        desk.say(&format!("answer {number}")).await;
        assert_eq!(guest.frame().await["seq"], number * 2);
    }

    // One node goes; whoever is sent away comes back by the same address, with the number of what he saw last.
    let gone = app.nodes.remove(0);
    gone.shutdown.begin();
    gone.ended().await;
    let mut sent_away = 0;
    if !guest.is_admitted().await {
        guest = nginx.guest(&room, "?after=20").await;
        sent_away += 1;
    }
    if !desk.is_admitted().await {
        desk = nginx.desk(&room, &host, "&after=20").await;
        sent_away += 1;
    }
    assert_eq!(sent_away, 1, "each node had one of them");
    guest.say("still there?").await;
    assert_eq!(desk.frame().await["seq"], 21);
    desk.say("yes").await;
    assert_eq!(guest.frame().await["seq"], 22);
    let path = format!("{}chat-messages/?limit=1", host.path_of(&app.nodes[0], &room).await);
    let (_, page) = host.call(&app.nodes[0], Method::GET, &path, Value::Null).await;
    assert_eq!(page["count"], 22);

    let log = nginx.log();
    assert!(log.contains("GET /ws/chat/") && !log.contains(&host.token), "{log}");
    drop(nginx);
    app.stop().await;
}
