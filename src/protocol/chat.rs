//! Frames of the chat socket (SPEC 4).

use std::borrow::Cow;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::surrogate;
use crate::domain::{ChatroomId, Message, MessageId, Seq, Side, WallClock, WireOffset};

/// The longest frame of a message, in bytes: with the rest of a webhook's body it fits into a TEXT column of MySQL. It only matters
/// where the operator has allowed longer frames than the usual 32 KiB.
const MAX_MESSAGE_FRAME: usize = 60 * 1024;

/// What a client may say on a chat socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// A message for everybody in the room.
    Message {
        /// Not empty.
        text: String,
        /// The sender's wall clock.
        datetime: WallClock,
        /// The client's own id, if it gave one.
        id: Option<MessageId>,
    },
    /// Asks for the 50 messages before a point.
    Request(Before),
    /// Something that passes by.
    Notice(Notice),
}

/// Where a page of older messages ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// Before this number.
    Seq(Seq),
    /// Before the message that bears this wall clock.
    Datetime(WallClock),
}

/// A notice of the chat socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The host closes the room.
    Close,
    /// Somebody is typing.
    Typing(WallClock),
    /// Read up to this number.
    Read {
        /// The newest message that was read.
        seq: Seq,
        /// The sender's wall clock.
        datetime: WallClock,
    },
    /// A guest asks whether the host is online.
    Online,
    /// Asks for a `pong`.
    Ping,
    /// The host's page is not being looked at.
    Away,
    /// It is again.
    Back,
    /// Of the right form, and nothing we know.
    Other,
}

/// Why a frame is not of the agreed form: a short sentence for the close reason.
pub type Refusal = &'static str;

#[derive(Deserialize)]
struct Raw<'a> {
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
    /// Whatever it claims: the connection knows better (SPEC 4).
    #[serde(default, rename = "is_host")]
    _is_host: IgnoredAny,
}

impl Inbound {
    /// Reads a text frame.
    ///
    /// # Errors
    /// The sentence that goes with close code 4000.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        // serde reads an array as a struct, too.
        if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
            return Err("expected a JSON object");
        }
        let text = surrogate::mend(text);
        let raw: Raw<'_> = serde_json::from_str(&text).map_err(|_| "not a frame of the agreed form")?;
        match &*raw.kind {
            "chat_message" if text.len() > MAX_MESSAGE_FRAME => Err("message is longer than 60 KiB"),
            "chat_message" => Self::message(raw),
            "request" => Self::request(raw).map(Self::Request),
            "notice" => Notice::read(raw).map(Self::Notice),
            _ => Err("unknown type"),
        }
    }

    fn message(raw: Raw<'_>) -> Result<Self, Refusal> {
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

    fn request(raw: Raw<'_>) -> Result<Before, Refusal> {
        match raw.before {
            Some(seq) => Ok(Before::Seq(seq)),
            None => wall_clock(raw.message).map(Before::Datetime),
        }
    }
}

impl Notice {
    fn read(raw: Raw<'_>) -> Result<Self, Refusal> {
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

/// A message's frame up to the place of its number: `{"type":…,"id":"…","seq":`. The broker adds the number and `}`, so
/// that the JSON of a message is written once, before anybody knows its number.
pub fn message_head(side: Side, text: &str, datetime: &WallClock, id: &MessageId) -> Vec<u8> {
    let head = MessageHead {
        r#type: "chat_message",
        is_host: side.is_host(),
        message: text,
        datetime: datetime.as_str(),
        id: id.as_str(),
    };
    let mut json = to_json(&head);
    json.pop(); // the closing brace
    json.extend_from_slice(b",\"seq\":");
    json
}

/// The complete frame of a message, byte for byte as it was sent live.
pub fn message_frame(message: &Message) -> Bytes {
    let mut json = message_head(message.side, &message.text, &message.datetime, &message.id);
    json.extend_from_slice(message.seq.to_string().as_bytes());
    json.push(b'}');
    json.into()
}

/// A message's frame with its wall clock replaced by the time of acceptance; `None` if the frame can be sent as it is. Only nodes
/// of earlier releases stored other frames ([`WireOffset::repaired`]).
pub fn repaired_frame(frame: &[u8], wire: WireOffset, accepted_at: DateTime<Utc>) -> Option<Bytes> {
    let at = datetime_in(frame)?;
    let written: WallClock = std::str::from_utf8(&frame[at.clone()]).ok()?.parse().ok()?;
    if written.is_valid() {
        return None;
    }
    let repaired = wire.repaired(written, accepted_at);
    Some([&frame[..at.start], repaired.as_str().as_bytes(), &frame[at.end..]].concat().into())
}

/// Whether [`repaired_frame`] would replace the wall clock of a frame.
pub fn needs_repair(frame: &[u8]) -> bool {
    repaired_frame(frame, WireOffset::default(), DateTime::UNIX_EPOCH).is_some()
}

/// Where the wall clock stands in a message's frame, found from its end without reading the JSON. [`message_head`] writes it
/// behind the text, in which a quotation mark is never followed by a comma and another one: all of them are escaped.
fn datetime_in(frame: &[u8]) -> Option<std::ops::Range<usize>> {
    const KEY: &[u8] = br#"","datetime":""#;
    /// At most: the key, the wall clock, an id of 64 characters and a number of 20 digits, with their names.
    const TAIL: usize = 160;
    let tail = frame.len().saturating_sub(TAIL);
    let start = tail + frame[tail..].windows(KEY.len()).rposition(|window| window == KEY)? + KEY.len();
    let len = frame[start..].iter().position(|byte| *byte == b'"')?;
    Some(start..start + len)
}

/// Whether a message's frame is a guest's, without reading it: [`message_head`] begins so.
pub fn is_from_guest(frame: &[u8]) -> bool {
    frame.starts_with(br#"{"type":"chat_message","is_host":false,"#)
}

/// What an archiver reads back out of a frame.
#[derive(Debug, Deserialize)]
pub struct StoredFrame<'a> {
    /// Who wrote it.
    pub is_host: bool,
    /// The text.
    #[serde(borrow)]
    pub message: Cow<'a, str>,
    /// The sender's wall clock.
    #[serde(borrow)]
    pub datetime: Cow<'a, str>,
    /// The message's id.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Its number.
    pub seq: Seq,
}

impl StoredFrame<'_> {
    /// The message that the frame tells of; `None` if it is not one of ours.
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

/// Several messages in one frame: history, in whichever order they are given. With `more`, further frames follow.
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

/// The notice that tells everybody that the host closed the room.
pub fn closed_frame(datetime: &WallClock) -> Bytes {
    notice(true, "closed", datetime, None)
}

/// The notice that somebody is typing.
pub fn typing_frame(side: Side, datetime: &WallClock) -> Bytes {
    notice(side.is_host(), "typing", datetime, None)
}

/// The response to a `ping`, on either kind of socket.
pub fn pong_frame(datetime: &WallClock) -> Bytes {
    notice(true, "pong", datetime, None)
}

/// The notice that somebody has read up to a number.
pub fn read_frame(side: Side, seq: Seq, datetime: &WallClock) -> Bytes {
    notice(side.is_host(), "read", datetime, Some(seq))
}

fn notice(is_host: bool, message: &'static str, datetime: &WallClock, seq: Option<Seq>) -> Bytes {
    to_json(&NoticeFrame { r#type: "notice", is_host, message, datetime: datetime.as_str(), seq }).into()
}

/// Writes a value that cannot fail to be JSON: strings, numbers and booleans only.
pub(super) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
