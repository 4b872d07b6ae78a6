//! Tests of the endpoints for a host's webhook.

use std::time::Duration;

use pintalk_kit::webhook_receiver::{Receiver, Reply};
use serde_json::json;

use super::JSON;
use crate::domain::Control;
use crate::http::testing::TestServer;

pub(super) async fn webhook_secret_is_returned_once(server: TestServer) {
    let (bearer, id) = (server.bearer().await, server.host.id.0);
    let (auth, path) = (("authorization", bearer.as_str()), format!("/api/users/{id}/webhook"));
    assert_eq!(server.ask("GET", &path, &[auth]).await.status, 404);
    assert_eq!(server.ask("POST", &format!("{path}/test/"), &[auth]).await.status, 404);
    assert_eq!(server.ask("POST", &format!("{path}/secret/"), &[auth]).await.status, 404);
    let body = r#"{"url": " https://shop.example/hooks ", "events": ["room.closed", "room.created"], "else": 1}"#;
    let made = server.send("PUT", &path, &[JSON, auth], body).await;
    assert_eq!(made.status, 201);
    let made = made.json();
    let secret = made["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_"));
    let published = std::mem::take(&mut *server.published.lock().unwrap());
    assert_eq!(published, [Control::ConfigChanged { host: server.host.id }], "all nodes must forget the subscription");
    assert_eq!(made["url"], "https://shop.example/hooks");
    assert_eq!(made["events"], json!(["room.created", "room.closed"]));
    assert_eq!(
        (&made["enabled"], &made["goneAt"], &made["oldSecretEndsAt"]),
        (&json!(true), &json!(null), &json!(null))
    );

    let shown = server.ask("GET", &format!("{path}/"), &[auth]).await;
    assert_eq!((shown.status.as_u16(), shown.json()["secret"].is_null()), (200, true));
    let changed =
        server.send("PUT", &path, &[JSON, auth], r#"{"url": "https://shop.example/", "enabled": false}"#).await;
    assert_eq!((changed.status.as_u16(), &changed.json()["enabled"]), (200, &json!(false)));
    assert_eq!(changed.json()["events"], json!(["room.created", "message.created", "room.closed"]));
    assert!(changed.json()["secret"].is_null());

    let rotated = server.ask("POST", &format!("{path}/secret/"), &[auth]).await.json();
    assert!(rotated["secret"] != json!(secret) && rotated["oldSecretEndsAt"].is_string());
    let revoked =
        server.send("POST", &format!("{path}/secret/"), &[JSON, auth], r#"{"revoke_old": true}"#).await.json();
    assert!(revoked["secret"] != rotated["secret"] && revoked["oldSecretEndsAt"].is_null());

    assert_eq!(server.ask("DELETE", &path, &[auth]).await.status, 204);
    assert_eq!(server.ask("DELETE", &path, &[auth]).await.status, 404);
    let allowed = server.ask("PATCH", &path, &[auth]).await;
    assert_eq!((allowed.status.as_u16(), allowed.header("allow")), (405, Some("GET, HEAD, PUT, DELETE, OPTIONS")));
}

pub(super) async fn webhook_is_accessible_only_to_its_host(server: TestServer) {
    let bearer = server.bearer().await;
    let auth = ("authorization", bearer.as_str());
    for (method, rest) in
        [("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "secret/"), ("POST", "test/"), ("GET", "deliveries/")]
    {
        let path = |id: i64| format!("/api/users/{id}/webhook/{rest}");
        let body = r#"{"url": "https://shop.example/"}"#;
        assert_eq!(
            server.send(method, &path(server.host.id.0 + 1), &[JSON, auth], body).await.status,
            403,
            "{method} {rest}"
        );
        assert_eq!(server.send(method, &path(server.host.id.0), &[JSON], body).await.status, 401, "{method} {rest}");
    }
}

pub(super) async fn invalid_webhook_fields_are_reported(server: TestServer) {
    let (bearer, path) = (server.bearer().await, format!("/api/users/{}/webhook/", server.host.id.0));
    let auth = ("authorization", bearer.as_str());
    for (body, field) in [
        (r#"{}"#, "url"),
        (r#"{"url": "shop.example"}"#, "url"),
        (r#"{"url": "ftp://shop.example/"}"#, "url"),
        (r#"{"url": "https://me:secret@shop.example/"}"#, "url"),
        (r#"{"url": "https://10.0.0.1/"}"#, "url"),
        (r#"{"url": "https://169.254.169.254/latest/"}"#, "url"),
        (r#"{"url": "https://[::ffff:10.0.0.1]/"}"#, "url"),
        (r#"{"url": "http://8.8.8.8/"}"#, "url"),
        (r#"{"url": "https://shop.example/", "events": []}"#, "events"),
        (r#"{"url": "https://shop.example/", "events": ["room.opened"]}"#, "events"),
        (r#"{"url": "https://shop.example/", "events": "room.created"}"#, "events"),
        (r#"{"url": null}"#, "url"),
        (r#"{"url": "https://shop.example/", "enabled": "yes"}"#, "enabled"),
    ] {
        let answer = server.send("PUT", &path, &[JSON, auth], body).await;
        assert!(answer.status == 400 && answer.json()["fields"][field].is_string(), "{body}: {answer:?}");
    }
    assert_eq!(server.ask("GET", &path, &[auth]).await.status, 404, "nothing was set");
}

pub(super) async fn webhook_test_returns_the_receivers_response(server: TestServer) {
    let (bearer, path) = (server.bearer().await, format!("/api/users/{}/webhook/", server.host.id.0));
    let (auth, receiver) = (("authorization", bearer.as_str()), Receiver::start().await);
    let body = json!({"url": receiver.url(), "enabled": false}).to_string();
    let secret = server.send("PUT", &path, &[JSON, auth], body).await.json()["secret"].as_str().unwrap().to_owned();
    let test = async || server.ask("POST", &format!("{path}test/"), &[auth]).await;
    let answer = test().await.json();
    assert_eq!(
        (&answer["delivered"], &answer["status"], &answer["problem"]),
        (&json!(true), &json!(200), &json!(null))
    );
    assert!(answer["milliseconds"].is_number());
    let ping = receiver.received().remove(0);
    assert!(ping.json()["type"] == "ping" && ping.json()["id"] == ping.id() && ping.is_signed_with(&secret));
    receiver.reply(Reply::Status(404));
    let answer = test().await.json();
    assert_eq!((&answer["delivered"], &answer["status"]), (&json!(false), &json!(404)));
    assert_eq!(answer["problem"], "answered 404");
    assert!(receiver.different() == 2, "each test is one of its own");
    // No process listens on port 1.
    server.send("PUT", &path, &[JSON, auth], r#"{"url": "http://127.0.0.1:1/"}"#).await;
    let answer = test().await.json();
    assert_eq!((&answer["delivered"], &answer["status"]), (&json!(false), &json!(null)));
    assert!(answer["problem"].as_str().unwrap().starts_with("cannot be reached"));
    for _ in 0..7 {
        assert_eq!(test().await.status, 200);
    }
    let refused = test().await;
    assert!(refused.status == 429 && refused.header("retry-after") == Some("6"), "{refused:?}");
    server.clock.advance(Duration::from_secs(6));
    assert_eq!(test().await.status, 200);
}

pub(super) async fn host_lists_results_of_recent_events(server: TestServer) {
    let (bearer, path) = (server.bearer().await, format!("/api/users/{}/webhook/", server.host.id.0));
    let auth = ("authorization", bearer.as_str());
    let deliveries = async || server.ask("GET", &format!("{path}deliveries/"), &[auth]).await.json()["results"].clone();
    assert_eq!(deliveries().await, json!([]));
    server.send("PUT", &path, &[JSON, auth], r#"{"url": "https://shop.example/"}"#).await;
    let mut ids = Vec::new();
    for _ in 0..60 {
        ids.push(server.app.rooms.open(&server.host, None).await.unwrap().id.0);
    }
    let shown = deliveries().await;
    let newest: Vec<i64> = shown.as_array().unwrap().iter().map(|event| event["chatroom"].as_i64().unwrap()).collect();
    ids.reverse();
    assert_eq!(newest, ids[..50]);
    let event = &shown[0];
    assert_eq!(
        (&event["type"], &event["state"], &event["attempts"]),
        (&json!("room.created"), &json!("waiting"), &json!(0))
    );
    assert!(
        event["id"].as_str().unwrap().starts_with("evt_") && event["dueAt"].is_string() && event["triedAt"].is_null()
    );
}
