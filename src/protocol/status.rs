//! Frames of the status socket (SPEC 5).

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::chat::{Refusal, StoredFrame, to_json};
use crate::domain::{RoomName, Seq, Side, WallClock};

/// Frame that a guest or a host may send on a status socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboundStatus {
    /// A guest is present and requests the online status of the host.
    Online,
    /// The sender requests a `pong`.
    Ping,
    /// Well-formed notice that has no effect.
    Ignored,
}

#[derive(Deserialize)]
struct RawNotice<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    message: Option<NoticeMessage<'a>>,
}

/// The `message` of a notice.
#[derive(Deserialize)]
#[serde(untagged)]
enum NoticeMessage<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    /// Any JSON value that is not a string. Only a host may send it.
    Other(IgnoredAny),
}

impl InboundStatus {
    /// Parses a text frame. A notice from a host may have any `message` or none. A notice from a guest must have a
    /// `message` that is a string.
    ///
    /// # Errors
    /// Returns the reason for close code 4000.
    pub fn parse(side: Side, text: &str) -> Result<Self, Refusal> {
        if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
            return Err("expected a JSON object");
        }
        let text = super::surrogate::repair(text);
        let raw: RawNotice<'_> = serde_json::from_str(&text).map_err(|_| "not a frame of the agreed form")?;
        let word = match &raw.message {
            Some(NoticeMessage::Text(text)) => Some(&**text),
            Some(NoticeMessage::Other(_)) | None => None,
        };
        match (&*raw.kind, side, word) {
            ("notice", _, Some("ping")) => Ok(Self::Ping),
            ("notice", Side::Host, _) => Ok(Self::Ignored),
            ("notice", Side::Guest, Some("online")) => Ok(Self::Online),
            ("notice", Side::Guest, Some(_)) => Ok(Self::Ignored),
            ("notice", Side::Guest, None) => Err("message is missing"),
            _ => Err("unknown type"),
        }
    }
}

#[derive(Serialize)]
struct StatusFrame<'a> {
    r#type: &'static str,
    is_host: bool,
    message: &'static str,
    status: &'static str,
    datetime: &'a str,
}

/// Encodes the online status of the host. `status` and `message` both contain the status, because some existing clients
/// read one field and some read the other (SPEC 5).
pub fn status_frame(online: bool, datetime: &WallClock) -> Bytes {
    let word = if online { "online" } else { "offline" };
    to_json(&StatusFrame { r#type: "notice", is_host: true, message: word, status: word, datetime: datetime.as_str() })
        .into()
}

#[derive(Serialize)]
struct GuestFrame<'a> {
    r#type: &'static str,
    is_host: bool,
    message: &'static str,
    datetime: &'a str,
}

/// Encodes the notice that a guest is present. It is sent to the host's status sockets.
pub fn guest_frame(datetime: &WallClock) -> Bytes {
    to_json(&GuestFrame { r#type: "notice", is_host: false, message: "online", datetime: datetime.as_str() }).into()
}

/// Maximum length of a message preview, in Unicode code points.
const PREVIEW_CHARS: usize = 100;

#[derive(Serialize)]
struct ArrivalFrame<'a> {
    r#type: &'static str,
    is_host: bool,
    message: &'static str,
    chatroom: RoomName,
    preview: &'a str,
    seq: Seq,
    datetime: &'a str,
}

/// Encodes the notice that a guest's message arrived in one of the host's rooms. It is sent to the host's status
/// sockets.
pub fn arrival_frame(chatroom: RoomName, message: &StoredFrame<'_>) -> Bytes {
    let end = message.message.char_indices().nth(PREVIEW_CHARS).map_or(message.message.len(), |(at, _)| at);
    to_json(&ArrivalFrame {
        r#type: "notice",
        is_host: false,
        message: "chat_message",
        chatroom,
        preview: &message.message[..end],
        seq: message.seq,
        datetime: &message.datetime,
    })
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_requests_status_with_online_and_host_notices_are_ignored() {
        let asked = r#"{"type":"notice","is_host":false,"message":"online","datetime":"2023-03-23T08:15:77"}"#;
        assert_eq!(InboundStatus::parse(Side::Guest, asked), Ok(InboundStatus::Online));
        assert_eq!(InboundStatus::parse(Side::Host, asked), Ok(InboundStatus::Ignored));
        let seeds_own = r#"{"type":"notice","is_host":true,"status":"online","datetime":"2023-03-23T12:22:12"}"#;
        assert_eq!(InboundStatus::parse(Side::Host, seeds_own), Ok(InboundStatus::Ignored));
        assert!(InboundStatus::parse(Side::Guest, seeds_own).is_err());
        let odd = r#"{"type":"notice","message":{"ping":["ping"]}}"#;
        assert_eq!(InboundStatus::parse(Side::Host, odd), Ok(InboundStatus::Ignored));
        assert!(InboundStatus::parse(Side::Guest, odd).is_err());
        for bad in ["", "[]", "{}", r#"{"type":"chat_message","message":"ping"}"#] {
            assert!(InboundStatus::parse(Side::Guest, bad).is_err(), "{bad}");
            assert!(InboundStatus::parse(Side::Host, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn either_side_may_send_a_ping_with_or_without_a_datetime() {
        let side_and_text = [
            (Side::Guest, r#"{"type":"notice","is_host":false,"message":"ping","datetime":"2023-03-23T08:15:07"}"#),
            (Side::Guest, r#"{"type":"notice","message":"ping"}"#),
            (Side::Host, r#"{"type":"notice","is_host":true,"message":"ping","datetime":"2023-03-23T08:15:07"}"#),
            (Side::Host, r#"{"message":"p\u0069ng","type":"notice"}"#),
        ];
        for (side, text) in side_and_text {
            assert_eq!(InboundStatus::parse(side, text), Ok(InboundStatus::Ping), "{text}");
        }
    }

    #[test]
    fn arrival_has_the_room_name_and_the_beginning_of_the_message() {
        let room = RoomName::from_random([0; 16]);
        let text = "한".repeat(150);
        let message = StoredFrame {
            is_host: false,
            message: text.as_str().into(),
            datetime: "2023-03-23T08:15:07.123".into(),
            id: "abc".into(),
            seq: 7,
        };
        assert_eq!(
            arrival_frame(room, &message),
            format!(
                r#"{{"type":"notice","is_host":false,"message":"chat_message","chatroom":"{room}","preview":"{}","seq":7,"datetime":"2023-03-23T08:15:07.123"}}"#,
                "한".repeat(100)
            )
        );
    }

    #[test]
    fn status_is_sent_in_both_spellings_of_the_seed() {
        let at = "2023-03-23T12:22:12".parse().unwrap();
        assert_eq!(
            status_frame(true, &at),
            r#"{"type":"notice","is_host":true,"message":"online","status":"online","datetime":"2023-03-23T12:22:12"}"#
        );
    }
}
