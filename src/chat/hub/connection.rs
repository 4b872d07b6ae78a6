//! Handle of one socket: identity of the peer, outbox, read cursor, window of unacknowledged messages, and pending
//! close.
//!
//! The relay uses the handle from any thread, and the task that owns the socket takes the queued frames. One lock
//! protects all parts except the identity, so that an operation on several parts is atomic. Every change that the task
//! must handle wakes the task.
//!
//! **Invariant:** each new message is queued once per socket, in ascending order of the sequence numbers. Only pages of
//! older messages and responses to duplicates contain messages that were queued before.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::chat::metrics::OutboxMetrics;
use crate::domain::{ConnectionId, HostId, Seq, Side};
use crate::protocol::Close;

mod closing;
mod cursor;
mod notices;
mod outbox;
mod window;

use closing::Closing;
use cursor::{Offer, ReadCursor};
pub use notices::Topic;
use outbox::Outbox;
pub use outbox::{OUTBOX_BYTES, OUTBOX_FRAMES};
use window::InFlightWindow;
pub use window::{WINDOW_BYTES, WINDOW_MESSAGES};

/// Identity of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// An anonymous visitor.
    Guest,
    /// A host, authenticated with a login.
    Host {
        /// Row id of the host.
        host: HostId,
        /// Id of the login.
        sid: Box<str>,
    },
}

/// One socket of this node, as the hub and the sessions use it.
#[derive(Debug)]
pub struct Connection {
    id: ConnectionId,
    identity: Identity,
    extras: bool,
    away: AtomicBool,
    retry_ms: u16,
    state: Mutex<ConnectionState>,
    changed: Notify,
    metrics: Arc<OutboxMetrics>,
}

#[derive(Debug, Default)]
struct ConnectionState {
    outbox: Outbox,
    cursor: ReadCursor,
    window: InFlightWindow,
    closing: Closing,
}

/// Result of [`Connection::deliver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The message is in the outbox.
    Queued,
    /// A preceding message may be missing, so the socket starts to catch up.
    Gap,
    /// Nothing was queued: the socket already has the message, is closing, or will read the message from the log.
    Skipped,
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

    pub(crate) fn metrics(&self) -> &OutboxMetrics {
        &self.metrics
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the side of the peer.
    pub fn side(&self) -> Side {
        match self.identity {
            Identity::Guest => Side::Guest,
            Identity::Host { .. } => Side::Host,
        }
    }

    /// Returns whether the client requested the frames of later protocol versions (SPEC 4, `v=2`).
    pub fn wants_extras(&self) -> bool {
        self.extras
    }

    /// Returns whether the host has sent the notice `away` (SPEC 4) and has not returned since.
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Sets [`is_away`](Self::is_away). Returns the previous value.
    pub fn set_away(&self, away: bool) -> bool {
        self.away.swap(away, Ordering::Relaxed)
    }

    /// Returns the random delay after which the client reconnects if this node closes the socket.
    pub fn retry(&self) -> Duration {
        Duration::from_millis(u64::from(self.retry_ms))
    }

    /// Returns the close code 1013 with the retry delay of this connection.
    pub fn try_later(&self) -> Close {
        Close::TryLater { retry: self.retry() }
    }

    /// Waits for the next change to this handle. May also return without a change.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    // ---- outbox

    /// Queues a newly published message. If the socket is catching up, only raises the target, which is the sequence
    /// number up to which the socket reads the log. `prev` is the preceding sequence number in the room.
    pub fn deliver(&self, prev: Seq, seq: Seq, framed: &Bytes) -> Delivery {
        let mut state = self.state.lock();
        if state.closing.is_pending() {
            return Delivery::Skipped;
        }
        let delivery = match state.cursor.offer(prev, seq) {
            Offer::Duplicate => return Delivery::Skipped,
            Offer::ReadLater => Delivery::Skipped,
            Offer::Gap => Delivery::Gap,
            Offer::Queue if self.queue(&mut state, framed.clone()) => Delivery::Queued,
            Offer::Queue => Delivery::Skipped,
        };
        self.wake(state);
        delivery
    }

    /// Queues a frame for this socket.
    pub fn push(&self, framed: Bytes) {
        let mut state = self.state.lock();
        if !state.closing.is_pending() {
            self.queue(&mut state, framed);
            self.wake(state);
        }
    }

    /// Queues a page of older messages. `oldest` is the lowest sequence number of the page; `None` if the page is
    /// empty.
    pub fn push_older(&self, framed: Bytes, oldest: Option<Seq>) {
        if let Some(oldest) = oldest {
            self.state.lock().cursor.queued_older(oldest);
        }
        self.push(framed);
    }

    /// Queues a frame that was read from the log and contains the messages from `first` to `through`. Does not wake the
    /// task of the socket: the caller continues to read or calls [`caught_up`](Self::caught_up).
    pub fn push_from_log(&self, framed: Bytes, first: Seq, through: Seq) {
        let mut state = self.state.lock();
        if !state.closing.is_pending() {
            state.cursor.queued(first, through);
            self.queue(&mut state, framed);
        }
    }

    /// Queues the original frame of a message that the client has sent again. If this socket has not received the
    /// messages up to the original, it reads the log in order instead. If the original were sent first, a client that
    /// reconnects would resume after it and miss earlier messages.
    pub fn answer_duplicate(&self, seq: Seq, framed: Bytes) {
        let mut state = self.state.lock();
        if !state.closing.is_pending() {
            if seq <= state.cursor.sent() {
                self.queue(&mut state, framed);
            } else {
                state.cursor.catch_up(seq);
            }
        }
        self.wake(state);
    }

    /// Queues a notice and removes a waiting notice of the same topic. Never closes the socket: if the outbox is full,
    /// notices are dropped, oldest first, and counted.
    pub fn notify(&self, topic: Topic, framed: Bytes) {
        let mut state = self.state.lock();
        if !state.closing.is_pending() {
            state.outbox.push_notice(topic, framed, &self.metrics);
            self.wake(state);
        }
    }

    /// Queues a notice if the socket is up to date. Drops the notice while the socket is catching up.
    pub fn notify_if_up_to_date(&self, topic: Topic, framed: &Bytes) {
        let mut state = self.state.lock();
        if !state.closing.is_pending() && !state.cursor.is_catching_up() {
            state.outbox.push_notice(topic, framed.clone(), &self.metrics);
            self.wake(state);
        }
    }

    /// Moves queued frames to `into` until they total at least `most` bytes or the queue is empty. Returns the pending
    /// close if the queue is now empty.
    ///
    /// Must be called only after the previously taken frames are written. Taken frames count as waiting until the next
    /// call.
    pub fn take(&self, into: &mut VecDeque<Bytes>, most: usize) -> Option<Close> {
        let mut state = self.state.lock();
        if state.outbox.take(into, most) { state.closing.pending() } else { None }
    }

    /// Returns the number of bytes that wait for the socket, including frames that its task is writing.
    pub fn waiting_bytes(&self) -> usize {
        self.state.lock().outbox.waiting_bytes()
    }

    /// Returns whether the outbox has capacity for a page of messages. This is the case if only notices wait and no
    /// taken frame is being written.
    pub fn has_capacity(&self) -> bool {
        self.state.lock().outbox.has_capacity()
    }

    // ---- read cursor

    /// Starts to catch up: the task reads all messages after the last queued one, at least up to `target`.
    pub fn catch_up(&self, target: Seq) {
        let mut state = self.state.lock();
        state.cursor.catch_up(target);
        self.wake(state);
    }

    /// Starts to catch up after `seq`: the last sequence number that a reconnecting client received, or 0.
    pub fn start_after(&self, seq: Seq) {
        let mut state = self.state.lock();
        state.cursor.start_after(seq);
        self.wake(state);
    }

    /// Returns the sequence number after which the log must be read, and the target, up to which the socket must read.
    /// Returns `None` if the socket is up to date or is closing, or if its outbox has no
    /// [capacity](Self::has_capacity).
    pub fn next_read(&self) -> Option<(Seq, Seq)> {
        let state = self.state.lock();
        let next = state.cursor.next_read()?;
        (!state.closing.is_pending() && state.outbox.has_capacity()).then_some(next)
    }

    /// Records that a read of the log ended at `through`. `target` is the value that [`next_read`](Self::next_read)
    /// returned before the read. The socket is then up to date, unless the target has been raised above `target` and
    /// above the last queued sequence number.
    pub fn caught_up(&self, through: Seq, target: Seq) {
        let mut state = self.state.lock();
        if state.cursor.caught_up(through, target) {
            self.close_deferred(&mut state);
        }
        self.wake(state);
    }

    /// Returns the highest sequence number that was queued, or that the client had received before it reconnected.
    pub fn sent(&self) -> Seq {
        self.state.lock().cursor.sent()
    }

    /// Returns the lowest sequence number that was queued; `None` before the first message.
    pub fn first_sent(&self) -> Option<Seq> {
        self.state.lock().cursor.first()
    }

    // ---- window of unacknowledged messages

    /// Adds a message to the window when it is submitted to the broker.
    pub fn submitted(&self, bytes: u32) {
        self.state.lock().window.submitted(bytes);
    }

    /// Removes a message from the window when it is acknowledged, rejected or dropped.
    pub fn answered(&self, bytes: u32) {
        let mut state = self.state.lock();
        if state.window.answered(bytes) {
            self.wake(state);
        }
    }

    /// Returns whether the window is full. While it is full, the socket is not read.
    pub fn window_is_full(&self) -> bool {
        self.state.lock().window.is_full()
    }

    /// Returns whether [`abandon`](Self::abandon) was called. In that case, the unacknowledged messages of this socket
    /// must be dropped.
    pub fn is_abandoned(&self) -> bool {
        self.state.lock().window.is_abandoned()
    }

    // ---- close

    /// Closes the socket after its queued frames are written. Only the first call has an effect.
    pub fn close(&self, close: Close) {
        let mut state = self.state.lock();
        state.closing.close(close);
        self.wake(state);
    }

    /// Closes the socket when it is up to date. Sends the frame `last`, if any, before the close.
    pub fn close_when_up_to_date(&self, last: Option<Bytes>, close: Close) {
        let mut state = self.state.lock();
        state.closing.defer(last, close);
        if !state.cursor.is_catching_up() {
            self.close_deferred(&mut state);
        }
        self.wake(state);
    }

    /// Closes the socket like [`close_when_up_to_date`](Self::close_when_up_to_date) and drops its unacknowledged
    /// messages.
    pub fn abandon(&self, last: Option<Bytes>, close: Close) {
        self.state.lock().window.abandon();
        self.close_when_up_to_date(last, close);
    }

    /// Returns the pending close, if any.
    pub fn pending_close(&self) -> Option<Close> {
        self.state.lock().closing.pending()
    }

    /// Returns whether a close is pending.
    pub fn is_closing(&self) -> bool {
        self.state.lock().closing.is_pending()
    }

    /// Queues a frame and returns whether it was queued. If the frame does not fit into the outbox, closes the socket.
    fn queue(&self, state: &mut ConnectionState, framed: Bytes) -> bool {
        let queued = state.outbox.push(framed, &self.metrics).is_ok();
        if !queued {
            state.closing.close(self.try_later());
        }
        queued
    }

    fn close_deferred(&self, state: &mut ConnectionState) {
        if let Some((last, close)) = state.closing.take_deferred() {
            if let Some(frame) = last {
                self.queue(state, frame);
            }
            state.closing.close(close);
        }
    }

    /// Releases the lock and wakes the socket's task.
    fn wake(&self, state: MutexGuard<'_, ConnectionState>) {
        drop(state);
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
