//! Implements [`ArchiveQueue`] on Redis streams.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fred::prelude::*;

use super::answer::{self, Answer};
use super::publication;
use super::{RedisBroker, TOMBSTONE_TTL, at_key, state_word, unexpected_reply};
use crate::backend::Unavailable;
use crate::backend::broker::queue::{ArchiveLease, ArchiveQueue, ArchivedMark, Backlog, Idle, Lost, QueueEntry, Swept};
use crate::backend::broker::{Change, Partition, RoomStates as _};
use crate::backend::redis::call;
use crate::domain::{ChatroomId, RoomChange, RoomName, Seq};

/// Duration of an archiver's lease on a partition. If the lease is not renewed for this long, another node takes over.
const LEASE_TTL: Duration = Duration::from_secs(15);

/// Maximum number of idle rooms that one script call examines.
const IDLE_BATCH: i64 = 100;

/// Memory usage above which Redis counts as low on memory, as a percentage of `maxmemory`. If `maxmemory` is not set,
/// the percentage refers to the memory of the machine.
const MEMORY_PERCENT: i64 = 75;

/// Maximum number of dead letters that one script call examines.
const DEAD_BATCH: i64 = 500;

/// Ratio of the normal byte limit of a log to the limit while Redis is low on memory.
const SHORT_LOG: u64 = 16;

#[async_trait]
impl ArchiveQueue for RedisBroker {
    async fn lease(&self, partition: Partition) -> Result<Option<ArchiveLease>, Unavailable> {
        let holder = self.redis.node().to_string();
        let args: Vec<Value> = vec![holder.as_str().into(), (LEASE_TTL.as_millis() as i64).into()];
        let held = self.redis.eval(&self.scripts.lease, self.key(partition, "archiver")?, args).await?;
        Ok((held.as_i64() == Some(1)).then_some(ArchiveLease(holder)))
    }

    async fn release(&self, partition: Partition, lease: &ArchiveLease) -> Result<(), Unavailable> {
        let args: Vec<Value> = vec![lease.0.as_str().into()];
        self.redis.eval(&self.scripts.release, self.key(partition, "archiver")?, args).await.map(|_| ())
    }

    async fn read(&self, partition: Partition, limit: usize) -> Result<Vec<QueueEntry>, Unavailable> {
        let (mut entries, others) = self.head(partition, limit).await?;
        let alive = self.alive_among(&others).await?;
        for (entry, others) in entries.iter_mut().zip(&others) {
            entry.unattended = !nodes(others).any(|node| alive.contains(node));
        }
        if self.wait == 0 { Ok(entries) } else { self.replicated(partition, entries).await }
    }

    async fn backlog(&self, partition: Partition) -> Result<Backlog, Unavailable> {
        let (client, queue, life) = (self.redis.client(), self.key(partition, "queue")?, self.key(partition, "life")?);
        let messages: u64 = call(|| client.xlen(&queue)).await?;
        let bytes: Option<u64> = call(|| client.hget(&life, "queued")).await?;
        let share = self.capacity.share(messages, bytes.unwrap_or_default());
        let head = self.head(partition, 1).await?.0.into_iter().next();
        let stamp = head.as_ref().map(|head| head.accepted_at.timestamp_millis());
        let oldest = stamp.and_then(|stamp| self.clocks.age(partition, stamp)).unwrap_or_default();
        Ok(Backlog { messages, share, oldest, head: head.map(|head| head.position) })
    }

    async fn finish(
        &self,
        partition: Partition,
        lease: &ArchiveLease,
        through: &str,
        bytes: usize,
        marks: &[ArchivedMark],
    ) -> Result<bool, Unavailable> {
        let keys = vec![self.key(partition, "archiver")?, self.key(partition, "queue")?];
        let mut args: Vec<Value> =
            vec![lease.0.as_str().into(), next(through)?.into(), (TOMBSTONE_TTL.as_secs() as i64).into()];
        let share = if self.is_memory_short.load(Ordering::Relaxed) { SHORT_LOG } else { 1 };
        let log_bytes = self.capacity.log_bytes / share;
        args.extend([(bytes as i64).into(), (log_bytes as i64).into()]);
        for mark in marks {
            args.extend([
                mark.room.as_str().into(),
                (mark.archived as i64).into(),
                state_word(mark.state).into(),
                (mark.version as i64).into(),
                mark.stored.map_or(-1, |seq| seq as i64).into(),
            ]);
        }
        let done = self.redis.eval(&self.scripts.finish, keys, args).await?;
        Ok(done.as_i64() == Some(1))
    }

    async fn dead_letter(
        &self,
        partition: Partition,
        lease: &ArchiveLease,
        position: &str,
        why: &str,
        is_conflict: bool,
    ) -> Result<bool, Unavailable> {
        let kinds = ["archiver", "queue", "dead"];
        let keys = kinds.iter().map(|kind| self.key(partition, kind)).collect::<Result<Vec<String>, _>>()?;
        let args: Vec<Value> =
            vec![lease.0.as_str().into(), position.into(), why.into(), i64::from(is_conflict).into()];
        let done = self.redis.eval(&self.scripts.dead_letter, keys, args).await?;
        Ok(done.as_i64() == Some(1))
    }

    async fn remove_lost_room(
        &self,
        room: RoomName,
        chatroom: ChatroomId,
        why: &str,
        seed_again: bool,
    ) -> Result<Lost, Unavailable> {
        let of_room = ["room", "log", "ids", "seed"].iter().map(|kind| self.room_key(kind, room));
        let of_partition = ["idle", "dead"].iter().map(|kind| self.key_of(room, kind));
        let keys = of_room.chain(of_partition).collect::<Result<Vec<String>, _>>()?;
        let deletion = Change { room, change: RoomChange::Delete, version: u64::from(u32::MAX), notice: Bytes::new() };
        let tombstone = if seed_again { String::new() } else { TOMBSTONE_TTL.as_secs().to_string() };
        let args: Vec<Value> = vec![
            room.as_str().into(),
            chatroom.0.into(),
            why.into(),
            tombstone.into(),
            self.key_of(room, "bus")?.into(),
            publication::changed(&deletion).into(),
        ];
        let dead = self.redis.eval(&self.scripts.remove_lost_room, keys, args).await?;
        match dead.as_i64() {
            Some(dead @ 0..) => Ok(Lost::Now(dead as u64)),
            Some(-1) => Ok(Lost::Deleted),
            Some(_) => Ok(Lost::Other),
            None => Err(unexpected_reply("invalid number of dead letters")),
        }
    }

    async fn remove_idle(&self, partition: Partition, idle: Idle) -> Result<Swept, Unavailable> {
        let alive = self.redis.live_nodes(true).await?;
        let mut removed = 0;
        loop {
            let ages = [idle.usual, idle.short_of_memory].map(|age| Value::from(age.as_millis() as i64));
            let args: Vec<Value> = ages
                .into_iter()
                .chain([MEMORY_PERCENT.into(), IDLE_BATCH.into()])
                .chain(alive.iter().map(|node| node.as_str().into()))
                .collect();
            let answer = self.redis.eval(&self.scripts.remove_idle, self.key(partition, "idle")?, args).await?;
            let mut answer = Answer::list(answer)?;
            let examined = answer.number()?;
            removed += answer.number()? as u64;
            let is_memory_short = answer.number()? == 1;
            self.is_memory_short.store(is_memory_short, Ordering::Relaxed);
            if examined < IDLE_BATCH {
                return Ok(Swept { removed, is_memory_short });
            }
        }
    }
}

impl RedisBroker {
    /// Deletes the dead letters of a room up to the sequence number `through`. Deletes all of them if `through` is
    /// `None` (SPEC 6.7).
    pub(super) async fn delete_dead_letters(&self, room: RoomName, through: Option<Seq>) -> Result<(), Unavailable> {
        let mut from = "-".to_owned();
        while !from.is_empty() {
            let through = through.map(|seq| seq.to_string()).unwrap_or_default();
            let args: Vec<Value> = vec![room.as_str().into(), through.into(), from.into(), DEAD_BATCH.into()];
            let next = self.redis.eval(&self.scripts.delete_dead, self.key_of(room, "dead")?, args).await?;
            from = next.as_string().unwrap_or_default();
        }
        Ok(())
    }

    /// Returns the first entries of a queue, and for each entry the nodes on which the recipient's side had connections.
    async fn head(&self, partition: Partition, limit: usize) -> Result<(Vec<QueueEntry>, Vec<String>), Unavailable> {
        let (client, queue, limit) = (self.redis.client(), self.key(partition, "queue")?, limit.to_string());
        let read = || async {
            let args = vec![&*queue, "-", "+", "COUNT", &limit];
            answer::checked(client.custom_raw(at_key("XRANGE", &queue), args).await?)
        };
        let found = answer::raw_entries(call(read).await?)?;
        Ok(found.into_iter().map(|(position, fields)| entry(position, fields)).unzip())
    }

    /// Returns the live nodes that are named in `lists`.
    async fn alive_among<'a>(&self, lists: &'a [String]) -> Result<HashSet<&'a str>, Unavailable> {
        let named: HashSet<&str> = lists.iter().flat_map(|list| nodes(list)).collect();
        if named.is_empty() {
            return Ok(named);
        }
        let me = self.redis.node();
        let is_alive = |alive: &[String], node: &str| node == me.as_str() || alive.iter().any(|known| known == node);
        let mut alive = self.redis.live_nodes(false).await?;
        if !named.iter().all(|node| is_alive(&alive, node)) {
            // The cached list is up to two seconds old, so a node that has just started may be missing from it.
            alive = self.redis.live_nodes(true).await?;
        }
        Ok(named.into_iter().filter(|node| is_alive(&alive, node)).collect())
    }

    /// Returns the entries before the first one that replicas may lack. Later entries must not be written to the
    /// database yet, because another server may assign their sequence numbers to other messages after a failover. A
    /// sender may have abandoned its call before replicas had its messages. If `entries` begins with such messages and
    /// replicas have them now, this method makes them visible to readers and returns all entries.
    async fn replicated(
        &self,
        partition: Partition,
        mut entries: Vec<QueueEntry>,
    ) -> Result<Vec<QueueEntry>, Unavailable> {
        let mut rooms: Vec<RoomName> = entries.iter().map(|entry| entry.room).collect();
        rooms.sort_unstable();
        rooms.dedup();
        let found = self.status(&rooms).await?;
        let shown: HashMap<RoomName, Seq> =
            rooms.into_iter().zip(found).filter_map(|(room, status)| Some((room, status?.seq))).collect();
        let is_hidden = |entry: &QueueEntry| {
            seq_of(&entry.frame).zip(shown.get(&entry.room)).is_some_and(|(seq, shown)| seq > *shown)
        };
        let Some(first) = entries.iter().position(is_hidden) else { return Ok(entries) };
        if first > 0 {
            entries.truncate(first);
            return Ok(entries);
        }
        if !self.is_replicated(partition).await? {
            return Err(Unavailable("accepted messages are not on enough replicas".into()));
        }
        let newest: HashMap<RoomName, Seq> =
            entries.iter().filter_map(|entry| Some((entry.room, seq_of(&entry.frame)?))).collect();
        self.publish_replicated(partition, Bytes::new(), newest.into_iter()).await?;
        Ok(entries)
    }
}

/// Splits a list of nodes in the format that the scripts write.
fn nodes(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').filter(|node| !node.is_empty())
}

/// Parses the sequence number at the end of a message frame.
fn seq_of(frame: &[u8]) -> Option<Seq> {
    let digits = frame.strip_suffix(b"}")?.rsplit(|byte| *byte == b':').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns the smallest stream position after `position`.
fn next(position: &str) -> Result<String, Unavailable> {
    position
        .split_once('-')
        .and_then(|(ms, at)| Some(format!("{ms}-{}", at.parse::<u64>().ok()? + 1)))
        .ok_or_else(|| unexpected_reply("invalid entry id"))
}

/// Parses an entry of the archive queue. Returns the entry, and the list of nodes on which the recipient's side had
/// connections. An entry without a required field is malformed. Its frame is then empty, so that it becomes a dead
/// letter.
pub(super) fn entry(position: String, fields: impl Iterator<Item = (Bytes, Bytes)>) -> (QueueEntry, String) {
    let (mut room, mut chatroom, mut epoch, mut at, mut frame) = (None, None, None, None, Bytes::new());
    let (mut others, mut trace) = (String::new(), None);
    for (name, value) in fields {
        if &*name == b"f" {
            frame = value;
            continue;
        }
        let text = std::str::from_utf8(&value).ok();
        match &*name {
            b"n" => room = RoomName::from_bytes(&value).ok(),
            b"i" => chatroom = text.and_then(|text| text.parse().ok()),
            b"l" => epoch = text.map(str::to_owned),
            b"a" => at = text.and_then(|text| chrono::DateTime::from_timestamp_millis(text.parse().ok()?)),
            b"o" => others = text.map(str::to_owned).unwrap_or_default(),
            b"t" => trace = text.and_then(|text| text.parse().ok()),
            _ => {}
        }
    }
    let whole = room.is_some() && chatroom.is_some() && epoch.is_some() && at.is_some();
    let entry = QueueEntry {
        position,
        room: room.unwrap_or_else(|| RoomName::from_random([0; 16])),
        chatroom: ChatroomId(chatroom.unwrap_or_default()),
        epoch: epoch.unwrap_or_default(),
        accepted_at: at.unwrap_or_default(),
        frame: if whole { frame } else { Bytes::new() },
        unattended: true,
        trace,
    };
    (entry, others)
}
