//! Broker of a single-node server. The database is the log, and a publication is a function call within the process.
//!
//! A single-node server is sufficient if one machine can handle the traffic and downtime during a restart is
//! acceptable. Acknowledgements mean the same as in a cluster: a batch is committed before any client receives it. A
//! process that is killed therefore loses no acknowledged message. This broker needs no archive queue, no epochs and no
//! markers for deleted rooms. No other process may open the database (`node::lock`).

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::backend::Unavailable;
use crate::backend::broker::{
    Bus, Change, LogEntry, MemberCounts, MessageLog, Outcome, Partition, Provenance, Publication, RoomStates,
    RoomStatus, Sink, Submission,
};
use crate::domain::Control;
use crate::domain::clock::Clock;
use crate::domain::{RoomChange, RoomName, Side};
use crate::protocol::chat::message_frame;
use crate::store::{Append, Appended, Store};

/// Driver that implements the broker's ports over the database. It has one partition and commits each batch in one
/// transaction.
pub struct EmbeddedBroker {
    store: Store,
    clock: Arc<dyn Clock>,
    sink: OnceLock<Arc<dyn Sink>>,
    members: Mutex<HashMap<RoomName, MemberCounts>>,
    /// Locked while a batch is committed and published, and while a room change is published. Messages are therefore
    /// published in the order of their sequence numbers.
    publishing: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedBroker").field("store", &self.store).finish_non_exhaustive()
    }
}

impl EmbeddedBroker {
    /// Creates the driver. No other process may write to the database.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            sink: OnceLock::new(),
            members: Mutex::default(),
            publishing: tokio::sync::Mutex::default(),
        }
    }

    fn sink(&self) -> Option<&dyn Sink> {
        self.sink.get().map(|sink| &**sink)
    }
}

#[async_trait]
impl MessageLog for EmbeddedBroker {
    fn partitions(&self) -> u16 {
        1
    }

    async fn accept(&self, _: Partition, batch: &[&Submission]) -> Result<Vec<Outcome>, Unavailable> {
        let members: Vec<MemberCounts> = {
            let members = self.members.lock();
            batch.iter().map(|submission| members.get(&submission.room).copied().unwrap_or_default()).collect()
        };
        let rows: Vec<Append> = batch
            .iter()
            .zip(members)
            .map(|(submission, members)| Append {
                room: submission.room,
                side: submission.side,
                id: submission.id.clone(),
                text: submission.text.clone(),
                datetime: submission.datetime.clone(),
                unattended: if submission.side.is_host() { members.guests == 0 } else { members.hosts == 0 },
            })
            .collect();
        let _publishing = self.publishing.lock().await;
        let appended = self.store.messages().append(&rows, self.clock.now()).await?;
        let committed = Instant::now();
        let outcomes = batch.iter().zip(appended).map(|(submission, appended)| match appended {
            Appended::Accepted { host, prev, seq, .. } => {
                if let Some(sink) = self.sink() {
                    let mut frame = submission.head.to_vec();
                    frame.extend_from_slice(seq.to_string().as_bytes());
                    frame.push(b'}');
                    let (room, trace) = (submission.room, submission.trace);
                    let provenance = Some(Provenance { is_own: true, age: committed.elapsed() });
                    sink.publication(&Publication { room, host, prev, seq, frame: &frame, provenance, trace });
                }
                Outcome::Accepted(seq)
            }
            Appended::Known { message } => Outcome::Known { seq: message.seq, frame: Some(message_frame(&message)) },
            Appended::Closed => Outcome::Closed,
            Appended::Deleted => Outcome::Deleted,
        });
        Ok(outcomes.collect())
    }
}

#[async_trait]
impl RoomStates for EmbeddedBroker {
    async fn set_counts(&self, room: RoomName, counts: MemberCounts) -> Result<Option<RoomStatus>, Unavailable> {
        {
            let mut members = self.members.lock();
            if counts == MemberCounts::default() {
                members.remove(&room);
            } else {
                members.insert(room, counts);
            }
        }
        Ok(self.status(&[room]).await?.into_iter().next().flatten())
    }

    async fn enter(
        &self,
        room: RoomName,
        counts: MemberCounts,
        _: usize,
    ) -> Result<Option<(RoomStatus, Vec<LogEntry>)>, Unavailable> {
        Ok(self.set_counts(room, counts).await?.map(|status| (status, Vec::new())))
    }

    async fn status(&self, rooms: &[RoomName]) -> Result<Vec<Option<RoomStatus>>, Unavailable> {
        let mut statuses = Vec::with_capacity(rooms.len());
        for room in rooms {
            let MemberCounts { guests, hosts, away } = self.members.lock().get(room).copied().unwrap_or_default();
            let row = self.store.rooms().by_name(*room).await?;
            statuses.push(row.map(|row| RoomStatus {
                chatroom: row.id,
                host: row.host,
                state: row.state(),
                version: row.state_version,
                seq: row.last_seq,
                archived: row.last_seq,
                guests,
                hosts,
                away,
            }));
        }
        Ok(statuses)
    }

    async fn apply(&self, change: Change) -> Result<(), Unavailable> {
        let _publishing = self.publishing.lock().await;
        // The change is already committed in the database. It is published unless a newer change has been committed
        // since.
        let is_old = match self.store.rooms().by_name(change.room).await? {
            Some(room) => room.state_version > change.version,
            None => change.change != RoomChange::Delete,
        };
        if let Some(sink) = self.sink().filter(|_| !is_old) {
            sink.changed(change);
        }
        Ok(())
    }

    async fn delete_if_empty(&self, room: RoomName, _: u64) -> Result<bool, Unavailable> {
        // The database checks whether the room has a message, so only the connections are checked here.
        Ok(!self.members.lock().contains_key(&room))
    }
}

#[async_trait]
impl Bus for EmbeddedBroker {
    async fn subscribe(&self, sink: Arc<dyn Sink>) -> Result<(), Unavailable> {
        // The driver supports only one sink.
        self.sink.set(sink).map_err(|_| Unavailable("already subscribed".into()))
    }

    async fn notify(&self, room: RoomName, from: Side, frame: Bytes) -> Result<(), Unavailable> {
        if let Some(sink) = self.sink() {
            sink.notice(room, from, &frame);
        }
        Ok(())
    }

    async fn publish_control(&self, control: Control) -> Result<(), Unavailable> {
        if let Some(sink) = self.sink() {
            sink.control(control);
        }
        Ok(())
    }
}
