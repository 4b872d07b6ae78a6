//! Frames of the chat socket (SPEC 4).

use std::borrow::Cow;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::surrogate;
use crate::domain::{ChatroomId, Message, MessageId, Seq, Side, WallClock, WireOffset};

/// Maximum length of a message frame, in bytes. The body of a webhook event about such a message fits into a MySQL TEXT
/// column. The limit has an effect only if the operator raises the frame limit (32 KiB by default) above this value.
const MAX_MESSAGE_FRAME: usize = 60 * 1024;

/// Frame that a client may send on a chat socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboundChat {
    /// Message to all clients in the room.
    Message {
        /// Text of the message, never empty.
        text: String,
        /// Wall-clock time that the sender wrote into the message.
        datetime: WallClock,
        /// Id chosen by the client, if any.
        id: Option<MessageId>,
    },
    /// Request for the 50 messages before a point.
    Request(Before),
    /// Notice to the other side or to the server. Notices are not stored.
    Notice(Notice),
}

/// Point before which older messages are requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// Messages with a lower sequence number than this one are requested.
    Seq(Seq),
    /// Messages before the message with this wall-clock time are requested.
    Datetime(WallClock),
}

/// Notice on the chat socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The host requests to close the room.
    Close,
    /// The sender is typing.
    Typing(WallClock),
    /// The sender has read all messages up to `seq`.
    Read {
        /// Sequence number of the newest message that the sender has read.
        seq: Seq,
        /// Wall-clock time that the sender wrote into the notice.
        datetime: WallClock,
    },
    /// A guest requests the online status of the host.
    Online,
    /// The sender requests a `pong`.
    Ping,
    /// The host's page is hidden or idle, so the host does not count as present in the room.
    Away,
    /// The host uses the page again.
    Back,
    /// Well-formed notice of an unknown kind. It has no effect.
    Other,
}

/// Reason for rejecting a frame, sent as the close reason.
pub type Refusal = &'static str;

#[derive(Deserialize)]
struct RawFrame<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow)]
    datetime: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    seq: Option<Seq>,
    before: Option<Seq>,
    /// The value is ignored, because the identity of the connection determines the side (SPEC 4).
    #[serde(default, rename = "is_host")]
    _is_host: IgnoredAny,
}

impl InboundChat {
    /// Parses a text frame.
    ///
    /// # Errors
    /// Returns the reason for close code 4000.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        // serde would also accept a JSON array for a struct, so only text that begins with `{` is parsed.
        if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
            return Err("expected a JSON object");
        }
        let text = surrogate::repair(text);
        let raw: RawFrame<'_> = serde_json::from_str(&text).map_err(|_| "not a frame of the agreed form")?;
        match &*raw.kind {
            "chat_message" if text.len() > MAX_MESSAGE_FRAME => Err("message is longer than 60 KiB"),
            "chat_message" => Self::message(raw),
            "request" => Self::request(raw).map(Self::Request),
            "notice" => Notice::read(raw).map(Self::Notice),
            _ => Err("unknown type"),
        }
    }

    fn message(raw: RawFrame<'_>) -> Result<Self, Refusal> {
        let text = raw.message.ok_or("message is missing")?;
        if text.is_empty() {
            return Err("message is empty");
        }
        Ok(Self::Message {
            text: text.into_owned(),
            datetime: wall_clock(raw.datetime)?,
            id: raw.id.map(|id| id.parse().map_err(|_| "id is not 1 to 64 of A-Z a-z 0-9 _ -")).transpose()?,
        })
    }

    fn request(raw: RawFrame<'_>) -> Result<Before, Refusal> {
        match raw.before {
            Some(seq) => Ok(Before::Seq(seq)),
            None => wall_clock(raw.message).map(Before::Datetime),
        }
    }
}

impl Notice {
    fn read(raw: RawFrame<'_>) -> Result<Self, Refusal> {
        let message = raw.message.ok_or("message is missing")?;
        let datetime = wall_clock(raw.datetime);
        Ok(match &*message {
            "close" => Self::Close,
            "online" => Self::Online,
            "ping" => Self::Ping,
            "away" => Self::Away,
            "back" => Self::Back,
            "typing" => Self::Typing(datetime?),
            "read" => Self::Read { seq: raw.seq.ok_or("seq is missing")?, datetime: datetime? },
            _ => Self::Other,
        })
    }
}

fn wall_clock(text: Option<Cow<'_, str>>) -> Result<WallClock, Refusal> {
    text.ok_or("datetime is missing")?.parse().map_err(|_| "datetime is not YYYY-MM-DDTHH:MM:SS[.ffffff]")
}

#[derive(Serialize)]
struct MessageHead<'a> {
    r#type: &'static str,
    is_host: bool,
    message: &'a str,
    datetime: &'a str,
    id: &'a str,
}

/// Encodes a message frame up to the position of its sequence number: `{"type":…,"id":"…","seq":`. The broker appends
/// the sequence number and `}`. A message can therefore be encoded once, before it has a number.
pub fn message_head(side: Side, text: &str, datetime: &WallClock, id: &MessageId) -> Vec<u8> {
    let head = MessageHead {
        r#type: "chat_message",
        is_host: side.is_host(),
        message: text,
        datetime: datetime.as_str(),
        id: id.as_str(),
    };
    let mut json = to_json(&head);
    json.pop(); // closing brace
    json.extend_from_slice(b",\"seq\":");
    json
}

/// Encodes a complete message frame. The result is identical to the frame that was published when the message was
/// accepted.
pub fn message_frame(message: &Message) -> Bytes {
    let mut json = message_head(message.side, &message.text, &message.datetime, &message.id);
    json.extend_from_slice(message.seq.to_string().as_bytes());
    json.push(b'}');
    json.into()
}

/// Replaces an invalid wall-clock time in a message frame with the time of acceptance. Returns `None` if the frame can
/// be sent unchanged. Only earlier releases stored frames with invalid wall-clock times ([`WireOffset::repaired`]).
pub fn repaired_frame(frame: &[u8], wire: WireOffset, accepted_at: DateTime<Utc>) -> Option<Bytes> {
    let at = datetime_in(frame)?;
    let written: WallClock = std::str::from_utf8(&frame[at.clone()]).ok()?.parse().ok()?;
    if written.is_valid() {
        return None;
    }
    let repaired = wire.repaired(written, accepted_at);
    Some([&frame[..at.start], repaired.as_str().as_bytes(), &frame[at.end..]].concat().into())
}

/// Returns whether [`repaired_frame`] would replace the wall-clock time in a frame.
pub fn needs_repair(frame: &[u8]) -> bool {
    repaired_frame(frame, WireOffset::default(), DateTime::UNIX_EPOCH).is_some()
}

/// Returns the position of the wall-clock time in a message frame. Searches for its key from the end of the frame,
/// without parsing the JSON. The message text cannot contain the key, because quotation marks in the text are escaped.
fn datetime_in(frame: &[u8]) -> Option<std::ops::Range<usize>> {
    const KEY: &[u8] = br#"","datetime":""#;
    /// Maximum length of the part of a frame after the text. It contains the wall-clock time, an id of 64 characters
    /// and a sequence number of 20 digits, each with its key.
    const TAIL: usize = 160;
    let tail = frame.len().saturating_sub(TAIL);
    let start = tail + frame[tail..].windows(KEY.len()).rposition(|window| window == KEY)? + KEY.len();
    let len = frame[start..].iter().position(|byte| *byte == b'"')?;
    Some(start..start + len)
}

/// Returns whether a frame contains a guest's message. Compares the frame with the prefix that [`message_head`] writes,
/// without parsing the JSON.
pub fn is_from_guest(frame: &[u8]) -> bool {
    frame.starts_with(br#"{"type":"chat_message","is_host":false,"#)
}

/// Parsed message frame from the log.
#[derive(Debug, Deserialize)]
pub struct StoredFrame<'a> {
    /// Whether the host wrote the message.
    pub is_host: bool,
    /// Text of the message.
    #[serde(borrow)]
    pub message: Cow<'a, str>,
    /// Wall-clock time that the sender wrote into the message.
    #[serde(borrow)]
    pub datetime: Cow<'a, str>,
    /// Id of the message.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Sequence number.
    pub seq: Seq,
}

impl StoredFrame<'_> {
    /// Converts the frame to a message. Returns `None` if the wall-clock time or the id is malformed.
    pub fn into_message(self, chatroom: ChatroomId, accepted_at: DateTime<Utc>) -> Option<Message> {
        Some(Message {
            chatroom,
            seq: self.seq,
            side: Side::from_is_host(self.is_host),
            datetime: self.datetime.parse().ok()?,
            id: self.id.parse().ok()?,
            text: self.message.into_owned(),
            accepted_at,
        })
    }
}

/// Encodes several messages as one history frame, in the given order. If `more` is true, the frame states that further
/// frames follow.
pub fn history_frame<'a>(frames: impl IntoIterator<Item = &'a [u8]>, more: bool) -> Vec<u8> {
    let mut json = br#"{"type":"chat_message","data":["#.to_vec();
    for (at, frame) in frames.into_iter().enumerate() {
        if at > 0 {
            json.push(b',');
        }
        json.extend_from_slice(frame);
    }
    json.extend_from_slice(if more { br#"],"more":true}"# } else { b"]}" });
    json
}

#[derive(Serialize)]
struct NoticeFrame<'a> {
    r#type: &'static str,
    is_host: bool,
    message: &'static str,
    datetime: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<Seq>,
}

/// Encodes the notice that the room was closed.
pub fn closed_frame(datetime: &WallClock) -> Bytes {
    notice(true, "closed", datetime, None)
}

/// Encodes the notice that a guest or a host is typing.
pub fn typing_frame(side: Side, datetime: &WallClock) -> Bytes {
    notice(side.is_host(), "typing", datetime, None)
}

/// Encodes the response to a `ping`. Chat sockets and status sockets use the same response.
pub fn pong_frame(datetime: &WallClock) -> Bytes {
    notice(true, "pong", datetime, None)
}

/// Encodes the notice that one side has read the messages up to `seq`.
pub fn read_frame(side: Side, seq: Seq, datetime: &WallClock) -> Bytes {
    notice(side.is_host(), "read", datetime, Some(seq))
}

fn notice(is_host: bool, message: &'static str, datetime: &WallClock, seq: Option<Seq>) -> Bytes {
    to_json(&NoticeFrame { r#type: "notice", is_host, message, datetime: datetime.as_str(), seq }).into()
}

/// Serialises a value that contains only strings, numbers and booleans. Serialising such a value cannot fail.
pub(super) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
