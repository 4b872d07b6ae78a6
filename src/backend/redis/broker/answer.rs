//! Parsers for script answers and stream entries.

use bytes::Bytes;
use chrono::DateTime;
use fred::error::{Error, ErrorKind};
use fred::types::{Resp3Frame, Value};

use super::unexpected_reply;
use crate::backend::Unavailable;
use crate::backend::broker::{LogEntry, MemberCounts, Outcome, RoomStatus};
use crate::domain::{ChatroomId, HostId, NodeId, RoomState, Seq};

/// Reader of a list in a Redis reply. The elements are read in order.
pub(super) struct Answer(std::vec::IntoIter<Value>);

impl Answer {
    pub(super) fn list(value: Value) -> Result<Self, Unavailable> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            _ => Err(unexpected_reply("not a list")),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn number(&mut self) -> Result<i64, Unavailable> {
        self.0.next().and_then(|value| value.as_i64()).ok_or_else(|| unexpected_reply("not a number"))
    }

    pub(super) fn text(&mut self) -> Result<String, Unavailable> {
        self.0.next().and_then(|value| value.as_string()).ok_or_else(|| unexpected_reply("not a string"))
    }

    pub(super) fn bytes(&mut self) -> Option<Bytes> {
        self.0.next().and_then(|value| value.into_bytes())
    }

    /// Returns the remaining elements as pairs.
    pub(super) fn pairs(mut self) -> impl Iterator<Item = (Bytes, Bytes)> {
        std::iter::from_fn(move || Some((self.bytes()?, self.bytes()?)))
    }
}

impl Iterator for Answer {
    type Item = Value;
    fn next(&mut self) -> Option<Value> {
        self.0.next()
    }
}

pub(super) fn outcome(value: Value) -> Result<Outcome, Unavailable> {
    if let Value::Integer(seq) = value {
        return Ok(Outcome::Accepted(seq as Seq));
    }
    let mut answer = Answer::list(value)?;
    match answer.text()?.as_str() {
        "known" => Ok(Outcome::Known { seq: answer.number()? as Seq, frame: answer.bytes() }),
        "closed" => Ok(Outcome::Closed),
        "deleted" => Ok(Outcome::Deleted),
        "unseeded" => Ok(Outcome::Unseeded),
        "full" => Ok(Outcome::Full),
        _ => Err(unexpected_reply("unknown outcome")),
    }
}

/// State of a room and its connections per node, as `members.lua` returns them.
pub(super) struct FoundRoom {
    room: RoomStatus,
    members: Vec<(String, MemberCounts)>,
}

impl FoundRoom {
    /// Returns the nodes with connections in the room, except this node (`me`) and the nodes in `alive`.
    pub(super) fn unknown(&self, alive: &[String], me: NodeId) -> impl Iterator<Item = &str> {
        self.members
            .iter()
            .map(|(node, ..)| node.as_str())
            .filter(move |node| *node != me.as_str() && !alive.iter().any(|known| known == node))
    }

    /// Returns the status of the room. It counts only connections of live nodes. This node (`me`) always counts as
    /// live.
    pub(super) fn status(self, alive: &[String], me: NodeId) -> RoomStatus {
        let mut room = self.room;
        for (node, counts) in self.members {
            if node == me.as_str() || alive.contains(&node) {
                room.guests += counts.guests;
                room.hosts += counts.hosts;
                room.away += counts.away;
            }
        }
        room
    }
}

pub(super) fn room(value: Value) -> Result<Option<FoundRoom>, Unavailable> {
    if !value.is_array() {
        return Ok(None);
    }
    let mut answer = Answer::list(value)?;
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
            away: 0,
        };
        return Ok(Some(FoundRoom { room, members: Vec::new() }));
    }
    let seq = answer.number()? as Seq;
    let archived = answer.number()? as Seq;
    let chatroom = ChatroomId(answer.number()?);
    let host = HostId(answer.number()?);
    let mut members = Vec::new();
    while answer.len() > 0 {
        let node = answer.text()?;
        let (guests, hosts, away) = (answer.number()? as u32, answer.number()? as u32, answer.number()? as u32);
        members.push((node, MemberCounts { guests, hosts, away }));
    }
    let room = RoomStatus { chatroom, host, state, version, seq, archived, guests: 0, hosts: 0, away: 0 };
    Ok(Some(FoundRoom { room, members }))
}

pub(super) fn state(word: &str) -> Result<RoomState, Unavailable> {
    match word {
        "open" => Ok(RoomState::Open),
        "closed" => Ok(RoomState::Closed),
        "deleted" => Ok(RoomState::Deleted),
        _ => Err(unexpected_reply("unknown room state")),
    }
}

/// Parses the entries of a stream. Returns the id and the fields of each entry.
pub(super) fn entries(value: Value) -> Result<Vec<(String, Answer)>, Unavailable> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    Answer::list(value)?
        .map(|entry| {
            let mut entry = Answer::list(entry)?;
            let id = entry.text()?;
            let fields = Answer::list(entry.next().ok_or_else(|| unexpected_reply("log entry without fields"))?)?;
            Ok((id, fields))
        })
        .collect()
}

/// Returns a raw reply. Returns an error if the reply is an error.
pub(super) fn checked(frame: Resp3Frame) -> Result<Resp3Frame, Error> {
    match &frame {
        Resp3Frame::SimpleError { data, .. } => Err(Error::new(ErrorKind::Unknown, data.to_string())),
        Resp3Frame::BlobError { data, .. } => {
            Err(Error::new(ErrorKind::Unknown, String::from_utf8_lossy(data).into_owned()))
        }
        _ => Ok(frame),
    }
}

/// Parses the entries of a stream in a raw reply, which costs about half as much as the client's conversion. Returns the
/// id and the fields of each entry.
pub(super) fn raw_entries(frame: Resp3Frame) -> Result<Vec<(String, RawFields)>, Unavailable> {
    let entry = |entry| {
        let mut entry = list(entry)?.into_iter();
        let id = String::from_utf8(blob(entry.next()?)?.into()).ok()?;
        Some((id, RawFields(list(entry.next()?)?.into_iter())))
    };
    let entries = list(frame).ok_or_else(|| unexpected_reply("not a list"))?.into_iter();
    entries.map(|found| entry(found).ok_or_else(|| unexpected_reply("invalid stream entry"))).collect()
}

/// Names and values of the fields of a stream entry.
pub(super) struct RawFields(std::vec::IntoIter<Resp3Frame>);

impl Iterator for RawFields {
    type Item = (Bytes, Bytes);
    fn next(&mut self) -> Option<Self::Item> {
        Some((blob(self.0.next()?)?, blob(self.0.next()?)?))
    }
}

/// Parses the entries of a room's log. Each entry has the form `[id, [f, frame, a, accepted at]]`.
pub(super) fn log(frame: Resp3Frame) -> Result<Vec<LogEntry>, Unavailable> {
    let Some(entries) = list(frame) else { return Err(unexpected_reply("log is not a list")) };
    entries.into_iter().map(|entry| log_entry(entry).ok_or_else(|| unexpected_reply("invalid log entry"))).collect()
}

fn log_entry(entry: Resp3Frame) -> Option<LogEntry> {
    let mut entry = list(entry)?.into_iter();
    let id = blob(entry.next()?)?;
    let seq = std::str::from_utf8(&id).ok()?.split('-').next()?.parse().ok()?;
    let mut fields = list(entry.next()?)?.into_iter();
    let frame = blob(fields.nth(1)?)?;
    let accepted_at = std::str::from_utf8(&blob(fields.nth(1)?)?).ok()?.parse().ok()?;
    let accepted_at = DateTime::from_timestamp_millis(accepted_at)?;
    Some(LogEntry { seq, accepted_at, frame })
}

fn blob(frame: Resp3Frame) -> Option<Bytes> {
    match frame {
        Resp3Frame::BlobString { data, .. } => Some(data),
        _ => None,
    }
}

fn list(frame: Resp3Frame) -> Option<Vec<Resp3Frame>> {
    match frame {
        Resp3Frame::Array { data, .. } => Some(data),
        Resp3Frame::Null => Some(Vec::new()),
        _ => None,
    }
}
