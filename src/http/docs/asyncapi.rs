//! AsyncAPI 3 document for the chat and status sockets. `receive` and `send` are from the server's point of view, as
//! the standard requires.

use std::time::Duration;

use serde_json::{Map, Value, json};
use url::Url;

use crate::domain::MessageId;
use crate::protocol::close::Close;

const ABOUT: &str = "Plain WebSockets, text frames of JSON. A guest is admitted by the `Origin` of his page, a host by an access \
    token in the query. A connection that is refused is accepted and then closed, so that a browser can read the code. A client \
    that lost its socket connects again with `?after=` and the highest `seq` it saw, and misses nothing. Notices describe a state: \
    while one waits for a slow client, the next of its kind replaces it. With `?v=2`, either kind of socket answers the notice \
    `ping` with `pong`. Nodes of earlier releases ignore it, so a client treats a connection as dead only after this socket \
    has answered once.";

const DATETIME: &str = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?$";
const NAME: &str = "^[A-Za-z0-9_-]{22}$";

/// Returns the document for a server at `public_url`.
pub(super) fn document(public_url: &str) -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {"title": "PinTalk sockets", "version": env!("CARGO_PKG_VERSION"), "description": ABOUT},
        "defaultContentType": "application/json",
        "servers": {"pintalk": server(public_url)},
        "channels": {"chat": chat(), "status": status()},
        "operations": operations(),
        "components": {"messages": messages()},
        "x-close-codes": close_codes(),
    })
}

fn server(public_url: &str) -> Value {
    // Configuration accepts only URLs with a host, so parsing succeeds.
    let url = Url::parse(public_url).ok();
    let host = url.as_ref().map(|url| &url[url::Position::BeforeHost..url::Position::AfterPort]).unwrap_or_default();
    let path = url.as_ref().map(|url| url.path().trim_end_matches('/')).unwrap_or_default();
    let is_tls = url.as_ref().is_some_and(|url| url.scheme() == "https");
    let mut server = json!({"host": host, "protocol": if is_tls { "wss" } else { "ws" }});
    if !path.is_empty() {
        server["pathname"] = path.into();
    }
    server
}

fn chat() -> Value {
    channel(
        "/ws/chat/{name}/",
        "One chatroom. On joining, the newest 50 messages come in one frame; with `after`, all that came after that number. A \
         guest who connects to a closed room reopens it.",
        json!({"name": {"description": "The `name` of the room: 22 characters."}}),
        json!({
            "token": {"type": "string", "description": "A host's access token. A guest has none."},
            "after": {"type": "integer", "minimum": 0, "description": "The highest `seq` that a reconnecting client saw."},
            "v": {"type": "integer", "minimum": 1, "description": "2: also receives `typing`, `read` and `pong`, and may be \
                counted as away. Without it, only the frames of the first version are sent."},
        }),
        &RECEIVED_IN_CHAT.iter().chain(&SENT_IN_CHAT).map(|(_, message, _)| *message).collect::<Vec<_>>(),
    )
}

fn status() -> Value {
    channel(
        "/ws/status/{hostUuid}/",
        "Whether a host is online: he is while one of these sockets of his is open. Also at \
         `/ws/chat/{hostUuid}/status/`. A host receives a notice here of guests' messages in any of the host's rooms, \
         and at most once per second and node that a guest is present.",
        json!({"hostUuid": {"description": "The `uuid` of the host: 22 characters."}}),
        json!({
            "token": {"type": "string", "description": "The host's access token. A guest has none."},
            "v": {"type": "integer", "minimum": 1, "description": "2: receives a `pong` for each `ping`."},
        }),
        &RECEIVED_OF_STATUS.iter().chain(&SENT_OF_STATUS).map(|(_, message, _)| *message).collect::<Vec<_>>(),
    )
}

fn channel(address: &str, about: &str, parameters: Value, query: Value, messages: &[&str]) -> Value {
    let messages: Map<String, Value> = messages
        .iter()
        .map(|name| ((*name).to_owned(), json!({"$ref": format!("#/components/messages/{name}")})))
        .collect();
    json!({
        "address": address,
        "description": about,
        "parameters": parameters,
        "messages": messages,
        "bindings": {"ws": {"method": "GET", "query": {"type": "object", "properties": query}}},
    })
}

/// Operation, message and purpose.
type Words = (&'static str, &'static str, &'static str);

const RECEIVED_IN_CHAT: [Words; 9] = [
    ("say", "message", "Says something to everybody in the room."),
    ("askForOlder", "request", "Asks for the 50 messages before a point."),
    ("closeRoom", "close", "The host closes the room. A guest who tries is closed with 4003."),
    ("type", "typing", "Tells the others that somebody is typing; relayed at most once a second, and not stored."),
    ("read", "read", "Tells the others how far one has read. The host's also sets `lastCheckedAt`."),
    ("askWhetherOnline", "ask", "A guest asks whether the host is online."),
    ("ping", "ping", "Asks for a `pong`. With `v=2`; ignored otherwise."),
    (
        "goAway",
        "away",
        "The host's page is not being looked at: the host counts as absent for reading and e-mails. With `v=2`; ignored otherwise.",
    ),
    ("comeBack", "back", "Ends `away`."),
];

const SENT_IN_CHAT: [Words; 7] = [
    (
        "deliver",
        "delivery",
        "A message, to everybody in the room. To its sender it is the acknowledgement: it is stored.",
    ),
    ("deliverHistory", "history", "Older messages: on joining, after `?after=`, or as asked for."),
    ("tellClosed", "closed", "The host closed the room; close code 1000 follows."),
    ("relayTyping", "typing", "The other side is typing. With `v=2`."),
    ("relayRead", "read", "The other side has read up to a number. With `v=2`."),
    ("pong", "pong", "The answer to a `ping`. With `v=2`."),
    ("tellStatusInChat", "status", "To a guest who asked."),
];

const RECEIVED_OF_STATUS: [Words; 2] = [
    (
        "askForStatus",
        "ask",
        "A guest reports being present and asks whether the host is online. Sent by a host, it is ignored.",
    ),
    ("pingStatus", "ping", "Asks for a `pong`. With `v=2`; ignored otherwise."),
];

const SENT_OF_STATUS: [Words; 4] = [
    ("tellStatus", "status", "To guests: the host is online, or no longer. Nothing comes at first when he is offline."),
    ("tellOfGuest", "ask", "To the host: a guest is there."),
    (
        "tellOfArrival",
        "arrival",
        "To the host: a guest's message came in one of his rooms; at most one a second a room.",
    ),
    ("pongStatus", "pong", "The response to a `ping`, to this socket alone. With `v=2`."),
];

fn operations() -> Value {
    let mut all = Map::new();
    for (action, channel, words) in [
        ("receive", "chat", &RECEIVED_IN_CHAT[..]),
        ("send", "chat", &SENT_IN_CHAT[..]),
        ("receive", "status", &RECEIVED_OF_STATUS[..]),
        ("send", "status", &SENT_OF_STATUS[..]),
    ] {
        for (operation, message, about) in words {
            let operation = (*operation).to_owned();
            all.insert(
                operation,
                json!({
                    "action": action,
                    "channel": {"$ref": format!("#/channels/{channel}")},
                    "summary": about,
                    "messages": [{"$ref": format!("#/channels/{channel}/messages/{message}")}],
                }),
            );
        }
    }
    all.into()
}

/// Describes a frame: constant fields first, then variable ones. `optional` lists the fields that may be absent.
fn frame(title: &str, mut properties: Value, optional: &[&str], example: Value) -> Value {
    let fields: Vec<&String> = properties.as_object().map(|all| all.keys().collect()).unwrap_or_default();
    let required: Vec<&String> = fields.into_iter().filter(|name| !optional.contains(&name.as_str())).collect();
    let required = json!(required);
    let properties = properties.take();
    json!({
        "title": title,
        "payload": {"type": "object", "required": required, "properties": properties},
        "examples": [{"payload": example}],
    })
}

fn messages() -> Value {
    let datetime = json!({"type": "string", "pattern": DATETIME, "description": "The sender's wall clock, without a zone. One that \
            is no time of the calendar is replaced by the server's."});
    let text = json!({"type": "string", "minLength": 1, "description": "Any text whose frame has at most 32 KiB."});
    let id = json!({"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "minLength": 1, "maxLength": MessageId::MAX_LEN,
        "description": "The client's own id: sent again, it is not a new message. Without one, the server gives one."});
    let seq = json!({"type": "integer", "minimum": 1, "description": "Its number in the room: always rising."});
    let is_host = json!({"type": "boolean", "description": "Who wrote it. What a client claims is not believed."});
    let host = json!({"const": true});
    let delivery = json!({"type": {"const": "chat_message"}, "is_host": is_host, "message": text, "datetime": datetime,
        "id": id, "seq": seq});
    let delivered = json!({"type": "chat_message", "is_host": false, "message": "hi", "datetime": "2023-03-23T08:15:07.123",
        "id": "m-1", "seq": 1});
    json!({
        "message": frame(
            "A message, as it is sent",
            json!({"type": {"const": "chat_message"}, "is_host": is_host, "message": text, "datetime": datetime, "id": id}),
            &["is_host", "id"],
            json!({"type": "chat_message", "is_host": false, "message": "hi", "datetime": "2023-03-23T08:15:07.123",
                "id": "m-1"}),
        ),
        "delivery": frame("A message, as it is delivered", delivery.clone(), &[], delivered.clone()),
        "history": frame(
            "Several messages",
            json!({
                "type": {"const": "chat_message"},
                "data": {"type": "array", "minItems": 1, "items": {"type": "object", "properties": delivery},
                    "description": "Oldest first; after a `request`, newest first."},
                "more": {"const": true, "description": "Further frames follow."},
            }),
            &["more"],
            json!({"type": "chat_message", "data": [delivered]}),
        ),
        "request": json!({
            "title": "A question for older messages",
            "payload": {
                "type": "object",
                "required": ["type"],
                "properties": {
                    "type": {"const": "request"},
                    "before": {"type": "integer", "minimum": 0, "description": "Before this `seq`."},
                    "message": {"type": "string", "pattern": DATETIME,
                        "description": "Or: before the message that bears this datetime."},
                },
                "anyOf": [{"required": ["before"]}, {"required": ["message"]}],
            },
            "examples": [{"payload": {"type": "request", "before": 51}},
                {"payload": {"type": "request", "message": "2023-03-23T08:15:07"}}],
        }),
        "close": frame(
            "The host closes the room",
            json!({"type": {"const": "notice"}, "is_host": is_host, "message": {"const": "close"}, "datetime": datetime}),
            &["is_host", "datetime"],
            json!({"type": "notice", "is_host": true, "message": "close", "datetime": "2023-03-23T08:15:07.123"}),
        ),
        "closed": frame(
            "The room is closed",
            json!({"type": {"const": "notice"}, "is_host": host, "message": {"const": "closed"}, "datetime": datetime}),
            &[],
            json!({"type": "notice", "is_host": true, "message": "closed", "datetime": "2023-03-23T08:15:07.123"}),
        ),
        "typing": frame(
            "Somebody is typing",
            json!({"type": {"const": "notice"}, "is_host": is_host, "message": {"const": "typing"}, "datetime": datetime}),
            &["is_host"],
            json!({"type": "notice", "is_host": false, "message": "typing", "datetime": "2023-03-23T08:15:07"}),
        ),
        "read": frame(
            "Somebody has read so far",
            json!({"type": {"const": "notice"}, "is_host": is_host, "message": {"const": "read"}, "seq": seq,
                "datetime": datetime}),
            &["is_host"],
            json!({"type": "notice", "is_host": true, "message": "read", "seq": 7, "datetime": "2023-03-23T08:15:07"}),
        ),
        "ping": presence("A question whether the connection works", "ping"),
        "away": presence("The host's page is not being looked at", "away"),
        "back": presence("The host's page is being looked at again", "back"),
        "pong": frame(
            "The connection works",
            json!({"type": {"const": "notice"}, "is_host": host, "message": {"const": "pong"}, "datetime": datetime}),
            &[],
            json!({"type": "notice", "is_host": true, "message": "pong", "datetime": "2023-03-23T08:15:07"}),
        ),
        "ask": frame(
            "A guest is there, and asks whether the host is",
            json!({"type": {"const": "notice"}, "is_host": {"const": false}, "message": {"const": "online"},
                "datetime": datetime}),
            &["is_host", "datetime"],
            json!({"type": "notice", "is_host": false, "message": "online", "datetime": "2023-03-23T08:15:07"}),
        ),
        "status": frame(
            "Whether the host is online",
            json!({"type": {"const": "notice"}, "is_host": host, "message": {"enum": ["online", "offline"]},
                "status": {"enum": ["online", "offline"], "description": "The same once more."}, "datetime": datetime}),
            &[],
            json!({"type": "notice", "is_host": true, "message": "online", "status": "online",
                "datetime": "2023-03-23T12:22:12"}),
        ),
        "arrival": frame(
            "A guest's message came",
            json!({"type": {"const": "notice"}, "is_host": {"const": false}, "message": {"const": "chat_message"},
                "chatroom": {"type": "string", "pattern": NAME, "description": "The `name` of the room."},
                "preview": {"type": "string", "description": "The beginning of the message."},
                "seq": seq, "datetime": datetime}),
            &[],
            json!({"type": "notice", "is_host": false, "message": "chat_message", "chatroom": "pQ7xJ2mWcY0tR9vKbN4sZA",
                "preview": "hi", "seq": 8, "datetime": "2023-03-23T08:15:07.123"}),
        ),
    })
}

/// Describes a notice from a client that consists of one word.
fn presence(title: &str, word: &str) -> Value {
    let datetime = json!({"type": "string", "pattern": DATETIME});
    frame(
        title,
        json!({"type": {"const": "notice"}, "is_host": {"type": "boolean"}, "message": {"const": word}, "datetime": datetime}),
        &["is_host", "datetime"],
        json!({"type": "notice", "is_host": true, "message": word, "datetime": "2023-03-23T08:15:07"}),
    )
}

fn close_codes() -> Value {
    let retry = Duration::from_millis(1_234);
    let all = [
        Close::Normal,
        Close::Protocol,
        Close::InvalidUtf8,
        Close::TooLarge,
        Close::Restarting { retry },
        Close::TryLater { retry },
        Close::BadForm("not a frame of the agreed form"),
        Close::Unauthenticated,
        Close::Forbidden,
        Close::NotFound,
        Close::Unavailable,
        Close::TooMany,
    ];
    all.iter()
        .map(|close| json!({"code": close.code(), "reason": close.reason(), "meaning": meaning(*close)}))
        .collect()
}

fn meaning(close: Close) -> &'static str {
    match close {
        Close::Normal => "The room was closed, or a normal end.",
        Close::Protocol => "What came is not WebSocket.",
        Close::InvalidUtf8 => "A text frame that is not UTF-8.",
        Close::TooLarge => "A frame over 32 KiB, unless the operator has set another limit.",
        Close::Restarting { .. } => "This node is going away: come back after the time in the reason. Nothing is lost.",
        Close::TryLater { .. } => {
            "Too slow, or the server cannot take it now: come back after the time in the reason. Nothing that was \
             acknowledged is lost."
        }
        Close::BadForm(_) => "Not of the agreed form, or a binary frame.",
        Close::Unauthenticated => "The token is not valid or has expired, or the login was ended.",
        Close::Forbidden => {
            "The page is not on a registered domain, the room is another host's, or only the host may do this."
        }
        Close::NotFound => "No such room or host, or it has been deleted.",
        Close::Unavailable => "To a host: the room is closed. To a guest: the host does not show his status.",
        Close::TooMany => "Too many sockets of this address, or in this room.",
    }
}
