//! The handle of one socket: its outbox, and whether it is catching up or live.
//!
//! The relay writes to it from any thread; the task that owns the socket reads from it. A socket is either **live**
//! (publications are queued as they arrive) or **catching up** (its own task reads the log from the last number that
//! was queued; publications only raise the target). It changes from one to the other under the lock of this handle.
//!
//! **Invariant:** each number is queued once per socket, in rising order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::chat::metrics::OutboxMetrics;
use crate::domain::{ConnectionId, HostId, Seq, Side};
use crate::protocol::Close;

mod notices;

use notices::Notices;
pub use notices::Topic;

/// Maximum number of frames in an outbox. Beyond it the socket is closed with 1013; the client resumes.
pub const OUTBOX_FRAMES: usize = 256;

/// Maximum bytes in an outbox.
pub const OUTBOX_BYTES: usize = 256 * 1024;

/// Maximum number of unacknowledged messages per socket. At the limit the socket is not read further.
pub const WINDOW_MESSAGES: u32 = 16;

/// Maximum bytes of unacknowledged messages per socket.
pub const WINDOW_BYTES: u32 = 64 * 1024;

/// Identity of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// An anonymous visitor.
    Guest,
    /// A host, with the login of this socket.
    Host {
        /// Row id of the host.
        host: HostId,
        /// Id of the login.
        sid: Box<str>,
    },
}

/// Handle of one socket. See the module.
#[derive(Debug)]
pub struct Connection {
    id: ConnectionId,
    identity: Identity,
    extras: bool,
    away: AtomicBool,
    retry_ms: u16,
    state: Mutex<State>,
    changed: Notify,
    metrics: Arc<OutboxMetrics>,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Waiting notices, at most the newest of each topic; sent after `frames`.
    notices: Notices,
    /// Bytes that the socket's task took in the last [`Connection::take`]. They count as unwritten until the next.
    taken: usize,
    end: Option<Close>,
    /// Last frame and close that wait until the socket is up to date.
    last: Option<(Option<Bytes>, Close)>,
    /// Highest number queued.
    sent: Seq,
    /// Lowest number queued; 0 before the first.
    first: Seq,
    behind: Option<Behind>,
    waiting: u32,
    waiting_bytes: u32,
    abandoned: bool,
}

/// Result of [`Connection::deliver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The message is in the outbox.
    Queued,
    /// A message before it is missing. The socket is now catching up.
    Gap,
    /// Nothing to queue: the socket already has the message, will read it from the log, or is ending.
    NotNow,
}

/// State of a socket that is catching up.
#[derive(Clone, Copy, Debug)]
struct Behind {
    /// Highest number known.
    target: Seq,
}

impl Connection {
    pub(super) fn new(
        id: ConnectionId,
        identity: Identity,
        extras: bool,
        retry_ms: u16,
        metrics: Arc<OutboxMetrics>,
    ) -> Self {
        let away = AtomicBool::new(false);
        Self { id, identity, extras, away, retry_ms, state: Mutex::default(), changed: Notify::new(), metrics }
    }

    /// Metrics of the outboxes of this node.
    pub(crate) fn metrics(&self) -> &OutboxMetrics {
        &self.metrics
    }

    /// Returns the id of this connection, unique within the process.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Returns the identity of the peer.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the side of the peer.
    pub fn side(&self) -> Side {
        match self.identity {
            Identity::Guest => Side::Guest,
            Identity::Host { .. } => Side::Host,
        }
    }

    /// Whether the client asked for the frames of later versions (SPEC 4, `v=2`).
    pub fn wants_extras(&self) -> bool {
        self.extras
    }

    /// Whether the host has sent the notice `away` (SPEC 4).
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Sets [`is_away`](Self::is_away). Returns the previous value.
    pub fn set_away(&self, away: bool) -> bool {
        self.away.swap(away, Ordering::Relaxed)
    }

    /// Returns the delay after which this client is asked to reconnect, in ms. Random per connection.
    pub fn retry_ms(&self) -> u16 {
        self.retry_ms
    }

    /// Returns the close with 1013 and that delay.
    pub fn try_later(&self) -> Close {
        Close::TryLater { retry: Duration::from_millis(u64::from(self.retry_ms)) }
    }

    /// Waits until the state of this handle may have changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    // ---- called by the relay

    /// Queues a live message, or raises the target of a socket that is catching up. `prev` is the preceding number in
    /// the room.
    pub fn deliver(&self, prev: Seq, seq: Seq, framed: &Bytes) -> Delivery {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return Delivery::NotNow;
        }
        let delivery = if let Some(behind) = &mut state.behind {
            behind.target = behind.target.max(seq);
            Delivery::NotNow
        } else if seq <= state.sent {
            return Delivery::NotNow;
        } else if prev > state.sent || seq - prev > 1 {
            // A message in between was missed, or lost with the broker's last epoch.
            state.behind = Some(Behind { target: seq });
            Delivery::Gap
        } else {
            state.sent = seq;
            state.shown(seq);
            self.queue(&mut state, framed.clone());
            // The message may have exceeded the outbox.
            if state.end.is_none() { Delivery::Queued } else { Delivery::NotNow }
        };
        drop(state);
        self.changed.notify_one();
        delivery
    }

    /// Returns the bytes that wait for the socket, including those that its task is writing.
    pub fn waiting_bytes(&self) -> usize {
        self.state.lock().waiting_bytes()
    }

    /// Whether only notices wait for the socket, so that a page of older messages may be read.
    pub fn has_room(&self) -> bool {
        self.state.lock().has_room()
    }

    /// Queues a notice if the socket is up to date. While it is catching up, the notice is dropped.
    pub fn pass(&self, topic: Topic, framed: &Bytes) {
        let mut state = self.state.lock();
        if state.end.is_none() && state.behind.is_none() {
            state.notify(topic, framed.clone(), &self.metrics);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Queues a notice. It replaces a waiting one of the same topic. It never closes the socket: when too many wait,
    /// the oldest are dropped and counted.
    pub fn notify(&self, topic: Topic, framed: Bytes) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.notify(topic, framed, &self.metrics);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Queues a frame for this socket only.
    pub fn push(&self, framed: Bytes) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            self.queue(&mut state, framed);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Queues the original of a message that had been accepted earlier. If this socket has not received that number
    /// yet, it reads the log instead, in order: a client that disconnected after an early copy would resume after its
    /// number and miss the messages before it.
    pub fn answer(&self, seq: Seq, framed: Bytes) {
        let mut state = self.state.lock();
        if state.end.is_none() && seq <= state.sent {
            self.queue(&mut state, framed);
        } else if state.end.is_none() {
            let behind = state.behind.get_or_insert(Behind { target: seq });
            behind.target = behind.target.max(seq);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Closes the socket after its queued frames are written. Only the first call has an effect.
    pub fn end(&self, close: Close) {
        self.state.lock().end.get_or_insert(close);
        self.changed.notify_one();
    }

    /// Closes the socket after it is up to date and has received a last frame.
    pub fn end_after_all(&self, last: Option<Bytes>, close: Close) {
        let mut state = self.state.lock();
        state.last.get_or_insert((last, close));
        if state.behind.is_none() {
            self.finish(&mut state);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Returns the close that is pending, if any.
    pub fn ending(&self) -> Option<Close> {
        self.state.lock().end
    }

    /// Whether a close is pending.
    pub fn is_ending(&self) -> bool {
        self.state.lock().end.is_some()
    }

    // ---- catching up

    /// Starts to catch up: everything after the last queued number is read, at least up to `target`.
    pub fn fall_behind(&self, target: Seq) {
        let mut state = self.state.lock();
        let behind = state.behind.get_or_insert(Behind { target });
        behind.target = behind.target.max(target);
        drop(state);
        self.changed.notify_one();
    }

    /// Starts to catch up after `seq`, the last number that a reconnecting client has.
    pub fn start_after(&self, seq: Seq) {
        let mut state = self.state.lock();
        state.sent = seq;
        state.behind = Some(Behind { target: seq });
        drop(state);
        self.changed.notify_one();
    }

    /// Returns the number after which to read, and the target known before the read. `None` while the socket is live or
    /// ending, or while enough is queued.
    pub fn must_read(&self) -> Option<(Seq, Seq)> {
        let state = self.state.lock();
        let behind = state.behind?;
        (state.end.is_none() && state.has_room()).then_some((state.sent, behind.target))
    }

    /// Queues a frame read from the log, with the messages from `first` to `through`.
    pub fn caught(&self, framed: Bytes, first: Seq, through: Seq) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.sent = state.sent.max(through);
            state.shown(first);
            self.queue(&mut state, framed);
        }
    }

    /// Records that the log ends at `through`, as of a read that knew of `target`. If nothing newer was announced
    /// since, the socket is live. A number that was announced and that no read finds was lost with the broker's last
    /// epoch.
    pub fn level(&self, through: Seq, target: Seq) {
        let mut state = self.state.lock();
        state.sent = state.sent.max(through);
        if state.behind.is_some_and(|behind| behind.target <= target.max(state.sent)) {
            state.behind = None;
            self.finish(&mut state);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Records that a page of older messages was queued, down to `seq`.
    pub fn showed_older(&self, seq: Seq) {
        self.state.lock().shown(seq);
    }

    /// Returns the lowest number queued; `None` before the first.
    pub fn first(&self) -> Option<Seq> {
        Some(self.state.lock().first).filter(|first| *first > 0)
    }

    /// Returns the highest number queued.
    pub fn sent(&self) -> Seq {
        self.state.lock().sent
    }

    // ---- the window of unacknowledged messages

    /// Counts a message submitted to the broker.
    pub fn submitted(&self, bytes: u32) {
        let mut state = self.state.lock();
        state.waiting += 1;
        state.waiting_bytes += bytes;
    }

    /// Removes an answered message from the window.
    pub fn answered(&self, bytes: u32) {
        let mut state = self.state.lock();
        let full = state.window_is_full();
        state.waiting = state.waiting.saturating_sub(1);
        state.waiting_bytes = state.waiting_bytes.saturating_sub(bytes);
        let freed = full && !state.window_is_full();
        drop(state);
        if freed {
            self.changed.notify_one();
        }
    }

    /// Whether the window is full, so that the socket is not read further.
    pub fn window_is_full(&self) -> bool {
        self.state.lock().window_is_full()
    }

    /// Closes the socket, and drops its submitted messages that have no answer yet.
    pub fn abandon(&self, last: Option<Bytes>, close: Close) {
        self.state.lock().abandoned = true;
        self.end_after_all(last, close);
    }

    /// Whether its unanswered messages must be dropped.
    pub fn is_abandoned(&self) -> bool {
        self.state.lock().abandoned
    }

    // ---- called by the socket's task

    /// Moves queued frames to `into`: at most `most` bytes, but at least one frame. Returns the close if no frame
    /// precedes it.
    ///
    /// Must be called after everything taken before is written. Until the next call, taken frames count as waiting.
    pub fn take(&self, into: &mut VecDeque<Bytes>, most: usize) -> Option<Close> {
        let mut state = self.state.lock();
        let mut taken = 0;
        while taken < most {
            let Some(frame) = state.next_frame() else { break };
            taken += frame.len();
            into.push_back(frame);
        }
        state.taken = taken;
        if !state.frames.is_empty() || state.notices.len() > 0 {
            return None;
        }
        // An idle socket holds no buffer.
        state.frames = VecDeque::new();
        state.end
    }

    fn queue(&self, state: &mut State, framed: Bytes) {
        // A frame of history may exceed the limit if it is the only one.
        if state.make_room(framed.len(), &self.metrics) || state.frames.is_empty() {
            state.bytes += framed.len();
            state.frames.push_back(framed);
        } else {
            self.metrics.slow_closes.increment(1);
            state.frames = VecDeque::new();
            state.bytes = 0;
            state.end = Some(self.try_later());
        }
    }

    fn finish(&self, state: &mut State) {
        if let Some((last, close)) = state.last.take().filter(|_| state.end.is_none()) {
            if let Some(frame) = last {
                self.queue(state, frame);
            }
            state.end.get_or_insert(close);
        }
    }
}

impl State {
    fn waiting_bytes(&self) -> usize {
        self.bytes + self.notices.bytes() + self.taken
    }

    fn has_room(&self) -> bool {
        self.frames.is_empty() && self.taken == 0
    }

    fn next_frame(&mut self) -> Option<Bytes> {
        let Some(frame) = self.frames.pop_front() else { return self.notices.pop() };
        self.bytes -= frame.len();
        Some(frame)
    }

    /// Whether `bytes` more fit. Drops waiting notices to make room, the oldest first.
    fn make_room(&mut self, bytes: usize, metrics: &OutboxMetrics) -> bool {
        loop {
            let frames = self.frames.len() + self.notices.len();
            if frames < OUTBOX_FRAMES && self.waiting_bytes() + bytes <= OUTBOX_BYTES {
                return true;
            }
            if self.notices.pop().is_none() {
                return false;
            }
            metrics.notices_skipped.increment(1);
        }
    }

    fn notify(&mut self, topic: Topic, framed: Bytes, metrics: &OutboxMetrics) {
        self.notices.remove(topic);
        if self.make_room(framed.len(), metrics) {
            self.notices.push(topic, framed);
        } else {
            metrics.notices_skipped.increment(1);
        }
    }

    fn shown(&mut self, seq: Seq) {
        self.first = if self.first == 0 { seq } else { self.first.min(seq) };
    }

    fn window_is_full(&self) -> bool {
        self.waiting >= WINDOW_MESSAGES || self.waiting_bytes >= WINDOW_BYTES
    }
}

#[cfg(test)]
mod tests;
