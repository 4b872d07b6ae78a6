//! Submits the messages of one partition to the broker, with at most one call in flight. The next call contains the
//! messages that arrived during the current one.
//!
//! Batches grow under load; an idle acceptor submits a message at once. If a room must be seeded or the archive queue
//! of the partition is full, the messages of the room are held in order. The acceptor continues with other rooms.
//!
//! **Invariant:** the messages of a connection reach the broker in order. If one is dropped, all later ones are dropped
//! too.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::backend::Unavailable;
use crate::backend::broker::{MAX_BATCH_BYTES, MessageLog, Outcome, Partition, Submission};
use crate::backend::shutdown::Shutdown;
use crate::chat::hub::{Connection, Hub};
use crate::chat::metrics::{GapReason, MessageResult, RelayMetrics};
use crate::chat::rooms::Rooms;
use crate::domain::trace::TraceSpan;
use crate::domain::{RoomName, Seq};
use crate::protocol::{Close, frame};

mod awaited;
mod background;
mod submissions;

use awaited::Awaited;
use background::{FULL_RETRY, Released};
use submissions::{Pending, SubmissionQueue};

/// Maximum time from the submission of a message until it is acknowledged or rejected. The sender of an overdue message
/// is disconnected with 1013.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time from the acceptance of a message to its arrival over the bus. If it does not arrive, the connections in
/// the room read the log.
const ECHO_TIMEOUT: Duration = Duration::from_secs(1);

/// Minimum interval between searches for overdue messages.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Maximum bytes of unacknowledged messages per partition. At the limit, the sockets of the rooms in the partition are
/// not read.
const QUEUED_BYTES: usize = 64 * 1024 * 1024;

/// Delay after a failed call to the broker.
const RETRY: Duration = Duration::from_millis(100);

/// Handle of an acceptor's task.
#[derive(Clone, Debug)]
pub(super) struct Acceptor(Arc<SubmissionQueue>);

impl Acceptor {
    pub(super) fn start(
        partition: Partition,
        broker: Arc<dyn MessageLog>,
        rooms: Rooms,
        hub: Arc<Hub>,
        shutdown: &Shutdown,
    ) -> Self {
        let submissions = Arc::new(SubmissionQueue::default());
        let worker = Worker {
            partition,
            broker,
            rooms,
            metrics: hub.relay_metrics().clone(),
            hub,
            submissions: submissions.clone(),
            ready: VecDeque::new(),
            held: HashMap::new(),
            awaited: VecDeque::new(),
            released: Arc::default(),
            shutdown: shutdown.clone(),
            checked: Instant::now(),
        };
        shutdown.spawn(worker.run());
        Self(submissions)
    }

    pub(super) fn submit(&self, connection: Arc<Connection>, mut submission: Submission) {
        connection.submitted(submission.head.len() as u32);
        let span = TraceSpan::root("message.accept");
        submission.trace = span.as_ref().map(TraceSpan::trace);
        let (since, sent) = (Instant::now(), connection.sent());
        self.0.bytes.fetch_add(submission.head.len(), Ordering::Relaxed);
        self.0.queue.lock().push_back(Pending { connection, submission, since, sent, tried: false, span });
        self.0.arrived.notify_one();
    }

    /// Returns whether the limit of unacknowledged bytes is reached. If it is, sockets must not be read.
    pub(super) fn is_full(&self) -> bool {
        self.0.bytes.load(Ordering::Relaxed) >= QUEUED_BYTES
    }
}

struct Worker {
    partition: Partition,
    broker: Arc<dyn MessageLog>,
    rooms: Rooms,
    hub: Arc<Hub>,
    submissions: Arc<SubmissionQueue>,
    /// Messages for the next calls, in order.
    ready: VecDeque<Pending>,
    /// Messages of rooms that must be seeded first or are blocked by a full archive queue.
    held: HashMap<RoomName, VecDeque<Pending>>,
    /// Accepted messages that may not have reached their senders yet, ordered by deadline.
    awaited: VecDeque<Awaited>,
    released: Arc<Released>,
    shutdown: Shutdown,
    metrics: Arc<RelayMetrics>,
    /// Time of the last search for overdue messages.
    checked: Instant,
}

impl Worker {
    async fn run(mut self) {
        let (submissions, shutdown) = (self.submissions.clone(), self.shutdown.clone());
        loop {
            self.collect();
            if self.ready.is_empty() {
                let idle = self.held.is_empty() && self.awaited.is_empty();
                if idle && shutdown.is_stopping() {
                    return;
                }
                let next = self.awaited.front().map(|awaited| awaited.deadline);
                let next = next
                    .unwrap_or_else(|| Instant::now() + ANSWER_TIMEOUT)
                    .min(Instant::now() + ECHO_TIMEOUT * if idle { 60 } else { 1 });
                tokio::select! {
                    () = submissions.arrived.notified() => {}
                    () = tokio::time::sleep_until(next) => {}
                    () = shutdown.stopping(), if idle => {}
                }
            } else {
                self.call().await;
            }
            self.check_echoes();
            self.drop_overdue();
        }
    }

    /// Sorts newly submitted messages, and messages of released rooms, into `ready` and `held`. Rejects the messages of
    /// rooms that no longer exist.
    fn collect(&mut self) {
        for (room, exists) in std::mem::take(&mut *self.released.rooms.lock()) {
            let held = self.held.remove(&room).unwrap_or_default();
            if exists {
                // Held messages are older than all other messages of their room, so they go first.
                held.into_iter().rev().for_each(|pending| self.ready.push_front(pending));
            } else {
                held.into_iter().for_each(|pending| reject(&pending, &self.submissions, Close::NotFound));
            }
        }
        let arrived = std::mem::take(&mut *self.submissions.queue.lock());
        for pending in arrived {
            match self.held.get_mut(&pending.submission.room) {
                Some(held) => held.push_back(pending),
                None => self.ready.push_back(pending),
            }
        }
    }

    /// Removes the messages of the next call from `ready` and returns them. Drops the messages of abandoned
    /// connections.
    fn next_batch(&mut self) -> Vec<Pending> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < self.broker.max_batch() {
            let Some(next) = self.ready.front() else { break };
            let is_abandoned = next.connection.is_abandoned();
            if !is_abandoned {
                bytes += next.submission.head.len();
                if bytes > MAX_BATCH_BYTES && !batch.is_empty() {
                    break;
                }
            }
            let Some(next) = self.ready.pop_front() else { break };
            if is_abandoned {
                next.answered(&self.submissions);
            } else {
                batch.push(next);
            }
        }
        batch
    }

    async fn call(&mut self) {
        let batch = self.next_batch();
        let len = batch.len();
        if len == 0 {
            return;
        }
        let began = Instant::now();
        let calls: Vec<TraceSpan> =
            batch.iter().filter_map(|pending| pending.submission.trace?.child("broker.accept")).collect();
        let answer = {
            let batch: Vec<&Submission> = batch.iter().map(|pending| &pending.submission).collect();
            self.broker.accept(self.partition, &batch).await
        };
        let now = Instant::now();
        for mut call in calls {
            call.note("pintalk.batch", len as i64);
            if answer.is_err() {
                call.fail("failed to accept the batch");
            }
        }
        self.metrics.accept_duration.record(now - began);
        self.metrics.accept_batch.record(len as f64);
        match answer {
            Ok(outcomes) => {
                let mut again: Vec<Pending> = Vec::new();
                for (pending, outcome) in batch.into_iter().zip(outcomes) {
                    self.settle(pending, outcome, now, &mut again);
                }
                for pending in again {
                    self.held.entry(pending.submission.room).or_default().push_back(pending);
                }
                self.hold_remaining();
            }
            Err(error) => self.failed(batch, &error).await,
        }
    }

    /// Moves the messages of held rooms from `ready` to `held`, so that none is sent before an earlier message of its
    /// room.
    fn hold_remaining(&mut self) {
        if self.held.is_empty() {
            return;
        }
        for pending in std::mem::take(&mut self.ready) {
            match self.held.get_mut(&pending.submission.room) {
                Some(held) => held.push_back(pending),
                None => self.ready.push_back(pending),
            }
        }
    }

    async fn failed(&mut self, batch: Vec<Pending>, error: &Unavailable) {
        self.metrics.accept_failures.increment(1);
        let messages = batch.len();
        tracing::warn!(%error, partition = self.partition.0, messages, "failed to accept batch, retrying");
        // A failed call may still have taken effect, so its messages are marked as tried.
        batch.into_iter().rev().for_each(|pending| self.ready.push_front(Pending { tried: true, ..pending }));
        tokio::time::sleep(RETRY).await;
    }

    fn settle(&mut self, mut pending: Pending, outcome: Outcome, now: Instant, again: &mut Vec<Pending>) {
        let (result, seq) = match outcome {
            Outcome::Accepted(seq) => {
                self.await_echo(&pending, seq);
                (MessageResult::Accepted, Some(seq))
            }
            // An earlier attempt of this node was accepted, so the message arrives over the bus. If the sender already
            // had this sequence number at submission, the number belongs to an earlier message with the same id.
            Outcome::Known { seq, .. } if pending.tried && seq > pending.sent => {
                self.await_echo(&pending, seq);
                (MessageResult::Accepted, Some(seq))
            }
            Outcome::Known { seq, frame: Some(frame) } => {
                pending.connection.answer_duplicate(seq, frame::text(&frame));
                (MessageResult::Duplicate, Some(seq))
            }
            Outcome::Known { seq, frame: None } => {
                self.answer_from_history(&pending, seq);
                (MessageResult::Duplicate, Some(seq))
            }
            Outcome::Closed => {
                self.closed(&pending);
                (MessageResult::Refused, None)
            }
            Outcome::Deleted => {
                pending.connection.abandon(None, Close::NotFound);
                (MessageResult::Refused, None)
            }
            Outcome::Unseeded => {
                if !self.held.contains_key(&pending.submission.room) && !contains_room(again, pending.submission.room) {
                    self.seed(pending.submission.room);
                }
                again.push(pending);
                return;
            }
            Outcome::Full => {
                if !self.held.contains_key(&pending.submission.room) && !contains_room(again, pending.submission.room) {
                    self.metrics.queue_full.increment(1);
                    self.release_later(pending.submission.room, FULL_RETRY);
                }
                again.push(pending);
                return;
            }
        };
        self.metrics.messages.get(result).increment(1);
        if let Some(seq) = seq {
            self.metrics.acknowledge_duration.record(now - pending.since);
            if let Some(span) = &mut pending.span {
                span.note("pintalk.room", pending.submission.room.to_string());
                span.note("pintalk.seq", seq as i64);
            }
        }
        pending.answered(&self.submissions);
    }

    fn await_echo(&mut self, pending: &Pending, seq: Seq) {
        let now = Instant::now();
        let (room, connection) = (pending.submission.room, pending.connection.clone());
        let (deadline, give_up) = (now + ECHO_TIMEOUT, pending.since + ANSWER_TIMEOUT);
        self.awaited.push_back(Awaited { deadline, give_up, room, connection, seq });
    }

    /// Makes the connections in a room read the log if an accepted message did not arrive over the bus. Disconnects the
    /// sender if it has not received the message within [`ANSWER_TIMEOUT`] of its submission. Its client then
    /// reconnects and reads the stored message.
    fn check_echoes(&mut self) {
        let now = Instant::now();
        let mut missed: HashSet<RoomName> = HashSet::new();
        let mut again = Vec::new();
        while let Some(first) = self.awaited.front() {
            if !first.is_settled() && first.deadline > now {
                break;
            }
            let Some(mut first) = self.awaited.pop_front() else { break };
            if first.is_settled() {
                continue;
            }
            if first.give_up <= now {
                first.connection.close(first.connection.try_later());
                continue;
            }
            if missed.insert(first.room) {
                self.metrics.gaps.get(GapReason::Echo).increment(1);
                self.hub.catch_up(first.room, first.seq);
            }
            first.deadline = now + ECHO_TIMEOUT;
            again.push(first);
        }
        self.awaited.extend(again);
    }

    /// Disconnects the senders of overdue messages and drops all messages of these senders that still wait. Runs at
    /// most once per [`CHECK_INTERVAL`], because it iterates over all waiting messages.
    fn drop_overdue(&mut self) {
        let now = Instant::now();
        if now - self.checked < CHECK_INTERVAL {
            return;
        }
        self.checked = now;
        let late = |pending: &Pending| now - pending.since > ANSWER_TIMEOUT;
        let given_up = self.ready.iter().chain(self.held.values().flatten()).filter(|pending| late(pending));
        for pending in given_up {
            if !pending.connection.is_abandoned() {
                self.metrics.messages.get(MessageResult::GivenUp).increment(1);
                pending.connection.abandon(None, pending.connection.try_later());
                pending.connection.close(pending.connection.try_later());
            }
        }
        for waiting in self.held.values_mut().chain([&mut self.ready]) {
            waiting.retain(|pending| {
                let keep = !pending.connection.is_abandoned();
                if !keep {
                    pending.answered(&self.submissions);
                }
                keep
            });
        }
    }
}

fn contains_room(again: &[Pending], room: RoomName) -> bool {
    again.iter().any(|pending| pending.submission.room == room)
}

fn reject(pending: &Pending, submissions: &SubmissionQueue, close: Close) {
    pending.connection.abandon(None, close);
    pending.answered(submissions);
}

#[cfg(test)]
mod tests;
