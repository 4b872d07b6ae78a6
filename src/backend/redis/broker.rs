//! Broker of a cluster. Redis stores the rooms, their logs and the archive queues; Lua scripts make each call atomic.
//!
//! The keys of a partition share the hash tag `{k}`, so that a script touches one slot of a Redis Cluster. Any other
//! Redis has one partition. The scripts are in `redis/lua`; each lists its keys, arguments and results at the top.
//! Their comments omit the prefix `pt:<installation id>:` of every key.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fred::prelude::*;
use fred::types::streams::{XCapKind, XCapTrim};
use fred::types::{ClusterHash, CustomCommand};

use crate::backend::Unavailable;
use crate::backend::broker::queue::ArchiveQueue;
use crate::backend::broker::{
    Broker, Change, LogEntry, MAX_BATCH, MAX_BATCH_OF_ALL, MemberCounts, Outcome, Partition, RoomStatus, Seed, Sink,
    Submission, Tail, TailQuery, Ticket,
};
use crate::backend::redis::{Redis, call};
use crate::domain::Control;
use crate::domain::clock::Chance;
use crate::domain::{HostId, RoomChange, RoomName, RoomState, Seq, Side, WireOffset};
use crate::protocol::chat::needs_repair;

mod answer;
mod archive;
mod capacity;
mod clocks;
pub mod earlier;
mod hearing;
mod listener;
mod publication;
mod recovery;
mod scripts;
mod unarchived;

use answer::Answer;
pub use capacity::Capacity;
use clocks::Clocks;
use hearing::Hearing;
use scripts::Scripts;

/// Lifetime of a call of `accept.lua` after it was sent. A call that arrives later writes nothing.
const ACCEPT_TTL: Duration = Duration::from_secs(3);

/// Lifetime of the right to seed a room.
const TICKET_TTL: Duration = Duration::from_secs(10);

/// How long the tombstone of a deleted room is kept.
const TOMBSTONE_TTL: Duration = Duration::from_secs(24 * 3600);

/// Number of account changes kept for nodes that reconnect.
const CONTROL_LENGTH: i64 = 1_000;

/// Driver of [`Broker`] over Redis.
#[derive(Clone, Debug)]
pub struct RedisBroker {
    redis: Redis,
    chance: Chance,
    /// Number of replicas that must have a batch before it is published.
    wait: u32,
    scripts: Arc<Scripts>,
    clocks: Arc<Clocks>,
    hearing: Arc<Hearing>,
    capacity: Capacity,
    /// Whether Redis was short of memory at the last sweep of this node's archiver.
    is_memory_short: Arc<AtomicBool>,
    wire: WireOffset,
}

impl RedisBroker {
    /// Creates the driver over the node's clients. `wait` replicas must have a batch before any reader sees it.
    pub fn new(redis: Redis, chance: Chance, wait: u32) -> Self {
        let hearing = Arc::new(Hearing::new(redis.node(), redis.partitions()));
        let (scripts, clocks) = (Arc::default(), Arc::new(Clocks::of_partitions(redis.partitions())));
        Self {
            redis,
            chance,
            wait,
            scripts,
            clocks,
            hearing,
            capacity: Capacity::DEFAULT,
            is_memory_short: Arc::default(),
            wire: WireOffset::default(),
        }
    }

    /// Sets the capacity of queues and logs.
    pub fn with_capacity(self, capacity: Capacity) -> Self {
        Self { capacity, ..self }
    }

    /// Shifts the estimated clock, as if each call took `delay` to arrive.
    #[cfg(test)]
    pub(crate) async fn delay_calls(&self, partition: Partition, delay: Duration) {
        self.clocks.forget(partition);
        let now = self.clock(partition).await.expect("redis answers");
        self.clocks.set(partition, now - delay.as_millis() as i64);
    }

    /// Returns the number of messages that are not in SQL yet, in all partitions.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn backlog_of_all(&self) -> Result<u64, Unavailable> {
        let mut waiting: u64 = 0;
        for partition in (0..self.partitions()).map(Partition) {
            let queue = self.key(partition, "queue")?;
            waiting += call(|| self.redis.client().xlen::<u64, _>(&queue)).await?;
        }
        Ok(waiting)
    }

    /// Returns the name of a key or channel of a partition.
    fn key(&self, partition: Partition, kind: &str) -> Result<String, Unavailable> {
        Ok(self.redis.keys()?.partition(partition, kind))
    }

    /// Runs `accept.lua`. With `wait`, also waits for replicas; the caller then publishes the batch.
    async fn run_accept(&self, partition: Partition, args: Vec<Value>) -> Result<(Value, u32), Unavailable> {
        let (script, queue) = (&self.scripts.accept, self.key(partition, "queue")?);
        if self.wait == 0 {
            return self.redis.eval(script, queue, args).await.map(|answer| (answer, 0));
        }
        self.redis.eval_replicated(script, &queue, &args, self.wait, ACCEPT_TTL / 2).await
    }

    /// Makes messages that replicas have visible to readers, and publishes them.
    async fn show(
        &self,
        partition: Partition,
        publication: Bytes,
        newest: impl Iterator<Item = (RoomName, Seq)>,
    ) -> Result<(), Unavailable> {
        let mut args: Vec<Value> = vec![self.key(partition, "bus")?.into(), publication.into()];
        args.extend(newest.flat_map(|(room, seq)| [Value::from(room.as_str()), (seq as i64).into()]));
        self.redis.eval(&self.scripts.publish, self.key(partition, "queue")?, args).await.map(|_| ())
    }

    /// Whether replicas have everything that was accepted so far.
    pub(crate) async fn is_replicated(&self, partition: Partition) -> Result<bool, Unavailable> {
        let (mark, limit) = (self.key(partition, "mark")?, ACCEPT_TTL / 2);
        let (_, replicas) = self.redis.eval_replicated(&self.scripts.mark, &mark, &[], self.wait, limit).await?;
        Ok(replicas >= self.wait)
    }

    /// Returns the newest visible number of a room. `None`: all entries are visible.
    async fn shown(&self, room: RoomName) -> Result<Option<Seq>, Unavailable> {
        if self.wait == 0 {
            return Ok(None);
        }
        Ok(self.room(room, None).await?.map(|status| status.seq))
    }

    /// Returns the clock of the server that has a partition, in ms.
    async fn clock(&self, partition: Partition) -> Result<i64, Unavailable> {
        if let Some(now) = self.clocks.now(partition) {
            return Ok(now);
        }
        self.clocks.read(&self.redis, partition).await?;
        Ok(self.clocks.now(partition).unwrap_or_default())
    }

    fn room_key(&self, kind: &str, room: RoomName) -> Result<String, Unavailable> {
        Ok(self.redis.keys()?.room(self.partition_of(room), kind, room))
    }

    fn key_of(&self, room: RoomName, kind: &str) -> Result<String, Unavailable> {
        self.key(self.partition_of(room), kind)
    }

    /// Reads a part of a log. Takes the raw reply: the client's conversion would double the cost.
    async fn range(
        &self,
        command: &'static str,
        room: RoomName,
        from: &str,
        to: &str,
        limit: usize,
    ) -> Result<Vec<LogEntry>, Unavailable> {
        let (client, log, limit) = (self.redis.client(), self.room_key("log", room)?, limit.to_string());
        let ask = || async {
            let args = vec![&*log, from, to, "COUNT", &limit];
            answer::checked(client.custom_raw(at_key(command, &log), args).await?)
        };
        // In this order: the visible number may rise meanwhile, and must not admit entries that were hidden when it was
        // read.
        let shown = self.shown(room).await?;
        let mut entries = answer::log(call(ask).await?)?;
        entries.retain(|entry| shown.is_none_or(|shown| entry.seq <= shown));
        entries.iter_mut().for_each(|entry| self.repair(entry));
        Ok(entries)
    }

    /// Reads the status of a room and, with `members`, sets the number of this node's connections in it.
    async fn room(&self, room: RoomName, members: Option<MemberCounts>) -> Result<Option<RoomStatus>, Unavailable> {
        let keys = vec![self.room_key("room", room)?, self.key_of(room, "idle")?];
        let node = if members.is_some() { self.redis.node().to_string() } else { String::new() };
        let MemberCounts { guests, hosts, away } = members.unwrap_or_default();
        let args: Vec<Value> = vec![node.into(), guests.into(), hosts.into(), away.into(), room.as_str().into()];
        let answer = self.redis.eval(&self.scripts.members, keys.clone(), args.clone()).await?;
        let Some(found) = answer::room(answer)? else { return Ok(None) };
        let mut alive = self.redis.live_nodes(false).await?;
        if found.unknown(&alive, self.redis.node()).next().is_some() {
            // A node that has just started may be missing from a list that is up to two seconds old.
            alive = self.redis.live_nodes(true).await?;
            let dead: Vec<String> = found.unknown(&alive, self.redis.node()).map(str::to_owned).collect();
            if members.is_some() && !dead.is_empty() {
                let args: Vec<Value> = args.into_iter().chain(dead.into_iter().map(Value::from)).collect();
                self.redis.eval(&self.scripts.members, keys, args).await?;
            }
        }
        Ok(Some(found.status(&alive, self.redis.node())))
    }
}

/// Lists the traced messages of a batch, in the form that `accept.lua` reads.
fn traces(batch: &[&Submission]) -> String {
    let traced = batch.iter().enumerate().filter_map(|(place, submission)| Some((place, submission.trace?)));
    traced.map(|(place, trace)| format!("{place} {trace}\n")).collect()
}

/// Returns a server command that is routed to the server with this key.
fn at_key(command: &'static str, key: &str) -> CustomCommand {
    CustomCommand::new_static(command, ClusterHash::Custom(fred::util::redis_keyslot(key.as_bytes())), false)
}

fn state_word(state: RoomState) -> &'static str {
    match state {
        RoomState::Open => "open",
        RoomState::Closed => "closed",
        RoomState::Deleted => "deleted",
    }
}

#[async_trait]
impl Broker for RedisBroker {
    fn partitions(&self) -> u16 {
        self.redis.partitions()
    }

    fn max_batch(&self) -> usize {
        if self.partitions() == 1 { MAX_BATCH_OF_ALL } else { MAX_BATCH }
    }

    async fn subscribe(&self, sink: Arc<dyn Sink>) -> Result<(), Unavailable> {
        listener::start(self.redis.clone(), sink, self.hearing.clone(), self.clocks.clone()).await
    }

    async fn accept(&self, partition: Partition, batch: &[&Submission]) -> Result<Vec<Outcome>, Unavailable> {
        let not_after = self.clock(partition).await? + ACCEPT_TTL.as_millis() as i64;
        let mut args: Vec<Value> = Vec::with_capacity(7 + 4 * batch.len());
        let bus = self.key(partition, "bus")?;
        let published_by_script = if self.wait == 0 { bus.as_str() } else { "" };
        args.extend([not_after.into(), self.capacity.queue_messages.into(), (self.capacity.queue_bytes as i64).into()]);
        args.extend([(self.clocks.tick(partition) as i64).into(), published_by_script.into()]);
        args.extend([self.redis.node().as_str().into(), traces(batch).into()]);
        for submission in batch {
            args.extend([
                submission.room.as_str().into(),
                submission.side.letter().into(),
                submission.id.as_str().into(),
                submission.head.clone().into(),
            ]);
        }
        let answer = self.run_accept(partition, args).await;
        // The next answer may come from another server, with another clock.
        let (answer, replicas) = answer.inspect_err(|_| self.clocks.forget(partition))?;
        let mut answer = Answer::list(answer)?;
        self.clocks.set(partition, answer.number()?);
        let Some(tick) = answer.next() else {
            return Err(Unavailable("the call arrived too late and had no effect".into()));
        };
        let Some(tick) = tick.as_u64() else {
            // Redis was emptied or replaced: verify its owner before anything is accepted.
            self.redis.verify().await?;
            return Err(Unavailable("redis had lost this partition; the call had no effect".into()));
        };
        self.clocks.saw_tick(partition, tick);
        let mut outcomes = answer.by_ref().take(batch.len()).map(answer::outcome).collect::<Result<Vec<_>, _>>()?;
        for outcome in &mut outcomes {
            // A frame that needs repair is dropped here. It is repaired where it is read together with its time of
            // acceptance.
            if let Outcome::Known { frame, .. } = outcome {
                *frame = frame.take().filter(|frame| !needs_repair(frame));
            }
        }
        if let Some(publication) = answer.bytes().filter(|publication| !publication.is_empty()) {
            if replicas < self.wait {
                return Err(Unavailable(format!("{replicas} of {} replicas have the batch", self.wait)));
            }
            let newest = batch.iter().zip(&outcomes).filter_map(|(submission, outcome)| match outcome {
                Outcome::Accepted(seq) | Outcome::Known { seq, .. } => Some((submission.room, *seq)),
                _ => None,
            });
            self.show(partition, publication, newest).await?;
        }
        Ok(outcomes)
    }

    async fn life(&self, partition: Partition) -> Result<Option<String>, Unavailable> {
        let answer = self.redis.eval(&self.scripts.life, self.key(partition, "life")?, Vec::<Value>::new()).await?;
        Ok(answer.as_string())
    }

    async fn begin_seed(&self, room: RoomName) -> Result<Option<Ticket>, Unavailable> {
        let ticket = format!("{:032x}", u128::from_ne_bytes(self.chance.bytes::<16>()));
        let keys = vec![self.room_key("room", room)?, self.room_key("seed", room)?];
        let args: Vec<Value> = vec![ticket.as_str().into(), (TICKET_TTL.as_millis() as i64).into()];
        let given = self.redis.eval(&self.scripts.begin_seed, keys, args).await?;
        Ok((given.as_i64() == Some(1)).then_some(Ticket(ticket)))
    }

    async fn finish_seed(&self, room: RoomName, ticket: Ticket, seed: Seed) -> Result<bool, Unavailable> {
        let keys = vec![
            self.room_key("room", room)?,
            self.room_key("seed", room)?,
            self.room_key("ids", room)?,
            self.key_of(room, "idle")?,
        ];
        let mut args: Vec<Value> = vec![
            ticket.0.into(),
            seed.chatroom.0.into(),
            seed.host.0.into(),
            state_word(seed.state).into(),
            (seed.version as i64).into(),
            (seed.seq as i64).into(),
            seed.life.unwrap_or_else(|| "unknown".into()).into(),
            seed.last_at.timestamp_millis().into(),
            room.as_str().into(),
        ];
        for (side, id, seq) in seed.ids {
            args.extend([(seq as i64).into(), format!("{}:{id}", side.letter()).into()]);
        }
        let made = self.redis.eval(&self.scripts.finish_seed, keys, args).await?;
        Ok(made.as_i64() == Some(1))
    }

    async fn bury(&self, room: RoomName) -> Result<(), Unavailable> {
        // Higher than any version of SQL: a deleted row never returns.
        let change = Change { room, change: RoomChange::Delete, version: u64::from(u32::MAX), notice: Bytes::new() };
        self.apply(change).await
    }

    async fn bury_empty(&self, room: RoomName, version: u64) -> Result<bool, Unavailable> {
        self.bury_unused(room, version).await
    }

    async fn set_counts(&self, room: RoomName, counts: MemberCounts) -> Result<Option<RoomStatus>, Unavailable> {
        self.room(room, Some(counts)).await
    }

    async fn enter(
        &self,
        room: RoomName,
        counts: MemberCounts,
        newest: usize,
    ) -> Result<Option<(RoomStatus, Vec<LogEntry>)>, Unavailable> {
        if newest == 0 {
            return Ok(self.set_counts(room, counts).await?.map(|status| (status, Vec::new())));
        }
        // Both run at once. A script that also read the log would take three times as long, because Lua unpacks every
        // entry.
        let told = self.set_counts(room, counts);
        let (status, log) = tokio::try_join!(told, self.log_before(room, None, newest))?;
        Ok(status.map(|status| (status, log)))
    }

    async fn status(&self, rooms: &[RoomName]) -> Result<Vec<Option<RoomStatus>>, Unavailable> {
        // The client pipelines concurrent calls.
        futures_util::future::try_join_all(rooms.iter().map(|room| self.room(*room, None))).await
    }

    async fn unarchived_rooms(&self, host: HostId, limit: usize) -> Result<Vec<RoomName>, Unavailable> {
        self.unarchived(host, limit).await
    }

    async fn tails(&self, queries: &[TailQuery]) -> Result<Vec<Option<Tail>>, Unavailable> {
        // The client pipelines concurrent calls.
        futures_util::future::try_join_all(queries.iter().map(|query| self.tail(query))).await
    }

    async fn log_after(&self, room: RoomName, after: Seq, limit: usize) -> Result<Vec<LogEntry>, Unavailable> {
        self.range("XRANGE", room, &format!("{}-0", after.saturating_add(1)), "+", limit).await
    }

    async fn log_before(
        &self,
        room: RoomName,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<LogEntry>, Unavailable> {
        let end = match before {
            Some(0) => return Ok(Vec::new()),
            Some(seq) => format!("{}-0", seq - 1),
            None => "+".into(),
        };
        self.range("XREVRANGE", room, &end, "-", limit).await
    }

    async fn apply(&self, change: Change) -> Result<(), Unavailable> {
        let room = change.room;
        let of_room = ["room", "log", "ids", "seed"].iter().map(|kind| self.room_key(kind, room));
        let keys = of_room.chain([self.key_of(room, "idle")]).collect::<Result<Vec<String>, _>>()?;
        let args: Vec<Value> = vec![
            (change.version as i64).into(),
            state_word(change.change.state()).into(),
            self.key_of(room, "bus")?.into(),
            publication::changed(&change).into(),
            room.as_str().into(),
            (TOMBSTONE_TTL.as_secs() as i64).into(),
        ];
        self.redis.eval(&self.scripts.apply, keys, args).await?;
        if change.change == RoomChange::Delete {
            self.delete_dead_letters(room, None).await?;
        }
        Ok(())
    }

    async fn purge(&self, room: RoomName, through: Seq) -> Result<(), Unavailable> {
        let keys = vec![self.room_key("room", room)?, self.room_key("log", room)?];
        let args: Vec<Value> = vec![(through as i64).into()];
        self.redis.eval(&self.scripts.purge, keys, args).await?;
        self.delete_dead_letters(room, Some(through)).await
    }

    async fn notify(&self, room: RoomName, from: Side, frame: Bytes) -> Result<(), Unavailable> {
        let publication = publication::notice(room, from, &frame);
        let (client, bus) = (self.redis.client(), self.key_of(room, "bus")?);
        call(|| client.spublish::<(), _, _>(&bus, publication.clone())).await
    }

    async fn announce(&self, control: Control) -> Result<(), Unavailable> {
        let json = serde_json::to_string(&control).map_err(|error| Unavailable(error.to_string()))?;
        let (client, stream) = (self.redis.client(), self.redis.keys()?.control());
        call(|| {
            let cap = (XCapKind::MaxLen, XCapTrim::AlmostExact, CONTROL_LENGTH, None::<i64>);
            client.xadd::<(), _, _, _, _>(stream, false, cap, "*", ("e", &json))
        })
        .await?;
        call(|| client.publish::<(), _, _>(stream, "")).await
    }

    fn hears(&self) -> bool {
        self.hearing.hears()
    }

    async fn ping(&self) -> Result<(), Unavailable> {
        call(|| self.redis.client().ping::<()>(None)).await
    }

    fn archive_queue(&self) -> Option<Arc<dyn ArchiveQueue>> {
        Some(Arc::new(self.clone()))
    }
}

/// Error for an answer of unexpected form. Scripts and logs answer in this driver's own form, so another program has
/// written to this Redis.
fn strange(what: &str) -> Unavailable {
    Unavailable(format!("redis answered something strange: {what}"))
}
