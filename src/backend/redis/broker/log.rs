//! Implements [`MessageLog`] and [`RecentLog`] on Redis. `accept.lua` assigns sequence numbers to a batch, stores the
//! batch and publishes it in one step.

use async_trait::async_trait;
use bytes::Bytes;
use fred::prelude::*;

use super::answer::{self, Answer};
use super::{ACCEPT_TTL, RedisBroker, at_key};
use crate::backend::Unavailable;
use crate::backend::broker::{
    LogEntry, MAX_BATCH, MAX_BATCH_OF_ALL, MessageLog, Outcome, Partition, RecentLog, Submission, Tail, TailQuery,
};
use crate::backend::redis::call;
use crate::domain::{HostId, RoomName, Seq};
use crate::protocol::chat::needs_repair;

impl RedisBroker {
    /// Builds the arguments of `accept.lua`.
    async fn accept_args(&self, partition: Partition, batch: &[&Submission]) -> Result<Vec<Value>, Unavailable> {
        let not_after = self.clock(partition).await? + ACCEPT_TTL.as_millis() as i64;
        let mut args: Vec<Value> = Vec::with_capacity(8 + 4 * batch.len());
        let bus = self.key(partition, "bus")?;
        let published_by_script = if self.wait == 0 { bus.as_str() } else { "" };
        args.extend([not_after.into(), self.capacity.queue_messages.into(), (self.capacity.queue_bytes as i64).into()]);
        args.extend([(self.clocks.tick(partition) as i64).into(), published_by_script.into()]);
        let can_slots_move = i64::from(self.partitions() > 1);
        args.extend([self.redis.node().as_str().into(), traces(batch).into(), can_slots_move.into()]);
        for submission in batch {
            args.extend([
                submission.room.as_str().into(),
                submission.side.letter().into(),
                submission.id.as_str().into(),
                submission.head.clone().into(),
            ]);
        }
        Ok(args)
    }

    /// Records the clock and the tick at the start of an answer from `accept.lua`. Returns an error if the call had no
    /// effect.
    async fn read_ticks(&self, partition: Partition, answer: &mut Answer) -> Result<(), Unavailable> {
        self.clocks.set(partition, answer.number()?);
        let Some(tick) = answer.next() else {
            return Err(Unavailable("the call arrived too late and had no effect".into()));
        };
        let Some(tick) = tick.as_u64() else {
            // Redis was emptied or replaced. The node must verify its owner before it accepts messages again.
            self.redis.verify().await?;
            return Err(Unavailable("the partition is missing from redis; the call had no effect".into()));
        };
        self.clocks.saw_tick(partition, tick);
        Ok(())
    }

    /// Runs `accept.lua`. If `wait` is not 0, also waits for replicas, and the caller must publish the batch.
    async fn run_accept(&self, partition: Partition, args: Vec<Value>) -> Result<(Value, u32), Unavailable> {
        let (script, queue) = (&self.scripts.accept, self.key(partition, "queue")?);
        if self.wait == 0 {
            return self.redis.eval(script, queue, args).await.map(|answer| (answer, 0));
        }
        self.redis.eval_replicated(script, &queue, &args, self.wait, ACCEPT_TTL / 2).await
    }

    /// Makes messages visible to readers and publishes them. The replicas must already have the messages.
    pub(super) async fn publish_replicated(
        &self,
        partition: Partition,
        publication: Bytes,
        newest: impl Iterator<Item = (RoomName, Seq)>,
    ) -> Result<(), Unavailable> {
        let mut args: Vec<Value> = vec![self.key(partition, "bus")?.into(), publication.into()];
        args.extend(newest.flat_map(|(room, seq)| [Value::from(room.as_str()), (seq as i64).into()]));
        self.redis.eval(&self.scripts.publish, self.key(partition, "queue")?, args).await.map(|_| ())
    }

    /// Waits until replicas have all messages that were accepted so far, but only for a limited time. Returns whether
    /// they have them.
    pub(crate) async fn is_replicated(&self, partition: Partition) -> Result<bool, Unavailable> {
        let (mark, limit) = (self.key(partition, "mark")?, ACCEPT_TTL / 2);
        let (_, replicas) = self.redis.eval_replicated(&self.scripts.mark, &mark, &[], self.wait, limit).await?;
        Ok(replicas >= self.wait)
    }

    /// Returns the sequence number of a room's newest visible message. Returns `None` if the driver does not wait for
    /// replicas, so that all entries are visible, or if the broker does not have the room.
    pub(super) async fn shown(&self, room: RoomName) -> Result<Option<Seq>, Unavailable> {
        if self.wait == 0 {
            return Ok(None);
        }
        Ok(self.room(room, None).await?.map(|status| status.seq))
    }

    /// Reads a range of a room's log. Uses the raw reply, because the client's conversion would double the cost.
    async fn range(
        &self,
        command: &'static str,
        room: RoomName,
        from: &str,
        to: &str,
        limit: usize,
    ) -> Result<Vec<LogEntry>, Unavailable> {
        let (client, log, limit) = (self.redis.client(), self.room_key("log", room)?, limit.to_string());
        let read = || async {
            let args = vec![&*log, from, to, "COUNT", &limit];
            answer::checked(client.custom_raw(at_key(command, &log), args).await?)
        };
        // The number of the newest visible message must be read before the entries, because it may increase between the
        // two reads. If it was read after the entries, it could include entries that were still hidden when they were
        // read.
        let shown = self.shown(room).await?;
        let mut entries = answer::log(call(read).await?)?;
        entries.retain(|entry| shown.is_none_or(|shown| entry.seq <= shown));
        entries.iter_mut().for_each(|entry| self.repair(entry));
        Ok(entries)
    }
}

/// Drops the frame of an outcome if the frame needs repair. The repair needs the time of acceptance, which the outcome
/// does not contain. The caller reads the frame from the log instead.
fn drop_frame_to_repair(outcome: &mut Outcome) {
    if let Outcome::Known { frame, .. } = outcome {
        *frame = frame.take().filter(|frame| !needs_repair(frame));
    }
}

/// Lists the traced messages of a batch in the format that `accept.lua` reads.
fn traces(batch: &[&Submission]) -> String {
    let traced = batch.iter().enumerate().filter_map(|(place, submission)| Some((place, submission.trace?)));
    traced.map(|(place, trace)| format!("{place} {trace}\n")).collect()
}

#[async_trait]
impl MessageLog for RedisBroker {
    fn partitions(&self) -> u16 {
        self.redis.partitions()
    }

    fn max_batch(&self) -> usize {
        if self.partitions() == 1 { MAX_BATCH_OF_ALL } else { MAX_BATCH }
    }

    async fn accept(&self, partition: Partition, batch: &[&Submission]) -> Result<Vec<Outcome>, Unavailable> {
        let args = self.accept_args(partition, batch).await?;
        let answer = self.run_accept(partition, args).await;
        // After an error, the next answer may come from a different server, so the clock must be read again.
        let (answer, replicas) = answer.inspect_err(|_| self.clocks.forget(partition))?;
        let mut answer = Answer::list(answer)?;
        self.read_ticks(partition, &mut answer).await?;
        let mut outcomes = answer.by_ref().take(batch.len()).map(answer::outcome).collect::<Result<Vec<_>, _>>()?;
        outcomes.iter_mut().for_each(drop_frame_to_repair);
        if let Some(publication) = answer.bytes().filter(|publication| !publication.is_empty()) {
            if replicas < self.wait {
                let problem = format!("{replicas} replicas acknowledged the batch, {} are required", self.wait);
                return Err(Unavailable(problem.into()));
            }
            let newest = batch.iter().zip(&outcomes).filter_map(|(submission, outcome)| match outcome {
                Outcome::Accepted(seq) | Outcome::Known { seq, .. } => Some((submission.room, *seq)),
                _ => None,
            });
            self.publish_replicated(partition, publication, newest).await?;
        }
        Ok(outcomes)
    }
}

#[async_trait]
impl RecentLog for RedisBroker {
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

    async fn unarchived_rooms(&self, host: HostId, limit: usize) -> Result<Vec<RoomName>, Unavailable> {
        self.unarchived(host, limit).await
    }

    async fn tails(&self, queries: &[TailQuery]) -> Result<Vec<Option<Tail>>, Unavailable> {
        // The calls run concurrently, and the client pipelines them.
        futures_util::future::try_join_all(queries.iter().map(|query| self.tail(query))).await
    }

    async fn purge(&self, room: RoomName, through: Seq) -> Result<(), Unavailable> {
        let keys = vec![self.room_key("room", room)?, self.room_key("log", room)?];
        let args: Vec<Value> = vec![(through as i64).into()];
        self.redis.eval(&self.scripts.purge, keys, args).await?;
        self.delete_dead_letters(room, Some(through)).await
    }
}
