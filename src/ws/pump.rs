//! The task that owns a socket: bytes in, frames to the session; frames out of the connection's outbox, bytes out.
//!
//! One task a socket, one deadline (the nearest of ping, silence, a stalled write, the session's own), and no buffer while
//! idle: what is read goes through a buffer of the thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::upgrade::{Stream, count_close};
use crate::hub::Connection;
use crate::protocol::Close;
use crate::protocol::frame::{self, Decoder, Event, FrameError};
use crate::session::{Appetite, Session};

/// What is read at once.
const READ_BUFFER: usize = 16 * 1024;

/// What is taken out of the outbox at once: beyond it nothing is gained by a larger write.
const WRITE_BATCH: usize = 64 * 1024;

/// The most frames of one write.
const WRITE_SLICES: usize = 64;

/// How long a peer may take no byte.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer has for its pong, at least.
const PONG_TIMEOUT: Duration = Duration::from_secs(5);

/// A timer that rings so late tells that this node stood still, and not that its peers did.
const LATE: Duration = Duration::from_secs(1);

/// How long a peer may take to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

thread_local! {
    /// Nothing stays in it between two polls of a task.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BUFFER].into_boxed_slice());
}

/// Why a socket is at its end, apart from a close of ours.
enum Gone {
    /// The peer vanished.
    Peer,
    /// The peer said goodbye.
    Goodbye,
    /// It is to be closed with a code.
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
    wire: Wire,
    session: Session,
    connection: Arc<Connection>,
    decoder: Decoder,
    /// Read, and not yet taken by the session.
    unread: Vec<u8>,
    heard_at: Instant,
    pinged_at: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Pump {
    pub(super) fn new(stream: Stream, session: Session, max_message: usize) -> Self {
        let now = Instant::now();
        Self {
            wire: Wire::new(stream.tcp),
            connection: session.connection().clone(),
            decoder: Decoder::new(max_message),
            unread: stream.early,
            heard_at: now,
            pinged_at: now,
            timer: Box::pin(tokio::time::sleep_until(now + session.heartbeat().ping)),
            session,
        }
    }

    /// Until the end of the socket. The session is gone, and its room knows, before the peer's goodbye is waited for.
    pub(super) async fn run(mut self) {
        let gone = loop {
            match self.step().await {
                Ok(()) => {}
                Err(gone) => break gone,
            }
        };
        let Self { wire, session, connection, .. } = self;
        match gone {
            Gone::Peer => {
                metrics::counter!(crate::metric::CLOSES, "code" => "peer").increment(1);
                wire.reset();
            }
            Gone::Goodbye => {
                count_close(Close::Normal);
                drop(session);
                wire.answer_goodbye().await;
            }
            Gone::Close(close) => {
                // Noted before the session goes: a host who logged out is offline at once.
                connection.end(close);
                count_close(close);
                drop(session);
                wire.close(close).await;
            }
        }
    }

    async fn step(&mut self) -> Result<(), Gone> {
        let end = self.wire.send_from(&self.connection)?;
        if let Some(close) = end.filter(|_| self.wire.is_drained()) {
            return Err(Gone::Close(close));
        }
        let appetite = self.digest()?;
        let interest = match (appetite == Appetite::Hungry, self.wire.is_drained()) {
            (true, true) => Some(Interest::READABLE),
            (true, false) => Some(Interest::READABLE | Interest::WRITABLE),
            (false, false) => Some(Interest::WRITABLE),
            (false, true) => None,
        };
        self.set_timer(appetite);
        let ready = async {
            match interest {
                Some(interest) => self.wire.tcp.ready(interest).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // What is owed goes first, then what the session waits for; a peer that floods us comes last.
            biased;
            () = self.connection.changed() => Ok(()),
            done = self.session.drive() => done.map_err(Gone::Close),
            () = &mut self.timer => self.on_timer(),
            ready = ready => if ready?.is_readable() && appetite == Appetite::Hungry { self.read() } else { Ok(()) },
        }
    }

    /// Gives the session what was read, as far as it takes it.
    fn digest(&mut self) -> Result<Appetite, Gone> {
        loop {
            let appetite = self.session.appetite();
            if self.unread.is_empty() || appetite != Appetite::Hungry {
                return Ok(appetite);
            }
            let unread = std::mem::take(&mut self.unread);
            self.take_in(&unread)?;
        }
    }

    fn read(&mut self) -> Result<(), Gone> {
        SCRATCH.with_borrow_mut(|scratch| match self.wire.tcp.try_read(scratch) {
            Ok(0) => Err(Gone::Peer),
            Ok(len) => {
                self.heard_at = Instant::now();
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
                Some(Event::Ping(payload)) => self.wire.send(frame::pong(&payload)),
                Some(Event::Pong) => {}
                Some(Event::Close { .. }) => return Err(Gone::Goodbye),
                None => return Ok(()),
            }
        }
        self.unread = input.to_vec();
        Ok(())
    }

    /// One timer for all: it is moved only when it would ring too late.
    fn set_timer(&mut self, appetite: Appetite) {
        let ping = self.session.heartbeat().ping;
        let mut next = (self.pinged_at.max(self.heard_at) + ping).min(self.silent_at());
        if let Some(stalled) = self.wire.stalled_since {
            next = next.min(stalled + WRITE_TIMEOUT);
        }
        if let Appetite::Until(instant) = appetite {
            next = next.min(instant);
        }
        if next < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(next);
        }
    }

    /// When a peer that says nothing is taken for gone.
    fn silent_at(&self) -> Instant {
        (self.heard_at + self.session.heartbeat().silence).max(self.pinged_at + PONG_TIMEOUT)
    }

    fn on_timer(&mut self) -> Result<(), Gone> {
        let now = Instant::now();
        let ping = self.session.heartbeat().ping;
        if now - self.timer.deadline() >= LATE {
            // What came meanwhile was not read, what could be written was not: everybody is given another chance.
            self.wire.stalled_since = self.wire.stalled_since.map(|_| now);
            self.ping(now);
        }
        if self.wire.stalled_since.is_some_and(|since| now - since >= WRITE_TIMEOUT) {
            metrics::counter!(crate::metric::SLOW).increment(1);
            return Err(Gone::Close(self.connection.try_later()));
        }
        if self.session.appetite() == Appetite::Busy {
            // We do not read on purpose: its silence is ours.
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
        self.wire.send(frame::ping(b""));
    }
}

/// Frames on their way out.
struct Wire {
    tcp: TcpStream,
    frames: VecDeque<Bytes>,
    stalled_since: Option<Instant>,
}

impl Wire {
    fn new(tcp: TcpStream) -> Self {
        Self { tcp, frames: VecDeque::new(), stalled_since: None }
    }

    fn is_drained(&self) -> bool {
        self.frames.is_empty()
    }

    fn send(&mut self, frame: Bytes) {
        self.frames.push_back(frame);
    }

    /// Writes what the connection is owed, as far as the peer takes it. Returns the end, if nothing comes before it.
    fn send_from(&mut self, connection: &Connection) -> io::Result<Option<Close>> {
        loop {
            let end = if self.frames.is_empty() { connection.take(&mut self.frames, WRITE_BATCH) } else { None };
            if self.frames.is_empty() {
                // An idle socket holds no buffer.
                self.frames = VecDeque::new();
                self.stalled_since = None;
                return Ok(end);
            }
            if !self.write()? {
                return Ok(None);
            }
        }
    }

    /// Writes what there is. `false`: the peer takes no more now.
    fn write(&mut self) -> io::Result<bool> {
        while !self.frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
            let count = self.frames.len().min(WRITE_SLICES);
            for (slice, frame) in slices.iter_mut().zip(&self.frames) {
                *slice = IoSlice::new(frame);
            }
            match self.tcp.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.stalled_since = None;
                    self.written(written);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.stalled_since.get_or_insert_with(Instant::now);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn written(&mut self, mut bytes: usize) {
        while let Some(frame) = self.frames.front_mut() {
            if bytes < frame.len() {
                frame.advance(bytes);
                return;
            }
            bytes -= frame.len();
            self.frames.pop_front();
        }
    }

    /// Answers a goodbye. The peer sends nothing more, so that nothing is to be waited for.
    async fn answer_goodbye(mut self) {
        if !self.is_drained() {
            // It has not read what it was sent before.
            return self.close(Close::Normal).await;
        }
        self.send(frame::close(Close::Normal.code(), &Close::Normal.reason()));
        if let Err(error) = self.write() {
            tracing::trace!(%error, "a peer left with its goodbye");
        }
    }

    /// Says goodbye, and waits a moment for the answer: a peer that still sends would otherwise see a reset, and never read the
    /// code.
    async fn close(mut self, close: Close) {
        self.frames.push_back(frame::close(close.code(), &close.reason()));
        let goodbye = async {
            while !self.write()? {
                self.tcp.writable().await?;
            }
            tokio::io::AsyncWriteExt::shutdown(&mut self.tcp).await?;
            let mut rest = [0; 1_024];
            loop {
                self.tcp.readable().await?;
                match self.tcp.try_read(&mut rest) {
                    Ok(0) => return Ok::<(), io::Error>(()),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        };
        // A peer that answers late, or not at all, has had its chance.
        match tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::trace!(%error, "a peer left without a goodbye"),
            Err(_) => self.reset(),
        }
    }

    /// Ends the connection at once: else the kernel would keep for minutes what a peer that is gone has not read.
    fn reset(&self) {
        if let Err(error) = self.tcp.set_zero_linger() {
            tracing::trace!(%error, "a connection ends by itself");
        }
    }
}

/// Ends a socket that never had a session.
pub(super) async fn refuse(stream: Stream, frames: VecDeque<Bytes>, close: Close) {
    let mut wire = Wire::new(stream.tcp);
    wire.frames = frames;
    wire.close(close).await;
}
