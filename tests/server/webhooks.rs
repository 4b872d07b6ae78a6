//! Tests webhooks that nodes deliver over HTTP.

use std::io::Write as _;
use std::process::{Command, Stdio};

use pintalk_kit::webhook_receiver::{Received, Receiver, Reply};
use reqwest::Method;
use serde_json::{Value, json};

use crate::readme::blocks;
use crate::support::{Host, Room, TestApp, Topology, eventually};
use crate::with_topology;

/// Flags that permit webhook receivers on this machine.
const FLAGS: [&str; 2] = ["--webhook-private", "127.0.0.1"];

async fn hook(app: &TestApp, host: &Host, url: &str) -> String {
    let path = format!("/api/users/{}/webhook/", host.account.id.0);
    let (status, made) = host.call(app.two().0, Method::PUT, &path, json!({"url": url})).await;
    assert_eq!(status, 201, "{made}");
    made["secret"].as_str().expect("a secret").to_owned()
}

/// Verifies a request with the Python function in src/protocol/README.md, and returns the result.
fn verifies(secret: &str, received: &Received, body: &str) -> bool {
    let [function] = &blocks("src/protocol/README.md", "python")[..] else { panic!("one block") };
    let program = format!(
        "{function}\nimport json, sys\ngiven = json.load(sys.stdin)\n\
         print(is_from_pintalk(given['secret'], given['headers'], given['body'].encode()))"
    );
    let headers: serde_json::Map<String, Value> =
        received.headers.keys().map(|name| (name.to_string(), received.header(name.as_str()).into())).collect();
    let given = json!({"secret": secret, "headers": headers, "body": body});
    let mut python = Command::new("python3")
        .args(["-c", &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3, as tests/run sees to");
    python.stdin.take().expect("its input").write_all(given.to_string().as_bytes()).expect("python reads");
    let said = String::from_utf8(python.wait_with_output().expect("python ends").stdout).expect("text");
    match said.trim() {
        "True" => true,
        "False" => false,
        other => panic!("{other:?}"),
    }
}

with_topology! {
    #[embedded] #[clusters]
    async fn room_events_are_delivered_to_the_webhook(topology) {
        let app = TestApp::start_with(topology, &FLAGS).await;
        let (a, b) = app.two();
        let (host, receiver) = (app.host("host@shop.example").await, Receiver::start().await);
        let secret = hook(&app, &host, &receiver.url()).await;
        let path = format!("/api/users/{}/webhook/", host.account.id.0);
        let (status, test) = host.call(b, Method::POST, &format!("{path}test/"), Value::Null).await;
        assert_eq!((status, &test["delivered"]), (200, &json!(true)), "{test}");

        let room = Room::open(&app, a, &host).await;
        let mut guest = room.join(a).await;
        guest.send_text("anybody there?").await;
        let mut host_socket = host.join(b, &room).await;
        host_socket.frame().await;
        host_socket.send_text("here I am 🙂").await;
        // The receiver rejects the next event until the reply is changed below, so the node sends the event again.
        receiver.reply(Reply::Status(500));
        guest.frame().await;
        guest.send_text("good").await;
        host_socket.frame().await;
        eventually("a try fails", async || {
            let deliveries = host.get(a, &format!("{path}deliveries/")).await;
            let failed = deliveries["results"].as_array()?.iter().any(|event| event["status"] == 500);
            failed.then_some(())
        })
        .await;
        receiver.reply(Reply::Status(204));
        let room_path = host.path_of(a, &room).await;
        assert_eq!(host.call(b, Method::PATCH, &room_path, json!({"isClosed": true})).await.0, 200);

        let events = eventually("all has arrived", async || {
            let deliveries = host.get(b, &format!("{path}deliveries/")).await;
            let all = deliveries["results"].as_array()?.clone();
            (all.len() == 5 && all.iter().all(|event| event["state"] == "delivered")).then_some(all)
        })
        .await;
        let kinds: Vec<&str> = events.iter().rev().filter_map(|event| event["type"].as_str()).collect();
        assert_eq!(kinds, ["room.created", "message.created", "message.created", "message.created", "room.closed"]);

        let came = receiver.received();
        assert_eq!(receiver.different(), 6, "five events and a test: {:?}", receiver.ids());
        assert!(came.len() > 6, "and one of them twice at least");
        assert!(came.iter().all(|event| event.is_signed_with(&secret)));
        let event = came.iter().find(|event| event.json()["data"]["message"]["isHost"] == true).expect("the host's");
        assert!(verifies(&secret, event, &event.body));
        assert!(!verifies(&secret, event, &event.body.replace("here", "gone")));
        assert!(!verifies("whsec_b25l", event, &event.body));
        let event = event.json();
        assert_eq!(event["data"]["message"]["message"], "here I am 🙂");
        assert_eq!(event["data"]["room"]["name"], room.name.as_str());
        assert_eq!(event["data"]["message"]["seq"], 2);
        drop((guest, host_socket));
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_addresses_are_not_called_unless_the_operator_allows_it() {
    let app = TestApp::start(Topology::Embedded).await;
    let (host, receiver) = (app.host("host@shop.example").await, Receiver::start().await);
    let path = format!("/api/users/{}/webhook/", host.account.id.0);
    let (node, port) = (app.two().0, receiver.address.port());
    for refused in [receiver.url(), format!("https://127.0.0.1:{port}/"), format!("https://[::ffff:127.0.0.1]:{port}/")]
    {
        let (status, answer) = host.call(node, Method::PUT, &path, json!({"url": refused})).await;
        assert!(status == 400 && answer["fields"]["url"].is_string(), "{refused}: {answer}");
    }
    // The node resolves and checks the host name of the URL at each delivery.
    let url = format!("https://localhost:{port}/");
    assert_eq!(host.call(node, Method::PUT, &path, json!({"url": url})).await.0, 201);
    let (status, test) = host.call(node, Method::POST, &format!("{path}test/"), Value::Null).await;
    assert_eq!((status, &test["delivered"]), (200, &json!(false)));
    assert_eq!(test["problem"], "the name of the URL leads to no public address");
    assert_eq!(receiver.connections.load(std::sync::atomic::Ordering::SeqCst), 0);
    app.stop().await;
}
