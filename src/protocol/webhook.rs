//! Bodies of webhook events. A body is encoded once, when its event occurs.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::domain::{ChatroomId, CloseCause, EventKind, Message, RoomName, Seq, WallClock, WireOffset};

/// Kind of the test event. A host sends it to check that the receiver responds.
pub const PING: &str = "ping";

/// Room of an event.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct EventRoom<'a> {
    /// Integer id of the room.
    #[schema(value_type = i64)]
    pub id: ChatroomId,
    /// Name of the room, used in the path of its socket.
    pub name: &'a str,
    /// Nickname of the guest.
    pub guest: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventBody<'a, T> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(serialize_with = "instant")]
    created_at: DateTime<Utc>,
    data: T,
}

/// Data of `room.created`.
#[derive(Debug, Serialize, ToSchema)]
pub struct RoomCreated<'a> {
    room: EventRoom<'a>,
}

/// Data of `message.created`.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageCreated<'a> {
    room: EventRoom<'a>,
    message: EventMessage<'a>,
}

/// Data of `room.closed`.
#[derive(Debug, Serialize, ToSchema)]
pub struct RoomClosed<'a> {
    room: EventRoom<'a>,
    /// `host`, `idle`, or `deleted` if an open room was deleted.
    reason: &'static str,
}

/// Data of `ping`: an empty object.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ping {}

/// Message in a `message.created` event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventMessage<'a> {
    /// Sequence number, which gives the order of messages in a room.
    seq: Seq,
    /// Id chosen by the sender or assigned by the server.
    message_id: &'a str,
    /// Text of the message.
    message: &'a str,
    /// Whether the host wrote the message.
    is_host: bool,
    /// Wall clock of the sender.
    datetime: &'a str,
    /// When the server accepted the message.
    #[serde(serialize_with = "instant")]
    accepted_at: DateTime<Utc>,
}

/// Encodes the body of a `room.created` event.
pub fn room_created(room: EventRoom<'_>, at: DateTime<Utc>) -> String {
    let id = EventKind::RoomCreated.id(room.id, 0);
    write(&EventBody { id: &id, kind: EventKind::RoomCreated.as_str(), created_at: at, data: RoomCreated { room } })
}

/// Encodes the body of a `message.created` event.
pub fn message_created(room: EventRoom<'_>, message: &Message) -> String {
    let id = EventKind::MessageCreated.id(room.id, message.seq);
    let written = EventMessage {
        seq: message.seq,
        message_id: message.id.as_str(),
        message: &message.text,
        is_host: message.side.is_host(),
        datetime: message.datetime.as_str(),
        accepted_at: message.accepted_at,
    };
    write(&EventBody {
        id: &id,
        kind: EventKind::MessageCreated.as_str(),
        created_at: message.accepted_at,
        data: MessageCreated { room, message: written },
    })
}

/// Replaces an invalid wall-clock time in a stored body with the time of acceptance. Only earlier releases stored
/// bodies with invalid wall-clock times.
pub fn repaired(body: String, wire: WireOffset) -> String {
    try_repair(&body, wire).unwrap_or(body)
}

/// Repairs a body. Returns `None` if the body can be sent unchanged. Finds the two times from the end of the body,
/// because they are its last strings.
fn try_repair(body: &str, wire: WireOffset) -> Option<String> {
    let (head, times) = body.rsplit_once(r#","datetime":""#)?;
    let (written, rest) = times.split_once('"')?;
    let written: WallClock = written.parse().ok()?;
    if written.is_valid() {
        return None;
    }
    let accepted_at = rest.strip_prefix(r#","acceptedAt":""#)?.split('"').next()?;
    let accepted_at = DateTime::parse_from_rfc3339(accepted_at).ok()?.with_timezone(&Utc);
    Some(format!("{head},\"datetime\":\"{}\"{rest}", wire.repaired(written, accepted_at)))
}

/// Encodes the body of a `room.closed` event. `version` is the version of the room's state after the change.
pub fn room_closed(room: EventRoom<'_>, version: u64, why: CloseCause, at: DateTime<Utc>) -> String {
    let id = EventKind::RoomClosed.id(room.id, version);
    let data = RoomClosed { room, reason: why.as_str() };
    write(&EventBody { id: &id, kind: EventKind::RoomClosed.as_str(), created_at: at, data })
}

/// Encodes the body of a `ping` event.
pub fn ping(id: &str, at: DateTime<Utc>) -> String {
    write(&EventBody { id, kind: PING, created_at: at, data: Ping {} })
}

impl<'a> EventRoom<'a> {
    /// Creates the part of an event that describes its room.
    pub fn new(id: ChatroomId, name: &'a RoomName, guest: &'a str) -> Self {
        Self { id, name: name.as_str(), guest }
    }
}

fn write<T: Serialize>(event: &EventBody<'_, T>) -> String {
    // Serialising the event cannot fail, because it contains only strings, numbers and booleans, and its keys are
    // strings.
    serde_json::to_string(event).unwrap_or_else(|_| unreachable!("nothing of this can fail to be JSON"))
}

// Serialises a time as SPEC 1 requires: in UTC, as RFC 3339, with milliseconds and `Z`.
fn instant<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::Side;

    #[test]
    fn event_bodies_are_in_camel_case() {
        let at = DateTime::from_timestamp_millis(1_679_370_000_178).unwrap();
        let (id, name) = (ChatroomId(3), RoomName::from_random([7; 16]));
        let room = EventRoom::new(id, &name, "용감한 고양이");
        let message = Message {
            chatroom: id,
            seq: 9,
            side: Side::Host,
            text: "\"hi\"".into(),
            datetime: "2023-03-23T08:15:77".parse().unwrap(),
            id: "m-1".parse().unwrap(),
            accepted_at: at,
        };
        let read = |body: &str| serde_json::from_str::<Value>(body).unwrap();
        let room_body = json!({"id": 3, "name": name.as_str(), "guest": "용감한 고양이"});
        assert_eq!(
            read(&message_created(room, &message)),
            json!({"id": "evt_3_message_9", "type": "message.created", "createdAt": "2023-03-21T03:40:00.178Z",
                   "data": {"room": room_body, "message": {"seq": 9, "messageId": "m-1", "message": "\"hi\"", "isHost": true,
                            "datetime": "2023-03-23T08:15:77", "acceptedAt": "2023-03-21T03:40:00.178Z"}}})
        );
        assert_eq!(
            read(&room_closed(room, 4, CloseCause::Idle, at)),
            json!({"id": "evt_3_closed_4", "type": "room.closed", "createdAt": "2023-03-21T03:40:00.178Z",
                   "data": {"room": room_body, "reason": "idle"}})
        );
        let mended: Value =
            serde_json::from_str(&repaired(message_created(room, &message), WireOffset::default())).unwrap();
        assert_eq!(mended["data"]["message"]["datetime"], "2023-03-21T12:40:00.178");
        let valid = Message { datetime: "2023-03-23T08:15:07".parse().unwrap(), ..message };
        for body in [message_created(room, &valid), room_created(room, at), room_closed(room, 4, CloseCause::Idle, at)]
        {
            assert_eq!(repaired(body.clone(), WireOffset::default()), body);
        }
        assert_eq!(read(&room_created(room, at))["data"], json!({"room": room_body}));
        assert_eq!(read(&ping("evt_x", at))["data"], json!({}));
    }
}
