//! A minimal in-memory broker with injected faults.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::backend::broker::queue::ArchiveQueue;
use crate::backend::broker::{
    Broker, Change, LogEntry, MemberCounts, Outcome, Partition, Publication, RoomStatus, Seed, Sink, Submission,
    Ticket, Unavailable,
};
use crate::chat::hub::Hub;
use crate::domain::{Control, HostId, MessageId, RoomName, Seq, Side};

/// Fault of one call.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// No fault.
    Nothing,
    /// The call does not reach the broker.
    Lost,
    /// The call takes effect, and its answer is lost.
    AnswerLost,
    /// The call takes effect, and its publications are lost.
    Unpublished,
    /// All messages of a room have this outcome.
    Refused(RoomName, Outcome),
}

#[derive(Default)]
pub(super) struct FakeState {
    pub(super) faults: VecDeque<Fault>,
    /// Fault of all calls after `faults`; `None`: no faults.
    pub(super) forever: Option<Fault>,
    /// Message ids of every call.
    pub(super) calls: Vec<Vec<String>>,
    pub(super) rooms: HashMap<RoomName, Vec<(Side, MessageId, Bytes)>>,
}

/// A minimal in-memory broker with injected faults.
pub(super) struct FakeBroker {
    pub(super) state: Mutex<FakeState>,
    pub(super) hub: Arc<Hub>,
    /// Duration of a call.
    pub(super) takes: Duration,
}

impl FakeBroker {
    pub(super) fn calls(&self) -> Vec<Vec<String>> {
        self.state.lock().calls.clone()
    }

    /// Returns the ids of the accepted messages of a room, in order.
    pub(super) fn accepted(&self, room: RoomName) -> Vec<String> {
        let state = self.state.lock();
        state.rooms.get(&room).into_iter().flatten().map(|(_, id, _)| id.to_string()).collect()
    }
}

fn take(state: &mut FakeState, submission: &Submission, fault: Option<&Fault>, hub: &Hub) -> Outcome {
    if let Some(Fault::Refused(room, outcome)) = fault
        && *room == submission.room
    {
        return outcome.clone();
    }
    let log = state.rooms.entry(submission.room).or_default();
    let known = log.iter().zip(1..).find(|((side, id, _), _)| (*side, id) == (submission.side, &submission.id));
    if let Some(((.., frame), seq)) = known {
        return Outcome::Known { seq, frame: Some(frame.clone()) };
    }
    let seq = log.len() as Seq + 1;
    let frame: Bytes = [&submission.head[..], format!("{seq}}}").as_bytes()].concat().into();
    log.push((submission.side, submission.id.clone(), frame.clone()));
    if !matches!(fault, Some(Fault::Unpublished)) {
        let room = submission.room;
        hub.deliver(&Publication { room, host: HostId(1), prev: seq - 1, seq, frame: &frame, way: None, trace: None });
    }
    Outcome::Accepted(seq)
}

#[async_trait::async_trait]
impl Broker for FakeBroker {
    fn partitions(&self) -> u16 {
        1
    }
    async fn subscribe(&self, _: Arc<dyn Sink>) -> Result<(), Unavailable> {
        Ok(())
    }
    async fn accept(&self, _: Partition, batch: &[&Submission]) -> Result<Vec<Outcome>, Unavailable> {
        tokio::time::sleep(self.takes).await;
        assert!(batch.len() <= self.max_batch());
        let mut state = self.state.lock();
        state.calls.push(batch.iter().map(|submission| submission.id.to_string()).collect());
        let fault = state.faults.pop_front().or_else(|| state.forever.clone());
        if matches!(fault, Some(Fault::Lost)) {
            return Err(Unavailable("lost".into()));
        }
        let outcomes = batch.iter().map(|one| take(&mut state, one, fault.as_ref(), &self.hub)).collect();
        if matches!(fault, Some(Fault::AnswerLost)) { Err(Unavailable("answer lost".into())) } else { Ok(outcomes) }
    }
    async fn life(&self, _: Partition) -> Result<Option<String>, Unavailable> {
        Ok(None)
    }
    async fn begin_seed(&self, _: RoomName) -> Result<Option<Ticket>, Unavailable> {
        Ok(None)
    }
    async fn finish_seed(&self, _: RoomName, _: Ticket, _: Seed) -> Result<bool, Unavailable> {
        Ok(true)
    }
    async fn bury(&self, _: RoomName) -> Result<(), Unavailable> {
        Ok(())
    }
    async fn set_counts(&self, _: RoomName, _: MemberCounts) -> Result<Option<RoomStatus>, Unavailable> {
        Ok(None)
    }
    async fn enter(
        &self,
        _: RoomName,
        _: MemberCounts,
        _: usize,
    ) -> Result<Option<(RoomStatus, Vec<LogEntry>)>, Unavailable> {
        Ok(None)
    }
    async fn status(&self, rooms: &[RoomName]) -> Result<Vec<Option<RoomStatus>>, Unavailable> {
        Ok(vec![None; rooms.len()])
    }
    async fn log_after(&self, _: RoomName, _: Seq, _: usize) -> Result<Vec<LogEntry>, Unavailable> {
        Ok(Vec::new())
    }
    async fn log_before(&self, _: RoomName, _: Option<Seq>, _: usize) -> Result<Vec<LogEntry>, Unavailable> {
        Ok(Vec::new())
    }
    async fn apply(&self, _: Change) -> Result<(), Unavailable> {
        Ok(())
    }
    async fn notify(&self, _: RoomName, _: Side, _: Bytes) -> Result<(), Unavailable> {
        Ok(())
    }
    async fn announce(&self, _: Control) -> Result<(), Unavailable> {
        Ok(())
    }
    async fn ping(&self) -> Result<(), Unavailable> {
        Ok(())
    }
    fn archive_queue(&self) -> Option<Arc<dyn ArchiveQueue>> {
        None
    }
}
