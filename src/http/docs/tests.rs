use std::collections::BTreeSet;

use chrono::DateTime;
use serde_json::json;

use super::testing::validate;
use super::*;
use crate::domain::{ChatroomId, CloseCause, Message, RoomName, Side, WallClock};
use crate::http::routes::TABLE;
use crate::protocol::chat::{self, StoredFrame};
use crate::protocol::status;
use crate::protocol::webhook::{self, EventRoom};

const URL: &str = "https://chat.example/talk";

fn calls() -> Value {
    serde_json::to_value(openapi::document(URL)).unwrap()
}

#[test]
fn exactly_the_calls_of_the_route_table_are_documented() {
    let document = calls();
    let mut documented = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            documented.insert(format!("{method} {path}"));
            assert!(ids.insert(operation["operationId"].to_string()), "{method} {path} has another's name");
        }
    }
    let table: BTreeSet<String> = TABLE
        .iter()
        .flat_map(|route| route.calls.iter().map(|(verb, _)| format!("{verb:?} {}", route.template)))
        .map(|call| call.replacen(char::is_uppercase, &call[..1].to_lowercase(), 1))
        .collect();
    assert_eq!(documented, table);
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["servers"][0]["url"], URL);
}

/// Collects every `$ref` of a document.
fn references(document: &Value, found: &mut BTreeSet<String>) {
    match document {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_reference_of_a_document_resolves() {
    for document in [calls(), asyncapi::document(URL)] {
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 10);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}

#[test]
fn page_shows_every_call_frame_and_close_code_and_loads_nothing() {
    let page = docs(URL).into_iter().find(|page| page.path() == "/api/docs").unwrap();
    let html = String::from_utf8(page.bytes().to_vec()).unwrap().replace("&#x27;", "'");
    for route in TABLE {
        assert!(html.contains(route.template), "{}", route.template);
    }
    for kind in calls()["webhooks"].as_object().unwrap().keys() {
        assert!(html.contains(&format!("<article id=\"{kind}\">")), "{kind}");
    }
    let sockets = asyncapi::document(URL);
    for operation in sockets["operations"].as_object().unwrap().values() {
        let summary = operation["summary"].as_str().unwrap().split('`').next().unwrap();
        assert!(html.contains(summary), "{summary}");
    }
    for code in sockets["x-close-codes"].as_array().unwrap() {
        assert!(html.contains(&format!("<th>{}</th>", code["code"])), "{code}");
    }
    // The page contains no scripts, its links resolve, and no template syntax remains.
    assert!(!html.contains("<script") && !html.contains("src=") && !html.contains("{{") && !html.contains("{%"));
    for link in html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        let is_there = match link.strip_prefix('#') {
            Some(id) => html.contains(&format!("id=\"{id}\"")),
            None => docs(URL).iter().any(|page| link.strip_prefix("/talk") == Some(page.path())),
        };
        assert!(is_there, "{link}");
    }
}

#[test]
fn sockets_and_calls_have_the_same_server() {
    let server = &asyncapi::document(URL)["servers"]["pintalk"];
    assert_eq!((&server["host"], &server["protocol"]), (&"chat.example".into(), &"wss".into()));
    assert_eq!(server["pathname"], "/talk");
    let server = &asyncapi::document("http://[::1]:8080")["servers"]["pintalk"];
    assert_eq!((&server["host"], &server["protocol"]), (&"[::1]:8080".into(), &"ws".into()));
    assert_eq!(server["pathname"], Value::Null);
}

/// Validates a frame against the message named `message`.
fn fits(message: &str, frame: &[u8]) {
    let document = asyncapi::document(URL);
    let payload = &document["components"]["messages"][message]["payload"];
    assert!(payload.is_object(), "{message}");
    validate(payload, &serde_json::from_slice(frame).unwrap());
}

#[test]
fn frames_match_the_document() {
    let at: WallClock = "2023-03-23T08:15:77.5".parse().unwrap();
    let id = "abc".parse().unwrap();
    let mut delivery = chat::message_head(Side::Guest, "hi", &at, &id);
    delivery.extend_from_slice(b"7}");
    fits("delivery", &delivery);
    fits("history", &chat::history_frame([&*delivery], false));
    fits("history", &chat::history_frame([&*delivery, &*delivery], true));
    fits("closed", &chat::closed_frame(&at));
    fits("typing", &chat::typing_frame(Side::Guest, &at));
    fits("read", &chat::read_frame(Side::Host, 7, &at));
    fits("pong", &chat::pong_frame(&at));
    fits("ask", &status::guest_frame(&at));
    fits("status", &status::status_frame(true, &at));
    fits("status", &status::status_frame(false, &at));
    let stored: StoredFrame<'_> = serde_json::from_slice(&delivery).unwrap();
    fits("arrival", &status::arrival_frame(RoomName::from_random([7; 16]), &stored));
}

#[test]
fn events_match_the_document() {
    let (id, name, at) = (ChatroomId(3), RoomName::from_random([7; 16]), DateTime::UNIX_EPOCH);
    let room = EventRoom::new(id, &name, "a guest");
    let message = Message {
        chatroom: id,
        seq: 9,
        side: Side::Host,
        text: "hi".into(),
        datetime: "2023-03-23T08:15:77".parse().unwrap(),
        id: "m-1".parse().unwrap(),
        accepted_at: at,
    };
    let document = calls();
    let mut encoded = BTreeSet::new();
    for body in [
        webhook::room_created(room, at),
        webhook::message_created(room, &message),
        webhook::room_closed(room, 4, CloseCause::Idle, at),
        webhook::ping("evt_x", at),
    ] {
        let body: Value = serde_json::from_str(&body).unwrap();
        let kind = body["type"].as_str().unwrap();
        let schema = &document["webhooks"][kind]["post"]["requestBody"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{kind}");
        validate(&json!({"allOf": [schema], "components": document["components"]}), &body);
        // The document lists exactly the fields of the event's data.
        let data = schema["$ref"].as_str().and_then(|at| document.pointer(&at[1..])).unwrap();
        let data = data["properties"]["data"]["$ref"].as_str().and_then(|at| document.pointer(&at[1..])).unwrap();
        let of = |fields: &Value| fields.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        let (actual, documented): (BTreeSet<String>, BTreeSet<String>) = (of(&body["data"]), of(&data["properties"]));
        assert_eq!(actual, documented, "{kind}");
        encoded.insert(kind.to_owned());
    }
    assert_eq!(encoded, document["webhooks"].as_object().unwrap().keys().cloned().collect());
}

#[test]
fn documented_client_frames_are_accepted() {
    let document = asyncapi::document(URL);
    let mut read = 0;
    for operation in document["operations"].as_object().unwrap().values() {
        let is_chat = operation["channel"]["$ref"] == "#/channels/chat";
        let message = operation["messages"][0]["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        for example in document["components"]["messages"][message]["examples"].as_array().unwrap() {
            let text = example["payload"].to_string();
            fits(message, text.as_bytes());
            if operation["action"] == "receive" {
                read += 1;
                match is_chat {
                    true => drop(chat::InboundChat::parse(&text).unwrap()),
                    false => drop(status::InboundStatus::parse(Side::Guest, &text).unwrap()),
                }
            }
        }
    }
    assert!(read >= 8, "{read}");
}
