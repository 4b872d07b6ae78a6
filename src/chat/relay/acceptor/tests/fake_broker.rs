//! Minimal in-memory broker with injected faults.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::backend::Unavailable;
use crate::backend::broker::{MessageLog, Outcome, Partition, Publication, Submission};
use crate::chat::hub::Hub;
use crate::domain::{HostId, MessageId, RoomName, Seq, Side};

/// Fault of one call to the broker.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The call succeeds.
    Nothing,
    /// The call does not reach the broker.
    Lost,
    /// The call takes effect, but its response is lost.
    AnswerLost,
    /// The call takes effect, but its publications are lost.
    Unpublished,
    /// All messages of this room have this outcome.
    Refused(RoomName, Outcome),
}

#[derive(Default)]
pub(super) struct FakeState {
    pub(super) faults: VecDeque<Fault>,
    /// Fault of each call after those in `faults`. `None`: these calls succeed.
    pub(super) forever: Option<Fault>,
    /// Message ids of each call.
    pub(super) calls: Vec<Vec<String>>,
    pub(super) rooms: HashMap<RoomName, Vec<(Side, MessageId, Bytes)>>,
}

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
        hub.deliver(&Publication {
            room,
            host: HostId(1),
            prev: seq - 1,
            seq,
            frame: &frame,
            provenance: None,
            trace: None,
        });
    }
    Outcome::Accepted(seq)
}

#[async_trait::async_trait]
impl MessageLog for FakeBroker {
    fn partitions(&self) -> u16 {
        1
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
}
