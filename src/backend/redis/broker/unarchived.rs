//! Reads messages that are missing from the database, deletes rooms without messages, and repairs frames of earlier
//! releases.

use fred::prelude::*;

use super::answer::Answer;
use super::{RedisBroker, TOMBSTONE_TTL, unexpected_reply};
use crate::backend::Unavailable;
use crate::backend::broker::{LogEntry, MessageLog as _, Partition, Tail, TailQuery};
use crate::domain::{HostId, RoomName, WireOffset};
use crate::protocol::chat::repaired_frame;

/// Maximum number of log entries that one script call reads. With this limit, Redis executes a call in well under a
/// millisecond.
const TAIL_STEP: i64 = 500;

impl RedisBroker {
    /// Sets the UTC offset of the wall-clock times that clients send.
    pub fn with_wire(self, wire: WireOffset) -> Self {
        Self { wire, ..self }
    }

    /// Repairs a log entry if an earlier release stored it with an invalid time.
    pub(super) fn repair(&self, entry: &mut LogEntry) {
        if let Some(repaired) = repaired_frame(&entry.frame, self.wire, entry.accepted_at) {
            entry.frame = repaired;
        }
    }

    /// Replaces a room that has no messages and no connections with a tombstone. Returns whether the room has a
    /// tombstone after the call.
    pub(super) async fn delete_unused(&self, room: RoomName, version: u64) -> Result<bool, Unavailable> {
        let of_room = ["room", "log", "ids", "seed"].iter().map(|kind| self.room_key(kind, room));
        let keys = of_room.chain([self.key_of(room, "idle")]).collect::<Result<Vec<String>, _>>()?;
        let mut args: Vec<Value> =
            vec![(version as i64).into(), room.as_str().into(), (TOMBSTONE_TTL.as_secs() as i64).into()];
        args.extend(self.redis.live_nodes(true).await?.iter().map(|node| Value::from(node.as_str())));
        let deleted = self.redis.eval(&self.scripts.delete_if_empty, keys, args).await?;
        Ok(deleted.as_i64() == Some(1))
    }

    /// Returns rooms of a host for which the database lacks messages. Returns at most `limit` rooms per partition.
    pub(super) async fn unarchived(&self, host: HostId, limit: usize) -> Result<Vec<RoomName>, Unavailable> {
        let of_partition = async |partition| {
            let key = self.key(partition, &format!("fresh:{}", host.0))?;
            let args: Vec<Value> = vec![self.key(partition, "room:")?.into(), (limit as i64).into()];
            self.redis.eval(&self.scripts.unarchived, key, args).await
        };
        let found = futures_util::future::try_join_all((0..self.partitions()).map(Partition).map(of_partition)).await?;
        let mut rooms = Vec::new();
        for answer in found {
            for name in Answer::list(answer)? {
                let name = name.as_string().and_then(|name| name.parse().ok());
                rooms.push(name.ok_or_else(|| unexpected_reply("invalid room name"))?);
            }
        }
        Ok(rooms)
    }

    /// Returns a summary of a room's messages that are missing from the database. Returns `None` if none are missing.
    pub(super) async fn tail(&self, query: &TailQuery) -> Result<Option<Tail>, Unavailable> {
        let log = self.room_key("log", query.room)?;
        let seen_at = query.seen_at.map_or(0, |at| at.timestamp_millis());
        let (mut after, mut unread) = (query.after.max(query.seen), 0);
        loop {
            let args: Vec<Value> =
                vec![(after as i64).into(), (query.through as i64).into(), seen_at.into(), TAIL_STEP.into()];
            let mut answer = Answer::list(self.redis.eval(&self.scripts.tail, &log, args).await?)?;
            unread += answer.number()? as u64;
            after = answer.number()? as u64;
            if after < query.through {
                continue;
            }
            let Some(frame) = answer.bytes() else { return Ok(None) };
            let accepted_at = chrono::DateTime::from_timestamp_millis(answer.number()?);
            let accepted_at = accepted_at.ok_or_else(|| unexpected_reply("invalid message time"))?;
            let mut newest = LogEntry { seq: query.through, accepted_at, frame };
            self.repair(&mut newest);
            return Ok(Some(Tail { newest, unread }));
        }
    }
}
