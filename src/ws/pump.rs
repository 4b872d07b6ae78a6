//! Task that owns a socket. It decodes received bytes into frames for the session and writes the frames of the
//! connection's outbox.
//!
//! Each socket has one task and one timer. The timer is set to the earliest of four times: the next ping, the idle
//! timeout, the progress timeout of the peer, and the time from which the session and the byte rates both permit a
//! read. An idle socket has no buffer, because reads use a thread-local one.
//!
//! **Invariant:** nothing is read while output waits for the peer. The frames of a peer that does not read its output
//! therefore cause no further output.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::time::{Instant, Sleep};

use super::metrics::{ClosedBy, SocketMetrics};
use super::outbound::Outbound;
use super::pace::Pace;
use super::stream::UpgradedStream;
use crate::chat::hub::Connection;
use crate::chat::session::{ReadReadiness, Session};
use crate::protocol::Close;
use crate::protocol::frame::{Decoder, Event, FrameError};

/// Maximum number of bytes per read.
const READ_BUFFER: usize = 16 * 1024;

/// Minimum time that a peer has to answer a ping.
const PONG_TIMEOUT: Duration = Duration::from_secs(5);

/// Delay of a timer above which the node is assumed to have been stalled. The timeouts of its peers are then restarted.
const LATE: Duration = Duration::from_secs(1);

thread_local! {
    /// Read buffer of the thread. Its content is valid only during the poll that wrote it.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BUFFER].into_boxed_slice());
}

/// Why a socket ends.
pub(super) enum SocketEnd {
    /// The peer disconnected without a close frame, or sent nothing until the idle timeout.
    Disconnected,
    /// The peer sent a close frame.
    ClosedByPeer,
    /// The server closes the socket with this code.
    Close(Close),
}

impl From<io::Error> for SocketEnd {
    fn from(_: io::Error) -> Self {
        SocketEnd::Disconnected
    }
}

impl From<FrameError> for SocketEnd {
    fn from(error: FrameError) -> Self {
        SocketEnd::Close(match error {
            FrameError::TooLarge { .. } => Close::TooLarge,
            FrameError::Protocol(_) => Close::Protocol,
            FrameError::InvalidUtf8 => Close::InvalidUtf8,
        })
    }
}

/// Socket and its session.
pub(super) struct Pump {
    outbound: Outbound,
    session: Session,
    connection: Arc<Connection>,
    decoder: Decoder,
    pace: Pace,
    /// Received bytes that the session has not accepted yet.
    unread: Vec<u8>,
    received_at: Instant,
    pinged_at: Instant,
    timer: Pin<Box<Sleep>>,
    metrics: Arc<SocketMetrics>,
}

impl Pump {
    pub(super) fn new(
        stream: UpgradedStream,
        session: Session,
        max_message: usize,
        pace: Pace,
        metrics: Arc<SocketMetrics>,
    ) -> Self {
        let now = Instant::now();
        Self {
            outbound: Outbound::new(stream.tcp, stream.slot),
            connection: session.connection().clone(),
            decoder: Decoder::new(max_message),
            pace,
            unread: stream.early,
            received_at: now,
            pinged_at: now,
            timer: Box::pin(tokio::time::sleep_until(now + session.heartbeat().ping)),
            session,
            metrics,
        }
    }

    /// Runs until the socket ends. Returns the reason, which [`finish`](Self::finish) handles.
    pub(super) async fn run(&mut self) -> SocketEnd {
        loop {
            if let Err(end) = self.step().await {
                return end;
            }
        }
    }

    /// Closes the socket. The session is dropped, and thereby unregistered from its room, before this method waits for
    /// the answer to a close frame.
    pub(super) async fn finish(self, end: SocketEnd) {
        let Self { outbound, session, connection, metrics, .. } = self;
        match end {
            SocketEnd::Disconnected => {
                metrics.closes.find(ClosedBy::Peer).increment(1);
                outbound.reset();
            }
            SocketEnd::ClosedByPeer => {
                metrics.count_close(Close::Normal);
                drop(session);
                outbound.answer_close().await;
            }
            SocketEnd::Close(close) => {
                // The close is recorded before the session is dropped, because its code determines how soon a host is
                // reported as offline.
                connection.close(close);
                metrics.count_close(close);
                drop(session);
                outbound.close(close).await;
            }
        }
    }

    async fn step(&mut self) -> Result<(), SocketEnd> {
        let end = self.outbound.send_from(&self.connection)?;
        let is_drained = self.outbound.is_drained();
        if let Some(close) = end.filter(|_| is_drained) {
            return Err(SocketEnd::Close(close));
        }
        let read_readiness = if is_drained { self.process_unread()? } else { ReadReadiness::Busy };
        let interest = match (is_drained && self.outbound.is_drained(), read_readiness) {
            (false, _) => Some(Interest::WRITABLE),
            (true, ReadReadiness::Ready) => Some(Interest::READABLE),
            (true, _) => None,
        };
        self.set_timer(read_readiness);
        let ready = async {
            match interest {
                Some(interest) => self.outbound.tcp.ready(interest).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Changes of the connection have priority over the work of the session, and both have priority over
            // reading. A peer that sends continuously therefore delays neither.
            biased;
            () = self.connection.changed() => Ok(()),
            done = self.session.drive() => done.map_err(SocketEnd::Close),
            () = &mut self.timer => self.on_timer(read_readiness),
            ready = ready => if ready?.is_readable() && read_readiness == ReadReadiness::Ready { self.read() } else { Ok(()) },
        }
    }

    /// Returns whether the session and the byte rates permit the next read.
    fn read_readiness(&mut self) -> ReadReadiness {
        match (self.session.read_readiness(), self.pace.next(Instant::now())) {
            (ReadReadiness::Busy, _) => ReadReadiness::Busy,
            (ReadReadiness::Ready, None) => ReadReadiness::Ready,
            (ReadReadiness::Ready, Some(next)) => ReadReadiness::Until(next),
            (ReadReadiness::Until(next), other) => ReadReadiness::Until(other.map_or(next, |other| other.max(next))),
        }
    }

    /// Passes unread bytes to the session while the session and the byte rates permit it.
    fn process_unread(&mut self) -> Result<ReadReadiness, SocketEnd> {
        loop {
            let read_readiness = self.read_readiness();
            if self.unread.is_empty() || read_readiness != ReadReadiness::Ready {
                return Ok(read_readiness);
            }
            let unread = std::mem::take(&mut self.unread);
            self.decode(&unread)?;
        }
    }

    fn read(&mut self) -> Result<(), SocketEnd> {
        SCRATCH.with_borrow_mut(|scratch| match self.outbound.tcp.try_read(scratch) {
            Ok(0) => Err(SocketEnd::Disconnected),
            Ok(len) => {
                self.received_at = Instant::now();
                self.pace.read(self.received_at, len);
                self.decode(&scratch[..len])
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        })
    }

    fn decode(&mut self, mut input: &[u8]) -> Result<(), SocketEnd> {
        while self.session.read_readiness() == ReadReadiness::Ready {
            match self.decoder.next_event(&mut input)? {
                Some(Event::Text(text)) => self.session.receive(&text).map_err(SocketEnd::Close)?,
                Some(Event::Binary) => {
                    return Err(SocketEnd::Close(Close::BadForm("binary frames are not spoken here")));
                }
                Some(Event::Ping(payload)) => self.outbound.pong(&payload),
                Some(Event::Pong) => {}
                Some(Event::Close { .. }) => return Err(SocketEnd::ClosedByPeer),
                None => return Ok(()),
            }
        }
        self.unread = input.to_vec();
        Ok(())
    }

    /// Sets the timer to the earliest deadline. Changes the timer only if it would fire too late.
    fn set_timer(&mut self, read_readiness: ReadReadiness) {
        let ping = self.session.heartbeat().ping;
        let mut next = (self.pinged_at.max(self.received_at) + ping).min(self.idle_deadline());
        if let Some(deadline) = self.outbound.deadline() {
            next = next.min(deadline);
        }
        if let ReadReadiness::Until(instant) = read_readiness {
            next = next.min(instant);
        }
        if next < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(next);
        }
    }

    /// Returns the time at which a peer is considered disconnected if it sends nothing.
    fn idle_deadline(&self) -> Instant {
        (self.received_at + self.session.heartbeat().idle_timeout).max(self.pinged_at + PONG_TIMEOUT)
    }

    fn on_timer(&mut self, read_readiness: ReadReadiness) -> Result<(), SocketEnd> {
        let now = Instant::now();
        let ping = self.session.heartbeat().ping;
        if now - self.timer.deadline() >= LATE {
            // This node neither read nor wrote while it was stalled, so the timeouts of the peer are restarted.
            self.outbound.restart_time_limits(now);
            self.ping(now);
        }
        if self.outbound.deadline().is_some_and(|deadline| now >= deadline) {
            self.connection.metrics().slow_closes.increment(1);
            self.outbound.drop_unsent();
            return Err(SocketEnd::Close(self.connection.try_later()));
        }
        if read_readiness != ReadReadiness::Ready {
            // While reading was paused, the peer may have sent data that has not been read, so the idle timeout is
            // restarted.
            self.received_at = now;
        }
        if now >= self.idle_deadline() {
            return Err(SocketEnd::Disconnected);
        }
        if now - self.pinged_at.max(self.received_at) >= ping {
            self.ping(now);
        }
        Ok(())
    }

    fn ping(&mut self, now: Instant) {
        self.pinged_at = now;
        self.outbound.ping();
    }
}
