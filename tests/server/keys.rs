//! The keys of a service change while nodes run (SPEC 2).

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Host, Node, Room, SHOP, TestApp, eventually};
use crate::{on_both, with_topology};

/// What a page of the service is answered with these keys.
async fn status_of(app: &TestApp, node: &Node, keys: &Value) -> u16 {
    let key = |name: &str| keys[name].as_str().expect("a key").to_owned();
    let request = app
        .http
        .get(node.url("/api/users/client/"))
        .header("X-PinTalk-Access-Key", key("accessKey"))
        .header("X-PinTalk-Secret-Key", key("secretKey"))
        .header("Origin", SHOP);
    request.send().await.expect("an answer").status().as_u16()
}

fn keys_of(host: &Host) -> Value {
    json!({"accessKey": host.account.access_key, "secretKey": host.account.secret_key})
}

async fn rotate(host: &Host, node: &Node, body: Value) -> Value {
    let path = format!("/api/users/{}/keys/", host.account.id.0);
    let (status, user) = host.call(node, Method::POST, &path, body).await;
    assert_eq!(status, 200, "{user}");
    user
}

/// Less than a node remembers a host for: what is true by then, it was told.
const TOLD: Duration = Duration::from_secs(3);

/// Waits until a node was told that these keys open nothing.
async fn refused(app: &TestApp, node: &Node, keys: &Value) {
    let refusal = eventually("the keys are refused", async || (status_of(app, node, keys).await == 401).then_some(()));
    tokio::time::timeout(TOLD, refusal).await.expect("the node is told, and does not find out");
}

on_both! {
    async fn replaced_keys_go_on_on_every_node_and_revoked_ones_on_none(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let first = keys_of(&host);
        // Both nodes have seen them, and remember.
        assert_eq!((status_of(app, a, &first).await, status_of(app, b, &first).await), (200, 200));

        let second = rotate(&host, a, Value::Null).await;
        let third = rotate(&host, b, json!({})).await;
        for node in [a, b] {
            for keys in [&first, &second, &third] {
                assert_eq!(status_of(app, node, keys).await, 200);
            }
        }
        // A room that was opened with old keys is a room like any other.
        let room = Room::open(app, b, &host).await;
        room.join(a).await.say("hi").await;

        let fourth = rotate(&host, a, json!({"revokeOld": true})).await;
        for keys in [&first, &second, &third] {
            assert_eq!(status_of(app, a, keys).await, 401);
            refused(app, b, keys).await;
        }
        for node in [a, b] {
            assert_eq!(status_of(app, node, &fourth).await, 200);
        }
        assert_eq!(host.get(b, &format!("/api/users/{}/", host.account.id.0)).await["accessKey"], fourth["accessKey"]);
    }
}

with_topology! {
    #[embedded]
    #[clusters]
    async fn replaced_keys_end_in_time_where_they_are_remembered_too(topology) {
        let app = TestApp::start_with(topology, &["--key-grace", "1500ms"]).await;
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let first = keys_of(&host);
        rotate(&host, a, Value::Null).await;
        assert_eq!((status_of(&app, a, &first).await, status_of(&app, b, &first).await), (200, 200));
        refused(&app, b, &first).await;
        assert_eq!(status_of(&app, a, &first).await, 401);
        app.stop().await;
    }
}

with_topology! {
    #[embedded]
    async fn without_a_grace_replaced_keys_end_at_once(topology) {
        let app = TestApp::start_with(topology, &["--key-grace", "0s"]).await;
        let (a, _) = app.two();
        let host = app.host("host@shop.example").await;
        let second = rotate(&host, a, Value::Null).await;
        assert_eq!((status_of(&app, a, &keys_of(&host)).await, status_of(&app, a, &second).await), (401, 200));
        app.stop().await;
    }
}
