//! Describes the frames of the chat and status sockets as AsyncAPI messages.

use serde_json::{Map, Value, json};

use crate::domain::MessageId;

const DATETIME: &str = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?$";
const NAME: &str = "^[A-Za-z0-9_-]{22}$";

/// Name of a frame, and the function that describes it.
type NamedFrame = (&'static str, fn() -> Value);

const FRAMES: [NamedFrame; 15] = [
    ("message", message),
    ("delivery", delivery),
    ("history", history),
    ("request", request),
    ("close", close),
    ("closed", closed),
    ("typing", typing),
    ("read", read),
    ("ping", || client_notice("A check of the connection", "ping")),
    ("away", || client_notice("The host's page is hidden or idle", "away")),
    ("back", || client_notice("The host's page is in use again", "back")),
    ("pong", pong),
    ("ask", ask),
    ("status", status),
    ("arrival", arrival),
];

/// Returns the description of every frame by name.
pub(super) fn frames() -> Map<String, Value> {
    FRAMES.iter().map(|(name, describe)| ((*name).to_owned(), describe())).collect()
}

/// Describes a frame. In `properties`, constant fields precede variable ones. `optional` lists the fields that may be
/// absent.
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

fn datetime() -> Value {
    json!({"type": "string", "pattern": DATETIME, "description": "The sender's wall clock, without a zone. A value \
        that is not a valid calendar time is replaced by the server's wall clock."})
}

fn text() -> Value {
    json!({"type": "string", "minLength": 1, "description": "Any text; the frame may have at most 32 KiB."})
}

fn id() -> Value {
    json!({"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "minLength": 1, "maxLength": MessageId::MAX_LEN,
        "description": "The client's own id. A message with the same id is not a new message. If absent, the server assigns one."})
}

fn seq() -> Value {
    json!({"type": "integer", "minimum": 1, "description": "Number of the message in the room; always rising."})
}

fn is_host() -> Value {
    json!({"type": "boolean", "description": "Whether the host sent it. The server ignores the client's value."})
}

/// Describes a delivered message.
fn delivered() -> Value {
    json!({"type": {"const": "chat_message"}, "is_host": is_host(), "message": text(), "datetime": datetime(),
        "id": id(), "seq": seq()})
}

fn delivered_example() -> Value {
    json!({"type": "chat_message", "is_host": false, "message": "hi", "datetime": "2023-03-23T08:15:07.123",
        "id": "m-1", "seq": 1})
}

fn message() -> Value {
    frame(
        "A message sent by a client",
        json!({"type": {"const": "chat_message"}, "is_host": is_host(), "message": text(), "datetime": datetime(),
            "id": id()}),
        &["is_host", "id"],
        json!({"type": "chat_message", "is_host": false, "message": "hi", "datetime": "2023-03-23T08:15:07.123",
            "id": "m-1"}),
    )
}

fn delivery() -> Value {
    frame("A delivered message", delivered(), &[], delivered_example())
}

fn history() -> Value {
    frame(
        "Several messages",
        json!({
            "type": {"const": "chat_message"},
            "data": {"type": "array", "minItems": 1, "items": {"type": "object", "properties": delivered()},
                "description": "Oldest first; after a `request`, newest first."},
            "more": {"const": true, "description": "Further frames follow."},
        }),
        &["more"],
        json!({"type": "chat_message", "data": [delivered_example()]}),
    )
}

fn request() -> Value {
    json!({
        "title": "A request for older messages",
        "payload": {
            "type": "object",
            "required": ["type"],
            "properties": {
                "type": {"const": "request"},
                "before": {"type": "integer", "minimum": 0, "description": "Before this `seq`."},
                "message": {"type": "string", "pattern": DATETIME,
                    "description": "Or: before the message with this datetime."},
            },
            "anyOf": [{"required": ["before"]}, {"required": ["message"]}],
        },
        "examples": [{"payload": {"type": "request", "before": 51}},
            {"payload": {"type": "request", "message": "2023-03-23T08:15:07"}}],
    })
}

fn close() -> Value {
    frame(
        "The host closes the room",
        json!({"type": {"const": "notice"}, "is_host": is_host(), "message": {"const": "close"},
            "datetime": datetime()}),
        &["is_host", "datetime"],
        json!({"type": "notice", "is_host": true, "message": "close", "datetime": "2023-03-23T08:15:07.123"}),
    )
}

fn closed() -> Value {
    frame(
        "The room is closed",
        json!({"type": {"const": "notice"}, "is_host": {"const": true}, "message": {"const": "closed"},
            "datetime": datetime()}),
        &[],
        json!({"type": "notice", "is_host": true, "message": "closed", "datetime": "2023-03-23T08:15:07.123"}),
    )
}

fn typing() -> Value {
    frame(
        "One side is typing",
        json!({"type": {"const": "notice"}, "is_host": is_host(), "message": {"const": "typing"},
            "datetime": datetime()}),
        &["is_host"],
        json!({"type": "notice", "is_host": false, "message": "typing", "datetime": "2023-03-23T08:15:07"}),
    )
}

fn read() -> Value {
    frame(
        "One side has read up to a message",
        json!({"type": {"const": "notice"}, "is_host": is_host(), "message": {"const": "read"}, "seq": seq(),
            "datetime": datetime()}),
        &["is_host"],
        json!({"type": "notice", "is_host": true, "message": "read", "seq": 7, "datetime": "2023-03-23T08:15:07"}),
    )
}

fn pong() -> Value {
    frame(
        "The connection works",
        json!({"type": {"const": "notice"}, "is_host": {"const": true}, "message": {"const": "pong"},
            "datetime": datetime()}),
        &[],
        json!({"type": "notice", "is_host": true, "message": "pong", "datetime": "2023-03-23T08:15:07"}),
    )
}

fn ask() -> Value {
    frame(
        "A guest is present and asks whether the host is online",
        json!({"type": {"const": "notice"}, "is_host": {"const": false}, "message": {"const": "online"},
            "datetime": datetime()}),
        &["is_host", "datetime"],
        json!({"type": "notice", "is_host": false, "message": "online", "datetime": "2023-03-23T08:15:07"}),
    )
}

fn status() -> Value {
    frame(
        "Whether the host is online",
        json!({"type": {"const": "notice"}, "is_host": {"const": true}, "message": {"enum": ["online", "offline"]},
            "status": {"enum": ["online", "offline"], "description": "Same value as `message`."},
            "datetime": datetime()}),
        &[],
        json!({"type": "notice", "is_host": true, "message": "online", "status": "online",
            "datetime": "2023-03-23T12:22:12"}),
    )
}

fn arrival() -> Value {
    frame(
        "A guest sent a message",
        json!({"type": {"const": "notice"}, "is_host": {"const": false}, "message": {"const": "chat_message"},
            "chatroom": {"type": "string", "pattern": NAME, "description": "The `name` of the room."},
            "preview": {"type": "string", "description": "The beginning of the message."},
            "seq": seq(), "datetime": datetime()}),
        &[],
        json!({"type": "notice", "is_host": false, "message": "chat_message", "chatroom": "pQ7xJ2mWcY0tR9vKbN4sZA",
            "preview": "hi", "seq": 8, "datetime": "2023-03-23T08:15:07.123"}),
    )
}

/// Describes a notice that a client sends and that consists of one word.
fn client_notice(title: &str, word: &str) -> Value {
    let datetime = json!({"type": "string", "pattern": DATETIME});
    frame(
        title,
        json!({"type": {"const": "notice"}, "is_host": {"type": "boolean"}, "message": {"const": word},
            "datetime": datetime}),
        &["is_host", "datetime"],
        json!({"type": "notice", "is_host": true, "message": word, "datetime": "2023-03-23T08:15:07"}),
    )
}
