//! Reads what the scripts and streams answer.

use bytes::{Buf as _, Bytes};
use chrono::DateTime;
use fred::types::Value;

use super::strange;
use crate::broker::{LogEntry, Outcome, RoomStatus, Unavailable};
use crate::domain::{ChatroomId, HostId, NodeId, RoomState, Seq};

/// A list of Redis, read from its front.
pub(super) struct Answer(std::vec::IntoIter<Value>);

impl Answer {
    pub(super) fn list(value: Value) -> Result<Self, Unavailable> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            _ => Err(strange("not a list")),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn number(&mut self) -> Result<i64, Unavailable> {
        self.0.next().and_then(|value| value.as_i64()).ok_or_else(|| strange("not a number"))
    }

    pub(super) fn text(&mut self) -> Result<String, Unavailable> {
        self.0.next().and_then(|value| value.as_string()).ok_or_else(|| strange("not a text"))
    }

    pub(super) fn bytes(&mut self) -> Option<Bytes> {
        self.0.next().and_then(|value| value.into_bytes())
    }
}

impl Iterator for Answer {
    type Item = Value;
    fn next(&mut self) -> Option<Value> {
        self.0.next()
    }
}

pub(super) fn outcome(value: Value) -> Result<Outcome, Unavailable> {
    let mut answer = Answer::list(value)?;
    match answer.text()?.as_str() {
        "ok" => Ok(Outcome::Accepted(answer.number()? as Seq)),
        "known" => Ok(Outcome::Known { seq: answer.number()? as Seq, frame: answer.bytes() }),
        "closed" => Ok(Outcome::Closed),
        "deleted" => Ok(Outcome::Deleted),
        "unseeded" => Ok(Outcome::Unseeded),
        "full" => Ok(Outcome::Full),
        _ => Err(strange("unknown outcome")),
    }
}

/// A room, and who is in it on which node.
pub(super) struct FoundRoom {
    room: RoomStatus,
    members: Vec<(String, u32, u32)>,
}

impl FoundRoom {
    /// Nodes in the room that are not in `alive`.
    pub(super) fn unknown(&self, alive: &[String], me: NodeId) -> impl Iterator<Item = &str> {
        self.members
            .iter()
            .map(|(node, ..)| node.as_str())
            .filter(move |node| *node != me.as_str() && !alive.iter().any(|known| known == node))
    }

    /// The room with the members of those nodes that are alive; this one always is.
    pub(super) fn status(self, alive: &[String], me: NodeId) -> RoomStatus {
        let mut room = self.room;
        for (node, guests, hosts) in self.members {
            if node == me.as_str() || alive.contains(&node) {
                room.guests += guests;
                room.hosts += hosts;
            }
        }
        room
    }
}

pub(super) fn room(value: Value) -> Result<Option<(FoundRoom, Vec<LogEntry>)>, Unavailable> {
    if !value.is_array() {
        return Ok(None);
    }
    let mut answer = Answer::list(value)?;
    let log = packed_log(answer.bytes().unwrap_or_default())?;
    let state = state(&answer.text()?)?;
    let version = answer.number()? as u64;
    if state == RoomState::Deleted {
        let room = RoomStatus {
            chatroom: ChatroomId(0),
            host: HostId(0),
            state,
            version,
            seq: 0,
            archived: 0,
            guests: 0,
            hosts: 0,
        };
        return Ok(Some((FoundRoom { room, members: Vec::new() }, log)));
    }
    let seq = answer.number()? as Seq;
    let archived = answer.number()? as Seq;
    let chatroom = ChatroomId(answer.number()?);
    let host = HostId(answer.number()?);
    let mut members = Vec::new();
    while answer.len() > 0 {
        members.push((answer.text()?, answer.number()? as u32, answer.number()? as u32));
    }
    let room = RoomStatus { chatroom, host, state, version, seq, archived, guests: 0, hosts: 0 };
    Ok(Some((FoundRoom { room, members }, log)))
}

/// Entries of a log in one string, `<seq> <accepted at> <length>\n<frame>` each. The frames are parts of it, not copies.
fn packed_log(mut packed: Bytes) -> Result<Vec<LogEntry>, Unavailable> {
    let mut entries = Vec::new();
    while !packed.is_empty() {
        let (entry, length) = packed_head(&mut packed).ok_or_else(|| strange("a log that cannot be read"))?;
        if length > packed.len() {
            return Err(strange("a log that breaks off"));
        }
        entries.push(LogEntry { frame: packed.split_to(length), ..entry });
    }
    Ok(entries)
}

/// An entry but for its frame, and the frame's length.
fn packed_head(packed: &mut Bytes) -> Option<(LogEntry, usize)> {
    let end = packed.iter().position(|byte| *byte == b'\n')?;
    let head = packed.split_to(end);
    packed.advance(1);
    let mut words = std::str::from_utf8(&head).ok()?.split(' ');
    let seq = words.next()?.parse().ok()?;
    let accepted_at = DateTime::from_timestamp_millis(words.next()?.parse().ok()?)?;
    Some((LogEntry { seq, accepted_at, frame: Bytes::new() }, words.next()?.parse().ok()?))
}

pub(super) fn state(word: &str) -> Result<RoomState, Unavailable> {
    match word {
        "open" => Ok(RoomState::Open),
        "closed" => Ok(RoomState::Closed),
        "deleted" => Ok(RoomState::Deleted),
        _ => Err(strange("unknown state of a room")),
    }
}

/// Entries of a stream as `(id, fields)`.
pub(super) fn entries(value: Value) -> Result<Vec<(String, Answer)>, Unavailable> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    Answer::list(value)?
        .map(|entry| {
            let mut entry = Answer::list(entry)?;
            let id = entry.text()?;
            let fields = Answer::list(entry.next().ok_or_else(|| strange("an entry without fields"))?)?;
            Ok((id, fields))
        })
        .collect()
}

pub(super) fn log(value: Value) -> Result<Vec<LogEntry>, Unavailable> {
    entries(value)?
        .into_iter()
        .map(|(id, mut fields)| {
            let seq = id.split('-').next().and_then(|seq| seq.parse().ok()).ok_or_else(|| strange("entry id"))?;
            let frame = fields.nth(1).and_then(Value::into_bytes).ok_or_else(|| strange("an entry without a frame"))?;
            let accepted_at = fields.nth(1).and_then(|at| at.as_i64()).and_then(DateTime::from_timestamp_millis);
            Ok(LogEntry { seq, accepted_at: accepted_at.ok_or_else(|| strange("an entry without a time"))?, frame })
        })
        .collect()
}
