//! Tests changes to service keys and accounts on running nodes (SPEC 2).

use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Host, Node, Room, SHOP, TestApp, Topology, eventually};
use crate::{on_both, with_topology};

/// Returns the status of a request from a guest's page with these keys.
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

/// Maximum time for a published change to take effect. Cached hosts live longer, so within this time a cache expiry
/// cannot be the cause.
const PUBLISHED: Duration = Duration::from_secs(3);

/// Waits until a node rejects these keys, for at most [`PUBLISHED`].
async fn refused(app: &TestApp, node: &Node, keys: &Value) {
    let refusal = eventually("the keys are refused", async || (status_of(app, node, keys).await == 401).then_some(()));
    tokio::time::timeout(PUBLISHED, refusal).await.expect("the change is published");
}

on_both! {
    async fn replaced_keys_stay_valid_on_every_node_and_revoked_keys_on_none(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let first = keys_of(&host);
        // Both nodes have the keys in their caches after these requests.
        assert_eq!((status_of(app, a, &first).await, status_of(app, b, &first).await), (200, 200));

        let second = rotate(&host, a, Value::Null).await;
        let third = rotate(&host, b, json!({})).await;
        for node in [a, b] {
            for keys in [&first, &second, &third] {
                assert_eq!(status_of(app, node, keys).await, 200);
            }
        }
        // The old keys still create rooms, and these rooms are usable.
        let room = Room::open(app, b, &host).await;
        room.join(a).await.send_text("hi").await;

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
    async fn replaced_keys_expire_in_caches_too(topology) {
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
    async fn without_a_grace_period_replaced_keys_expire_at_once(topology) {
        let app = TestApp::start_with(topology, &["--key-grace", "0s"]).await;
        let (a, _) = app.two();
        let host = app.host("host@shop.example").await;
        let second = rotate(&host, a, Value::Null).await;
        assert_eq!((status_of(&app, a, &keys_of(&host)).await, status_of(&app, a, &second).await), (401, 200));
        app.stop().await;
    }
}

/// Runs `pintalk user …` on the stores of a running server and returns its output.
async fn operate(app: &TestApp, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pintalk"));
    command.arg("user").args(args).arg("--database-url").arg(app.database_url());
    for name in ["PINTALK_REDIS_URL", "PINTALK_KEY_GRACE", "PINTALK_USER_PASSWORD"] {
        command.env_remove(name);
    }
    if let Some(redis) = &app.redis {
        command.arg("--redis-url").arg(redis.url());
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("the program");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

with_topology! {
    #[clusters]
    async fn operator_disables_a_host_and_every_node_disconnects_its_sockets(topology) {
        assert_ne!(topology, Topology::Embedded);
        let app = TestApp::start(topology).await;
        let (a, b) = app.two();
        let (host, other) = (app.host("host@shop.example").await, app.host("other@shop.example").await);
        let room = Room::open(&app, a, &host).await;
        let (mut on_a, mut on_b) = (host.join(a, &room).await, host.open_status(b).await);
        let mut kept = other.open_status(b).await;
        on_a.send_text("here").await;
        assert_eq!(operate(&app, &["disable", "Host@Shop.example"]).await, "host@shop.example is disabled\n");
        assert_eq!((on_a.close_code_at_last().await, on_b.close_code_at_last().await), (4001, 4001));
        for node in [a, b] {
            refused(&app, node, &keys_of(&host)).await;
            assert_eq!(host.call(node, Method::GET, "/api/chat/chatrooms/", Value::Null).await.0, 401);
        }
        assert!(kept.is_admitted().await);

        operate(&app, &["enable", &host.account.id.0.to_string()]).await;
        eventually("the keys are known again", async || {
            (status_of(&app, b, &keys_of(&host)).await == 200).then_some(())
        })
        .await;
        assert_eq!(host.call(b, Method::GET, "/api/chat/chatrooms/", Value::Null).await.0, 401, "the old login stays ended");
        let back = host.again(&app).await;
        assert!(back.join(b, &room).await.is_admitted().await);
        app.stop().await;
    }
}

with_topology! {
    #[clusters]
    async fn operator_changes_password_and_keys_and_every_node_applies_it(topology) {
        let app = TestApp::start(topology).await;
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        let mut socket = host.open_status(b).await;
        assert_eq!((status_of(&app, a, &keys_of(&host)).await, status_of(&app, b, &keys_of(&host)).await), (200, 200));

        let rotated = operate(&app, &["rotate-keys", "host@shop.example", "--revoke-old", "--json"]).await;
        let rotated: Value = serde_json::from_str(&rotated).expect("JSON");
        for node in [a, b] {
            refused(&app, node, &keys_of(&host)).await;
            assert_eq!(status_of(&app, node, &rotated).await, 200);
        }

        let printed = operate(&app, &["reset-password", "host@shop.example", "--generate"]).await;
        assert_eq!(socket.close_code_at_last().await, 4001);
        for (password, status) in [(printed.trim(), 200), (crate::support::people::PASSWORD, 401)] {
            let login = json!({"email": "host@shop.example", "password": password});
            let answer = app.http.post(b.url("/api/auth/login/")).json(&login).send().await.expect("an answer");
            assert_eq!(answer.status(), status);
        }
        app.stop().await;
    }
}
