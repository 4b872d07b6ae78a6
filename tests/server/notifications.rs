//! Tests e-mails to absent recipients. Two nodes, which run as processes, send them through a real mail server.

use std::sync::Arc;

use pintalk::accounts::tokens::TokenKeys;
use pintalk::accounts::{Accounts, NewAccount};
use pintalk::domain::Host;
use pintalk::domain::Rng;
use pintalk::domain::clock::SystemClock;
use pintalk::store::Store;
use reqwest::StatusCode;
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use crate::mail::{Cluster, JWT_SECRET, Node};
use crate::support::people::{Client, message};
use crate::support::{SHOP, eventually};

async fn a_host(store: &Store) -> Host {
    let keys = TokenKeys::new(&[JWT_SECRET]).expect("keys");
    let discard_mails = Arc::new(|_| Box::pin(async {}) as futures_util::future::BoxFuture<'static, ()>);
    let accounts = Accounts::new(store.clone(), Arc::new(SystemClock), Rng::from_entropy(), keys, discard_mails);
    let new = NewAccount {
        email: "dev@shop.example".into(),
        password: "pass word".into(),
        service_name: "Shop".into(),
        service_expl: String::new(),
        service_domain: Some("shop.example".into()),
    };
    accounts.create_host(new).await.expect("a host")
}

/// Returns the body of an e-mail with LF instead of CRLF as its line ending.
fn text_of(mail: &Value) -> String {
    mail["body"].as_str().expect("a text").replace("\r\n", "\n")
}

/// Returns the number of all pending notifications, including those that are due in the future.
async fn due(store: &Store) -> usize {
    let some_day = chrono::DateTime::from_timestamp(4_000_000_000, 0).expect("a time");
    store.notifications().due(some_day, 100).await.expect("the database answers").len()
}

/// Makes the pending notification due by moving its `due_at` back by 60 seconds.
async fn a_minute_passes(store: &Store) {
    time_passes(store, "60 SECOND").await;
}

/// Waits until exactly one notification is pending and moves its `due_at` back by `span`, a MySQL interval.
async fn time_passes(store: &Store, span: &str) {
    eventually("one recipient is due", async || (due(store).await == 1).then_some(())).await;
    let earlier = format!("UPDATE notification SET due_at = DATE_SUB(due_at, INTERVAL {span})");
    store.connection().execute_unprepared(&earlier).await.expect("the database answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recipient_without_a_socket_gets_one_email_and_a_guest_unsubscribes_by_its_link() {
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

    // The host has no open socket.
    let mut guest = Client::open_at(nodes[1].address, &chat, Some(SHOP)).await;
    guest.send_text("is anybody there?").await;
    guest.send_text("hello?").await;
    a_minute_passes(&store).await;
    let mail = sink.mail().await;
    assert_eq!((&mail["to"], &mail["tls"]), (&json!(["dev@shop.example"]), &json!(true)));
    assert_eq!(mail["headers"]["Subject"], "PinTalk 새 메시지가 있습니다");
    assert_eq!(mail["headers"]["List-Unsubscribe"], Value::Null);
    let body = text_of(&mail);
    assert!(body.contains("> is anybody there?\n\n> hello?\n"), "{body}");

    // The host joins through another node. While host and guest are present, no notification is due.
    let mut host_socket = Client::open_at(nodes[0].address, &format!("{chat}?token={token}"), None).await;
    assert_eq!(host_socket.frame().await["data"].as_array().map(Vec::len), Some(2));
    host_socket.send_text("here I am").await;
    assert_eq!(guest.frame().await["message"], "here I am");
    guest.send(&message("good")).await;
    assert_eq!(host_socket.frame().await["message"], "good");
    let drained = async || (redis.queued_messages().await == 0).then_some(());
    eventually("all is archived", drained).await;
    assert_eq!(due(&store).await, 0);

    // The guest leaves. The first message of the host then causes an e-mail that asks the guest for consent.
    guest.leave().await;
    eventually("the guest is gone", async || {
        let rooms = http.get(nodes[0].url("/api/chat/chatrooms/")).bearer_auth(&token).send().await.ok()?;
        let rooms = rooms.json::<Value>().await.ok()?;
        (rooms["results"][0]["guestOnline"] == false).then_some(())
    })
    .await;
    host_socket.send_text("one more thing\nfor you\r\rPinTalk security notice").await;
    a_minute_passes(&store).await;
    let path = a_guest_consents(&cluster, &nodes, &store).await;

    // The guest opens the unsubscribe page on one node and confirms it on the other. A contact address with a different
    // tag belongs to the same mailbox and remains unsubscribed.
    let page = http.get(nodes[0].url(&path)).send().await.expect("an answer");
    assert!(page.text().await.expect("a page").contains("<form method=\"post\">"));
    let done = http.post(nodes[1].url(&path)).body("List-Unsubscribe=One-Click").send().await.expect("an answer");
    assert_eq!(done.status(), StatusCode::OK);
    let contact = as_page(http.put(nodes[0].url(&format!("/api/chat/{name}/contact/"))));
    let answer = contact.json(&json!({"email": "Guest+again@mail.example"})).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    host_socket.send_text("are you still there?").await;
    eventually("all is archived", drained).await;
    // A further e-mail for this room may be sent after one hour. The guest has unsubscribed, so no e-mail is sent.
    time_passes(&store, "1 HOUR").await;
    eventually("it is decided", async || (due(&store).await == 0).then_some(())).await;
    assert_eq!(store.mails().count().await, Ok(0));
    assert!(sink.is_empty(), "no mail comes twice");
    drop(nodes);
    store.close().await;
    cluster.database.drop_it().await;
}

/// Checks the e-mails to a guest who is asked for consent and gives it. Returns the path of the unsubscribe link.
async fn a_guest_consents(cluster: &Cluster, nodes: &[Node; 2], store: &Store) -> String {
    let Cluster { sink, http, .. } = cluster;
    let mail = sink.mail().await;
    assert_eq!(mail["to"], json!(["guest@mail.example"]));
    assert_eq!(mail["headers"]["Subject"], "Do you want answers from a PinTalk chat by e-mail?");
    assert_eq!(mail["headers"]["From"], "The Shop <mail@shop.example>");
    assert_eq!(mail["headers"]["List-Unsubscribe"], Value::Null);
    let body = text_of(&mail);
    assert!(body.contains("shop.example") && !body.contains("one more thing") && !body.contains("Shop"), "{body}");
    let path = path_of(&body, "/consent/");
    eventually("the request has left", async || (store.mails().count().await == Ok(0)).then_some(())).await;
    let page = http.get(nodes[1].url(&path)).send().await.expect("an answer");
    assert!(page.text().await.expect("a page").contains("<form method=\"post\">"));
    assert_eq!(due(store).await, 0, "a link scanner changes nothing");

    // The consent button sends this request. The node that receives it releases the e-mails that wait for consent.
    let done = http.post(nodes[1].url(&path)).send().await.expect("an answer");
    assert_eq!(done.status(), StatusCode::OK);
    let mail = sink.mail().await;
    assert_eq!(mail["headers"]["Subject"], "An answer for you on PinTalk");
    assert_eq!(mail["headers"]["List-Unsubscribe-Post"], "List-Unsubscribe=One-Click");
    let body = text_of(&mail);
    let quoted = "> one more thing\n> for you\n>\n> PinTalk security notice\n";
    assert!(body.contains(quoted) && body.contains("https://shop.example/"), "{body}");
    let header = mail["headers"]["List-Unsubscribe"].as_str().expect("a header");
    let link = header.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).expect("a URL");
    assert!(body.contains(link), "{body}");
    path_of(link, "/unsubscribe/")
}

/// Returns the path of the link in `text` that points to this server and contains `kind`.
fn path_of(text: &str, kind: &str) -> String {
    let link = text.split_whitespace().find(|word| word.contains(kind)).expect("a link");
    link.strip_prefix("https://chat.shop.example").expect("of this server").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_that_emails_strangers_is_limited_and_delays_no_email_of_others() {
    let cluster = Cluster::start().await;
    let flags = ["--public-url", "https://chat.shop.example", "--limit-mails-per-host", "3"];
    let nodes = [cluster.node(&flags).await, cluster.node(&flags).await];
    let Cluster { sink, http, .. } = &cluster;
    let store = Store::connect(&cluster.database.url).await.expect("the database answers");
    let host = a_host(&store).await;
    let login = json!({"email": "dev@shop.example", "password": "pass word"});
    let login = http.post(nodes[0].url("/api/auth/login/")).json(&login).send().await.expect("an answer");
    let token = login.json::<Value>().await.expect("JSON")["accessToken"].as_str().expect("a token").to_owned();
    let as_server = |request: reqwest::RequestBuilder| {
        let request = request.header("X-PinTalk-Access-Key", &host.access_key);
        request.header("X-PinTalk-Secret-Key", &host.secret_key).header("Accept-Language", "en")
    };
    for stranger in 0..12 {
        let node = &nodes[stranger % 2];
        let answer = as_server(http.post(node.url("/api/chat/"))).send().await.expect("an answer");
        let name = answer.json::<Value>().await.expect("JSON")["name"].as_str().expect("a name").to_owned();
        let contact = as_server(http.put(node.url(&format!("/api/chat/{name}/contact/"))));
        let email = json!({"email": format!("stranger{stranger}@mail.example")});
        assert_eq!(contact.json(&email).send().await.expect("an answer").status(), StatusCode::OK);
        let mut host_socket = Client::open_at(node.address, &format!("/ws/chat/{name}/?token={token}"), None).await;
        host_socket.send_text("buy at https://evil.example").await;
        host_socket.leave().await;
    }
    eventually("all are due", async || (due(&store).await == 12).then_some(())).await;
    let earlier = "UPDATE notification SET due_at = DATE_SUB(due_at, INTERVAL 60 SECOND)";
    store.connection().execute_unprepared(earlier).await.expect("the database answers");
    for _ in 0..3 {
        let mail = sink.mail().await;
        let text = format!("{} {}", mail["headers"], text_of(&mail));
        assert!(!text.contains("evil.example") && !text.contains("buy at"), "{text}");
    }
    // The host has reached the limit on e-mails to guests. Account e-mails are still sent.
    let reset = json!({"email": "dev@shop.example"});
    let reset = http.post(nodes[1].url("/api/auth/password-reset/")).json(&reset).send().await.expect("an answer");
    assert_eq!(reset.status(), StatusCode::OK);
    assert_eq!(sink.mail().await["to"], json!(["dev@shop.example"]));
    eventually("the others wait", async || (store.mails().count().await == Ok(9)).then_some(())).await;
    assert!(sink.is_empty(), "a limit per host");
    drop(nodes);
    store.close().await;
    cluster.database.drop_it().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_killed_while_sending_loses_only_the_email_in_flight() {
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
    // The node has claimed both e-mails in one batch. The mail server has received the first e-mail but does not
    // respond.
    assert_eq!(sink.mail().await["to"], json!(["slow@shop.example"]));
    drop(killed);
    // Makes the e-mails due five minutes earlier, except those that are being sent. While an e-mail is being sent, its
    // due time equals its expiry.
    execute("UPDATE mail_outbox SET due_at = due_at - INTERVAL 5 MINUTE WHERE due_at < expires_at").await;
    let other = cluster.node(&[]).await;
    assert_eq!(sink.mail().await["to"], json!(["dev@shop.example"]));
    let left = async || (store.mails().count().await == Ok(1)).then_some(());
    eventually("the second e-mail is sent, and the first has expired", left).await;
    assert!(sink.is_empty(), "no mail comes twice");
    drop(other);
    store.close().await;
    cluster.database.drop_it().await;
}
