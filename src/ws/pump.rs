//! The task that owns a socket. It decodes received bytes into frames for the session, and writes the frames of the
//! connection's outbox.
//!
//! There is one task and one timer per socket (the nearest deadline of ping, idle timeout, slow peer, session and
//! rate), and no buffer while idle: reads use a buffer of the thread.
//!
//! **Invariant:** nothing is read while output waits for the peer, so a peer that does not read cannot cause more
//! output.

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
use super::upgrade::Stream;
use crate::chat::hub::Connection;
use crate::chat::session::{Appetite, Session};
use crate::protocol::Close;
use crate::protocol::frame::{Decoder, Event, FrameError};

/// Maximum bytes per read.
const READ_BUFFER: usize = 16 * 1024;

/// Minimum time in which a peer must answer a ping.
const PONG_TIMEOUT: Duration = Duration::from_secs(5);

/// Delay of the timer above which this node was stalled, rather than its peers.
const LATE: Duration = Duration::from_secs(1);

thread_local! {
    /// Read buffer of the thread. It holds no data between two polls of a task.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BUFFER].into_boxed_slice());
}

/// Why a socket ends.
enum Gone {
    /// The peer disconnected without a close frame.
    Peer,
    /// The peer sent a close frame.
    Goodbye,
    /// The server closes the socket with this code.
    Close(Close),
}

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Self {
        Gone::Peer
    }
}

impl From<FrameError> for Gone {
    fn from(error: FrameError) -> Self {
        Gone::Close(match error {
            FrameError::TooLarge { .. } => Close::TooLarge,
            FrameError::Protocol(_) => Close::Protocol,
            FrameError::InvalidUtf8 => Close::InvalidUtf8,
        })
    }
}

/// A socket and its session.
pub(super) struct Pump {
    outbound: Outbound,
    session: Session,
    connection: Arc<Connection>,
    decoder: Decoder,
    pace: Pace,
    /// Bytes that were read and that the session has not accepted yet.
    unread: Vec<u8>,
    heard_at: Instant,
    pinged_at: Instant,
    timer: Pin<Box<Sleep>>,
    metrics: Arc<SocketMetrics>,
}

impl Pump {
    pub(super) fn new(
        stream: Stream,
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
            heard_at: now,
            pinged_at: now,
            timer: Box::pin(tokio::time::sleep_until(now + session.heartbeat().ping)),
            session,
            metrics,
        }
    }

    /// Runs until the socket ends. The session is dropped, and has left its room, before the answer to a close frame is
    /// awaited.
    pub(super) async fn run(mut self) {
        let gone = loop {
            match self.step().await {
                Ok(()) => {}
                Err(gone) => break gone,
            }
        };
        let Self { outbound, session, connection, metrics, .. } = self;
        match gone {
            Gone::Peer => {
                metrics.closes.find(ClosedBy::Peer).increment(1);
                outbound.reset();
            }
            Gone::Goodbye => {
                metrics.count_close(Close::Normal);
                drop(session);
                outbound.answer_close().await;
            }
            Gone::Close(close) => {
                // Recorded before the session is dropped: a host who logged out is offline at once.
                connection.end(close);
                metrics.count_close(close);
                drop(session);
                outbound.close(close).await;
            }
        }
    }

    async fn step(&mut self) -> Result<(), Gone> {
        let end = self.outbound.send_from(&self.connection)?;
        let is_drained = self.outbound.is_drained();
        if let Some(close) = end.filter(|_| is_drained) {
            return Err(Gone::Close(close));
        }
        let appetite = if is_drained { self.digest()? } else { Appetite::Busy };
        let interest = match (is_drained && self.outbound.is_drained(), appetite) {
            (false, _) => Some(Interest::WRITABLE),
            (true, Appetite::Hungry) => Some(Interest::READABLE),
            (true, _) => None,
        };
        self.set_timer(appetite);
        let ready = async {
            match interest {
                Some(interest) => self.outbound.tcp.ready(interest).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Order: pending output, then the session's work, then reading, so that a flooding peer does not delay the
            // rest.
            biased;
            () = self.connection.changed() => Ok(()),
            done = self.session.drive() => done.map_err(Gone::Close),
            () = &mut self.timer => self.on_timer(appetite),
            ready = ready => if ready?.is_readable() && appetite == Appetite::Hungry { self.read() } else { Ok(()) },
        }
    }

    /// Returns whether the session accepts another frame and the rates permit another read.
    fn appetite(&mut self) -> Appetite {
        match (self.session.appetite(), self.pace.next(Instant::now())) {
            (Appetite::Busy, _) => Appetite::Busy,
            (Appetite::Hungry, None) => Appetite::Hungry,
            (Appetite::Hungry, Some(next)) => Appetite::Until(next),
            (Appetite::Until(next), other) => Appetite::Until(other.map_or(next, |other| other.max(next))),
        }
    }

    /// Passes unread bytes to the session, as far as it accepts them.
    fn digest(&mut self) -> Result<Appetite, Gone> {
        loop {
            let appetite = self.appetite();
            if self.unread.is_empty() || appetite != Appetite::Hungry {
                return Ok(appetite);
            }
            let unread = std::mem::take(&mut self.unread);
            self.take_in(&unread)?;
        }
    }

    fn read(&mut self) -> Result<(), Gone> {
        SCRATCH.with_borrow_mut(|scratch| match self.outbound.tcp.try_read(scratch) {
            Ok(0) => Err(Gone::Peer),
            Ok(len) => {
                self.heard_at = Instant::now();
                self.pace.read(self.heard_at, len);
                self.take_in(&scratch[..len])
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        })
    }

    fn take_in(&mut self, mut input: &[u8]) -> Result<(), Gone> {
        while self.session.appetite() == Appetite::Hungry {
            match self.decoder.next_event(&mut input)? {
                Some(Event::Text(text)) => self.session.receive(&text).map_err(Gone::Close)?,
                Some(Event::Binary) => return Err(Gone::Close(Close::BadForm("binary frames are not spoken here"))),
                Some(Event::Ping(payload)) => self.outbound.pong(&payload),
                Some(Event::Pong) => {}
                Some(Event::Close { .. }) => return Err(Gone::Goodbye),
                None => return Ok(()),
            }
        }
        self.unread = input.to_vec();
        Ok(())
    }

    /// Sets the timer to the nearest deadline. It is moved only if it would fire too late.
    fn set_timer(&mut self, appetite: Appetite) {
        let ping = self.session.heartbeat().ping;
        let mut next = (self.pinged_at.max(self.heard_at) + ping).min(self.silent_at());
        if let Some(deadline) = self.outbound.deadline() {
            next = next.min(deadline);
        }
        if let Appetite::Until(instant) = appetite {
            next = next.min(instant);
        }
        if next < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(next);
        }
    }

    /// Returns when a peer that sends nothing counts as disconnected.
    fn silent_at(&self) -> Instant {
        (self.heard_at + self.session.heartbeat().silence).max(self.pinged_at + PONG_TIMEOUT)
    }

    fn on_timer(&mut self, appetite: Appetite) -> Result<(), Gone> {
        let now = Instant::now();
        let ping = self.session.heartbeat().ping;
        if now - self.timer.deadline() >= LATE {
            // This node neither read nor wrote in the meantime: restart the time limits of the peer.
            self.outbound.forgive(now);
            self.ping(now);
        }
        if self.outbound.deadline().is_some_and(|deadline| now >= deadline) {
            self.connection.metrics().slow_closes.increment(1);
            self.outbound.drop_unsent();
            return Err(Gone::Close(self.connection.try_later()));
        }
        if appetite != Appetite::Hungry {
            // Reading is paused, so the peer may have sent something.
            self.heard_at = now;
        }
        if now >= self.silent_at() {
            return Err(Gone::Peer);
        }
        if now - self.pinged_at.max(self.heard_at) >= ping {
            self.ping(now);
        }
        Ok(())
    }

    fn ping(&mut self, now: Instant) {
        self.pinged_at = now;
        self.outbound.ping();
    }
}
