//! The handle of one socket: what it is still owed, and whether it is catching up or live.
//!
//! The relay writes into it from any thread; the task that owns the socket takes out of it. A socket is either **live**
//! (publications are queued as they come) or **catching up** (its own task reads the log from what it was sent last;
//! publications only raise the target). The step from one to the other happens under the lock of this handle.
//!
//! **Invariant:** a socket is queued each number once, in rising order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::{ConnectionId, HostId, Seq, Side};
use crate::protocol::Close;

mod notices;

use notices::Notices;
pub use notices::Topic;

/// The most frames that wait for a socket. A client that is further behind is closed with 1013 and resumes.
pub const OUTBOX_FRAMES: usize = 256;

/// The most bytes that wait for a socket.
pub const OUTBOX_BYTES: usize = 256 * 1024;

/// The most messages of a socket that wait for their number; it is not read further until there are fewer.
pub const WINDOW_MESSAGES: u32 = 16;

/// The most bytes of such messages.
pub const WINDOW_BYTES: u32 = 64 * 1024;

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// An anonymous visitor.
    Guest,
    /// A host, by one of his logins.
    Host {
        /// Who.
        host: HostId,
        /// By which login.
        sid: Box<str>,
    },
}

/// The handle. See the module.
#[derive(Debug)]
pub struct Connection {
    id: ConnectionId,
    identity: Identity,
    extras: bool,
    away: AtomicBool,
    retry_ms: u16,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Notices of which only the newest of each topic is kept; sent after `frames`.
    notices: Notices,
    /// Bytes that the socket's task has taken and not written yet, as of the last [`Connection::take`].
    taken: usize,
    end: Option<Close>,
    /// The end that waits until everything owed is queued.
    last: Option<(Option<Bytes>, Close)>,
    /// The highest number that was queued.
    sent: Seq,
    /// The lowest number that was queued, 0 before the first.
    first: Seq,
    behind: Option<Behind>,
    waiting: u32,
    waiting_bytes: u32,
    abandoned: bool,
}

/// What became of a live message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is in the outbox.
    Queued,
    /// It showed that something before it is missing.
    Gap,
    /// The socket has it already, or will read it, or is at its end.
    NotNow,
}

/// A socket that is catching up.
#[derive(Clone, Copy, Debug)]
struct Behind {
    /// The highest number it has heard of.
    target: Seq,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, identity: Identity, extras: bool, retry_ms: u16) -> Self {
        let away = AtomicBool::new(false);
        Self { id, identity, extras, away, retry_ms, state: Mutex::default(), changed: Notify::new() }
    }

    /// Its number in this process.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Who is at the other end.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Which side that is.
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

    /// Whether the host's page is not being looked at.
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Sets [`is_away`](Self::is_away). Returns what it was.
    pub fn set_away(&self, away: bool) -> bool {
        self.away.swap(away, Ordering::Relaxed)
    }

    /// When this client is asked to come back, if it must go: a random time of its own.
    pub fn retry_ms(&self) -> u16 {
        self.retry_ms
    }

    /// The refusal with that time in it.
    pub fn try_later(&self) -> Close {
        Close::TryLater { retry: Duration::from_millis(u64::from(self.retry_ms)) }
    }

    /// Waits until anything about this handle may have changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    // ---- what the relay does

    /// Queues a live message, or notes that there is one. `prev` is the number before it in the room.
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
            // Something between what was sent and this one was missed, or lost with the broker's last life.
            state.behind = Some(Behind { target: seq });
            Delivery::Gap
        } else {
            state.sent = seq;
            state.shown(seq);
            self.queue(&mut state, framed.clone());
            // It may have been one too many.
            if state.end.is_none() { Delivery::Queued } else { Delivery::NotNow }
        };
        drop(state);
        self.changed.notify_one();
        delivery
    }

    /// Bytes that wait for the socket, those included that its task is writing.
    pub fn waiting_bytes(&self) -> usize {
        self.state.lock().waiting_bytes()
    }

    /// Whether nothing waits for the socket but notices: a page of older messages may be read for it.
    pub fn has_room(&self) -> bool {
        self.state.lock().has_room()
    }

    /// Queues a notice for a socket that is up to date; a client that is behind has no use for it.
    pub fn pass(&self, topic: Topic, framed: &Bytes) {
        let mut state = self.state.lock();
        if state.end.is_none() && state.behind.is_none() {
            state.notify(topic, framed.clone());
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Queues a notice. It replaces one of the same topic that still waits, and never closes the socket: when too many
    /// wait, the oldest are skipped and counted.
    pub fn notify(&self, topic: Topic, framed: Bytes) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.notify(topic, framed);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Queues an answer for this socket alone.
    pub fn push(&self, framed: Bytes) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            self.queue(&mut state, framed);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Answers a message that had been accepted before. What this socket was not sent yet comes in its turn, not ahead of what
    /// is before it: a client that broke off now would ask for what follows, and miss that.
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

    /// Ends the socket once what is queued has gone out. The first end counts.
    pub fn end(&self, close: Close) {
        self.state.lock().end.get_or_insert(close);
        self.changed.notify_one();
    }

    /// Ends the socket once it has been sent everything it is owed, and a last frame.
    pub fn end_after_all(&self, last: Option<Bytes>, close: Close) {
        let mut state = self.state.lock();
        state.last.get_or_insert((last, close));
        if state.behind.is_none() {
            self.finish(&mut state);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// How it is to end, if it is.
    pub fn ending(&self) -> Option<Close> {
        self.state.lock().end
    }

    /// Whether it is to end.
    pub fn is_ending(&self) -> bool {
        self.state.lock().end.is_some()
    }

    // ---- catching up

    /// Starts to catch up: everything after what was sent is read again, at least up to `target`.
    pub fn fall_behind(&self, target: Seq) {
        let mut state = self.state.lock();
        let behind = state.behind.get_or_insert(Behind { target });
        behind.target = behind.target.max(target);
        drop(state);
        self.changed.notify_one();
    }

    /// Starts to catch up after this number: what a client that comes back has already.
    pub fn start_after(&self, seq: Seq) {
        let mut state = self.state.lock();
        state.sent = seq;
        state.behind = Some(Behind { target: seq });
        drop(state);
        self.changed.notify_one();
    }

    /// Where to read on, and the target that is known before reading; `None` if live, ending, or if enough is queued already.
    pub fn must_read(&self) -> Option<(Seq, Seq)> {
        let state = self.state.lock();
        let behind = state.behind?;
        (state.end.is_none() && state.has_room()).then_some((state.sent, behind.target))
    }

    /// Queues what was read: the messages from `first` up to and including `through`.
    pub fn caught(&self, framed: Bytes, first: Seq, through: Seq) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.sent = state.sent.max(through);
            state.shown(first);
            self.queue(&mut state, framed);
        }
    }

    /// Notes that there is nothing more to read than `through`, as of a reading that knew of `target`. Nothing newer was heard
    /// of since: live from here. What a publication announced and no reading finds was lost with the broker's last life.
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

    /// Notes that a page of older messages was queued, down to `seq`.
    pub fn showed_older(&self, seq: Seq) {
        self.state.lock().shown(seq);
    }

    /// The lowest number that was queued.
    pub fn first(&self) -> Option<Seq> {
        Some(self.state.lock().first).filter(|first| *first > 0)
    }

    /// The highest number that was queued.
    pub fn sent(&self) -> Seq {
        self.state.lock().sent
    }

    // ---- the window of messages that wait for their number

    /// Counts a message that goes to the broker.
    pub fn submitted(&self, bytes: u32) {
        let mut state = self.state.lock();
        state.waiting += 1;
        state.waiting_bytes += bytes;
    }

    /// A message has its answer.
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

    /// Whether so much waits that the socket is not read further.
    pub fn window_is_full(&self) -> bool {
        self.state.lock().window_is_full()
    }

    /// Gives up: the socket ends, and what it submitted and has no answer yet is dropped.
    pub fn abandon(&self, last: Option<Bytes>, close: Close) {
        self.state.lock().abandoned = true;
        self.end_after_all(last, close);
    }

    /// Whether its messages are to be dropped.
    pub fn is_abandoned(&self) -> bool {
        self.state.lock().abandoned
    }

    // ---- what the socket's task does

    /// Takes queued frames, at most `most` bytes (but at least one), into `into`. Returns the end if there is nothing before it.
    ///
    /// Called when everything taken before is written: until the next call, what is taken still counts as waiting.
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
        // A frame of history may be as large as it is; nothing else fits beside it then.
        if state.make_room(framed.len()) || state.frames.is_empty() {
            state.bytes += framed.len();
            state.frames.push_back(framed);
        } else {
            metrics::counter!(crate::metric::SLOW).increment(1);
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

    /// Whether `bytes` more fit. Waiting notices are skipped for it, the oldest first.
    fn make_room(&mut self, bytes: usize) -> bool {
        loop {
            let frames = self.frames.len() + self.notices.len();
            if frames < OUTBOX_FRAMES && self.waiting_bytes() + bytes <= OUTBOX_BYTES {
                return true;
            }
            if !self.notices.skip_oldest() {
                return false;
            }
        }
    }

    fn notify(&mut self, topic: Topic, framed: Bytes) {
        self.notices.remove(topic);
        if self.make_room(framed.len()) {
            self.notices.push(topic, framed);
        } else {
            notices::count_skipped();
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
