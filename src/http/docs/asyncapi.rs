//! Generates the AsyncAPI 3 document of the chat and status sockets. As the standard requires, `receive` and `send`
//! describe what the server does.

use serde_json::{Map, Value, json};
use url::Url;

mod close_codes;
mod frames;

const ABOUT: &str = "Plain WebSockets, text frames of JSON. Guests are admitted by the `Origin` of their page, hosts by an access \
    token in the query. A refused connection is accepted and then closed, so that a browser can read the code. A client that \
    lost its socket reconnects with `?after=` and the highest `seq` it received, and misses nothing. Notices describe a state: \
    while a notice is queued for a slow client, the next of its kind replaces it. With `?v=2`, either kind of socket answers the notice \
    `ping` with `pong`. Nodes of earlier releases ignore it, so a client treats a connection as dead only after this socket \
    has answered once.";

/// Returns the document of a server at `public_url`.
pub(super) fn document(public_url: &str) -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {"title": "PinTalk sockets", "version": env!("CARGO_PKG_VERSION"), "description": ABOUT},
        "defaultContentType": "application/json",
        "servers": {"pintalk": server(public_url)},
        "channels": {"chat": chat(), "status": status()},
        "operations": operations(),
        "components": {"messages": frames::frames()},
        "x-close-codes": close_codes::close_codes(),
    })
}

fn server(public_url: &str) -> Value {
    // The configuration accepts only URLs with a host, so parsing does not fail.
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
        "One chatroom. On joining, the newest 50 messages are sent in one frame; with `after`, all messages after that number. A \
         guest who connects to a closed room reopens it.",
        json!({"name": {"description": "The `name` of the room: 22 characters."}}),
        json!({
            "token": {"type": "string", "description": "Access token of a host. Guests send none."},
            "after": {"type": "integer", "minimum": 0, "description": "The highest `seq` that a reconnecting client received."},
            "v": {"type": "integer", "minimum": 1, "description": "2: the client also receives `typing`, `read` and `pong`, and can \
                be counted as away. Without it, only the frames of the first version are sent."},
        }),
        &RECEIVED_IN_CHAT.iter().chain(&SENT_IN_CHAT).map(|(_, message, _)| *message).collect::<Vec<_>>(),
    )
}

fn status() -> Value {
    channel(
        "/ws/status/{hostUuid}/",
        "Reports whether a host is online: a host is online while one of their status sockets is open. Also at \
         `/ws/chat/{hostUuid}/status/`. Hosts receive a notice for each guest message in any of their rooms, \
         and at most one notice per second and node that a guest is present.",
        json!({"hostUuid": {"description": "The `uuid` of the host: 22 characters."}}),
        json!({
            "token": {"type": "string", "description": "Access token of the host. Guests send none."},
            "v": {"type": "integer", "minimum": 1, "description": "2: the client receives a `pong` for each `ping`."},
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

/// Names of an operation and of its message, and the purpose of the operation.
type Words = (&'static str, &'static str, &'static str);

const RECEIVED_IN_CHAT: [Words; 9] = [
    ("say", "message", "Sends a message to all clients in the room."),
    ("askForOlder", "request", "Requests the 50 messages before a point."),
    ("closeRoom", "close", "The host closes the room. The socket of a guest who tries is closed with 4003."),
    ("type", "typing", "Reports that this side is typing; relayed at most once per second, and not stored."),
    ("read", "read", "Reports up to which message this side has read. From a host, it also sets `lastCheckedAt`."),
    ("askWhetherOnline", "ask", "A guest asks whether the host is online."),
    ("ping", "ping", "Requests a `pong`. With `v=2`; ignored otherwise."),
    (
        "goAway",
        "away",
        "The host's page is hidden or idle: the host counts as absent for reading and e-mails. With `v=2`; ignored otherwise.",
    ),
    ("comeBack", "back", "Ends `away`."),
];

const SENT_IN_CHAT: [Words; 7] = [
    (
        "deliver",
        "delivery",
        "A message, to all clients in the room. For its sender, it is the acknowledgement that the message is stored.",
    ),
    ("deliverHistory", "history", "Older messages: on joining, after `?after=`, or as requested."),
    ("tellClosed", "closed", "The host closed the room; close code 1000 follows."),
    ("relayTyping", "typing", "The other side is typing. With `v=2`."),
    ("relayRead", "read", "The other side has read up to a number. With `v=2`."),
    ("pong", "pong", "The response to a `ping`. With `v=2`."),
    ("tellStatusInChat", "status", "To a guest who asked whether the host is online."),
];

const RECEIVED_OF_STATUS: [Words; 2] = [
    (
        "askForStatus",
        "ask",
        "A guest reports being present and asks whether the host is online. Sent by a host, it is ignored.",
    ),
    ("pingStatus", "ping", "Requests a `pong`. With `v=2`; ignored otherwise."),
];

const SENT_OF_STATUS: [Words; 4] = [
    (
        "tellStatus",
        "status",
        "To guests: the host is online, or no longer. Nothing is sent on joining while the host is offline.",
    ),
    ("tellOfGuest", "ask", "To the host: a guest is present."),
    (
        "tellOfArrival",
        "arrival",
        "To the host: a guest sent a message in one of the host's rooms; at most one notice per second and room.",
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
