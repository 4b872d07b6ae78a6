//! Mails to who was not in the room, from two nodes as an operator runs them, over a real mail server.

use std::sync::Arc;

use pintalk::accounts::tokens::TokenKeys;
use pintalk::accounts::{Accounts, NewAccount};
use pintalk::clock::{Chance, SystemClock};
use pintalk::domain::Host;
use pintalk::store::Store;
use reqwest::StatusCode;
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use crate::mail::{Cluster, JWT_SECRET};
use crate::support::people::{Client, message};
use crate::support::{SHOP, eventually};

async fn a_host(store: &Store) -> Host {
    let keys = TokenKeys::new(&[JWT_SECRET]).expect("keys");
    let nobody = Arc::new(|_| Box::pin(async {}) as futures_util::future::BoxFuture<'static, ()>);
    let accounts = Accounts::new(store.clone(), Arc::new(SystemClock), Chance::from_entropy(), keys, nobody);
    let new = NewAccount {
        email: "dev@shop.example".into(),
        password: "pass word".into(),
        service_name: "Shop".into(),
        service_expl: String::new(),
        service_domain: Some("shop.example".into()),
    };
    accounts.create_host(new).await.expect("a host")
}

/// What a mail says, its lines as they are here.
fn text_of(mail: &Value) -> String {
    mail["body"].as_str().expect("a text").replace("\r\n", "\n")
}

/// How many are due, now or later.
async fn due(store: &Store) -> usize {
    let some_day = chrono::DateTime::from_timestamp(4_000_000_000, 0).expect("a time");
    store.due_notifications(some_day, 100).await.expect("the database answers").len()
}

/// Lets the minute pass that somebody has to be away: it is in the database, for all nodes.
async fn a_minute_passes(store: &Store) {
    eventually("somebody is due", async || (due(store).await == 1).then_some(())).await;
    let earlier = "UPDATE notification SET due_at = DATE_SUB(due_at, INTERVAL 60 SECOND)";
    store.connection().execute_unprepared(earlier).await.expect("the database answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_in_the_room_on_no_node_gets_one_mail_and_a_guest_ends_them_by_its_link() {
    let cluster = Cluster::start().await;
    let address = ["--public-url", "https://chat.shop.example"];
    let nodes = [cluster.node(&address).await, cluster.node(&address).await];
    let Cluster { sink, redis, http, .. } = &cluster;
    let store = Store::connect(&cluster.database.url).await.expect("the database answers");
    let host = a_host(&store).await;
    let login = json!({"email": "dev@shop.example", "password": "pass word"});
    let login = http.post(nodes[0].url("/api/auth/login/")).json(&login).send().await.expect("an answer");
    let token = login.json::<Value>().await.expect("JSON")["accessToken"].as_str().expect("a token").to_owned();
    let as_page = |request: reqwest::RequestBuilder| {
        let request = request.header("X-PinTalk-Access-Key", &host.access_key).header("Origin", SHOP);
        request.header("X-PinTalk-Secret-Key", &host.secret_key).header("Accept-Language", "en")
    };
    let answer = as_page(http.post(nodes[0].url("/api/chat/"))).send().await.expect("an answer");
    let name = answer.json::<Value>().await.expect("JSON")["name"].as_str().expect("a name").to_owned();
    let contact = as_page(http.put(nodes[1].url(&format!("/api/chat/{name}/contact/"))));
    let answer = contact.json(&json!({"email": "guest@mail.example"})).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let chat = format!("/ws/chat/{name}/");

    // The host is nowhere.
    let mut guest = Client::open_at(nodes[1].address, &chat, Some(SHOP)).await;
    guest.say("is anybody there?").await;
    guest.say("hello?").await;
    a_minute_passes(&store).await;
    let mail = sink.mail().await;
    assert_eq!((&mail["to"], &mail["tls"]), (&json!(["dev@shop.example"]), &json!(true)));
    assert_eq!(mail["headers"]["Subject"], "PinTalk 새 메시지가 있습니다");
    assert_eq!(mail["headers"]["List-Unsubscribe"], Value::Null);
    let body = text_of(&mail);
    assert!(body.contains("> is anybody there?\n\n> hello?\n"), "{body}");

    // He comes, on another node; while both are there nobody is due.
    let mut desk = Client::open_at(nodes[0].address, &format!("{chat}?token={token}"), None).await;
    assert_eq!(desk.frame().await["data"].as_array().map(Vec::len), Some(2));
    desk.say("here I am").await;
    assert_eq!(guest.frame().await["message"], "here I am");
    guest.send(&message("good")).await;
    assert_eq!(desk.frame().await["message"], "good");
    let drained = async || (redis.queued_messages().await == 0).then_some(());
    eventually("all is archived", drained).await;
    assert_eq!(due(&store).await, 0);

    // The guest goes, and is answered in his language.
    guest.leave().await;
    eventually("the guest is gone", async || {
        let rooms = http.get(nodes[0].url("/api/chat/chatrooms/")).bearer_auth(&token).send().await.ok()?;
        let rooms = rooms.json::<Value>().await.ok()?;
        (rooms["results"][0]["guestOnline"] == false).then_some(())
    })
    .await;
    desk.say("one more thing\nfor you").await;
    a_minute_passes(&store).await;
    let mail = sink.mail().await;
    assert_eq!(mail["to"], json!(["guest@mail.example"]));
    assert_eq!(mail["headers"]["Subject"], "An answer for you on PinTalk");
    assert_eq!(mail["headers"]["List-Unsubscribe-Post"], "List-Unsubscribe=One-Click");
    let body = text_of(&mail);
    assert!(body.contains("> one more thing\n> for you\n") && body.contains("https://shop.example/"), "{body}");
    let header = mail["headers"]["List-Unsubscribe"].as_str().expect("a header");
    let link = header.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).expect("a URL");
    let path = link.strip_prefix("https://chat.shop.example").expect("of this server");
    assert!(body.contains(link), "{body}");

    // He wants no more: any node takes that.
    let page = http.get(nodes[0].url(path)).send().await.expect("an answer");
    assert!(page.text().await.expect("a page").contains("<form method=\"post\">"));
    assert_eq!(store.contact(only_room(&store, &host).await).await, Ok(Some("guest@mail.example".to_owned())));
    let done = http.post(nodes[1].url(path)).body("List-Unsubscribe=One-Click").send().await.expect("an answer");
    assert_eq!(done.status(), StatusCode::OK);
    assert_eq!(store.contact(only_room(&store, &host).await).await, Ok(None));
    Client::open_at(nodes[1].address, &chat, Some(SHOP)).await.leave().await;
    desk.say("are you still there?").await;
    eventually("all is archived", drained).await;
    assert_eq!((due(&store).await, store.waiting_mails().await), (0, Ok(0)));
    assert!(sink.is_empty(), "no mail comes twice");
    drop(nodes);
    store.close().await;
    cluster.database.drop_it().await;
}

async fn only_room(store: &Store, host: &Host) -> pintalk::domain::ChatroomId {
    let filter = pintalk::store::RoomFilter::default();
    let (_, rooms) = store.rooms_of(host.id, filter, 0, 10).await.expect("the database answers");
    rooms.first().expect("a room").id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_while_it_sends_costs_the_mail_it_was_sending_and_no_other() {
    let cluster = Cluster::start().await;
    let killed = cluster.node(&[]).await;
    let sink = &cluster.sink;
    let store = Store::connect(&cluster.database.url).await.expect("the database answers");
    let execute = async |sql: &str| store.connection().execute_unprepared(sql).await.expect("the database answers");
    execute(
        "INSERT INTO mail_outbox (recipient, subject, body, attempts, due_at, expires_at, at_most_once) VALUES \
         ('slow@shop.example', 'first', '1', 0, UTC_TIMESTAMP(3) - INTERVAL 1 SECOND, UTC_TIMESTAMP(3) + INTERVAL 1 DAY, 1), \
         ('dev@shop.example', 'second', '2', 0, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3) + INTERVAL 1 DAY, 1)",
    )
    .await;
    // Taken together; the mail server has the first, and does not say so.
    assert_eq!(sink.mail().await["to"], json!(["slow@shop.example"]));
    drop(killed);
    // Five minutes later, for all nodes. One that is being sent is due when it expires.
    execute("UPDATE mail_outbox SET due_at = due_at - INTERVAL 5 MINUTE WHERE due_at < expires_at").await;
    let other = cluster.node(&[]).await;
    assert_eq!(sink.mail().await["to"], json!(["dev@shop.example"]));
    let left = async || (store.waiting_mails().await == Ok(1)).then_some(());
    eventually("the second is out of the box, the first helps nobody any more", left).await;
    assert!(sink.is_empty(), "no mail comes twice");
    drop(other);
    store.close().await;
    cluster.database.drop_it().await;
}
