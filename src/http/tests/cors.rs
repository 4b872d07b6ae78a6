//! Tests which pages may call which endpoints and read their responses, and which request headers they may add (SPEC
//! 1).

use std::sync::Arc;

use http::HeaderMap;

use super::JSON;
use crate::http::testing::{ADMIN, Answer, SHOP, TestServer};
use crate::http::{Health, Readiness};

/// Headers that monitoring scripts add to every `fetch` of their page.
const ADDED: &str = "baggage, sentry-trace, traceparent, tracestate, x-datadog-trace-id, x-datadog-origin, newrelic, \
                     elastic-apm-traceparent, x-b3-traceid, b3, uber-trace-id, x-amzn-trace-id, x-cloud-trace-context, \
                     request-id, request-context, x-request-id, x-correlation-id, x-instana-t, x-dtc, dnt";

/// Every guest-side call.
const GUEST_CALLS: [(&str, &str); 3] =
    [("GET", "/api/users/client/"), ("POST", "/api/chat/"), ("PUT", "/api/chat/pQ7xJ2mWcY0tR9vKbN4sZA/contact/")];

fn allowed(answer: &Answer) -> Vec<&str> {
    answer.header("access-control-allow-headers").unwrap().split(", ").collect()
}

fn varies(headers: &HeaderMap) -> Vec<&str> {
    headers.get_all("vary").iter().map(|value| value.to_str().unwrap()).collect()
}

async fn preflight(server: &TestServer, path: &str, origin: &str, method: &str, headers: &str) -> Answer {
    let asked =
        [("origin", origin), ("access-control-request-method", method), ("access-control-request-headers", headers)];
    server.ask("OPTIONS", path, &asked).await
}

pub(super) async fn guest_page_may_send_any_header_and_admin_page_only_listed_ones(server: TestServer) {
    for (method, path) in GUEST_CALLS {
        let answer = preflight(&server, path, SHOP, method, ADDED).await;
        assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (204, Some(SHOP)), "{path}");
        let allowed = allowed(&answer);
        for name in ADDED.split(", ").chain(["x-pintalk-access-key", "content-type"]) {
            assert!(allowed.contains(&name), "{path}: {name}");
        }
        assert_eq!(varies(&answer.headers), ["Access-Control-Request-Headers", "Origin"]);
    }
    let admin = preflight(&server, "/api/auth/login/", ADMIN, "POST", ADDED).await;
    assert!(!allowed(&admin).contains(&"traceparent") && allowed(&admin).contains(&"authorization"));
    assert_eq!(varies(&admin.headers), ["Origin"]);
}

pub(super) async fn a_guest_call_with_headers_of_other_scripts_succeeds(server: TestServer) {
    let [access, secret] = server.keys();
    let long = format!("sentry-trace_id={}", "0123456789abcdef".repeat(500));
    let mut headers = vec![access, secret, ("origin", SHOP), ("baggage", long.as_str()), ("authorization", "Bearer x")];
    headers.extend(
        ADDED.split(", ").skip(1).map(|name| (name, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
    );
    let room = server.ask("POST", "/api/chat/", &headers).await;
    assert_eq!((room.status.as_u16(), room.header("access-control-allow-origin")), (201, Some(SHOP)));
    assert_eq!(server.ask("GET", "/api/users/client/", &headers).await.status, 200);
    let path = format!("/api/chat/{}/contact/", room.json()["name"].as_str().unwrap());
    headers.push(JSON);
    assert_eq!(server.send("PUT", &path, &headers, r#"{"email": "guest@home.example"}"#).await.status, 200);
}

pub(super) async fn header_names_of_a_preflight_are_bounded_and_checked(server: TestServer) {
    let ask = async |headers: &str| {
        let answer = preflight(&server, "/api/chat/", SHOP, "POST", headers).await;
        allowed(&answer).iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    let fixed = ask("").await;
    assert_eq!(ask("Accept,CONTENT-TYPE , x-pintalk-secret-key").await, fixed, "none is listed twice");
    let odd = ask(&format!("*, a b, x\u{e9}, ,x:y, (, \"q\", X-Trace,x-trace, {}", "x".repeat(65))).await;
    assert_eq!(odd[fixed.len()..], ["x-trace"]);
    let many: Vec<String> = (0..100).map(|number| format!("x-{number}")).collect();
    assert_eq!(ask(&many.join(",")).await.len(), fixed.len() + 32);
}

/// Health of a node that is still starting.
struct Starting;

impl Health for Starting {
    fn readiness(&self) -> Readiness {
        Readiness::NotReady { reason: "starting".into(), degraded: false }
    }

    fn has_stores(&self) -> bool {
        false
    }

    fn is_started(&self) -> bool {
        false
    }
}

pub(super) async fn a_guest_page_can_read_every_error_of_its_calls(mut server: TestServer) {
    let host = server.host.clone();
    let keys = [("x-pintalk-access-key", host.access_key.as_str()), ("x-pintalk-secret-key", host.secret_key.as_str())];
    let contact = "/api/chat/pQ7xJ2mWcY0tR9vKbN4sZA/contact/";
    let (page, long) = (("origin", SHOP), "x".repeat(70_000));
    let with_keys = |more: &[(&'static str, &'static str)]| [&keys[..], &[page], more].concat();
    let (client, rooms) = ("/api/users/client/", "/api/chat/");
    let mut answers = vec![
        (400, server.ask("GET", client, &[page]).await),
        (401, server.ask("GET", client, &[("x-pintalk-access-key", "unknown"), keys[1], page]).await),
        (403, server.ask("GET", client, &[keys[0], keys[1], ("origin", "https://other.example")]).await),
        (404, server.send("PUT", contact, &with_keys(&[JSON]), r#"{"email": "guest@home.example"}"#).await),
        (405, server.ask("DELETE", rooms, &with_keys(&[])).await),
        (406, server.ask("GET", client, &with_keys(&[("accept", "text/html")])).await),
        (413, server.send("PUT", contact, &with_keys(&[JSON]), &long).await),
        (415, server.send("PUT", contact, &with_keys(&[("content-type", "text/plain")]), "x").await),
    ];
    let full = loop {
        let answer = server.ask("POST", rooms, &with_keys(&[])).await;
        if answer.status != 201 {
            break answer;
        }
    };
    assert!(full.header("retry-after").is_some());
    answers.push((429, full));
    Arc::get_mut(&mut server.app).unwrap().health = Arc::new(Starting);
    let starting = server.ask("GET", client, &with_keys(&[])).await;
    assert!(starting.header("retry-after").is_some());
    answers.push((503, starting));
    assert_eq!(preflight(&server, client, SHOP, "GET", "traceparent").await.status, 204);
    for (status, answer) in answers {
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (status, &status.into()));
        let origin = answer.header("access-control-allow-origin");
        assert!(origin.is_some_and(|origin| origin.ends_with(".example")), "{answer:?}");
        assert!(answer.header("access-control-expose-headers").unwrap().contains("retry-after"), "{status}");
    }
}
