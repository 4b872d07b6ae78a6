//! Writes the output of a connection to its peer: the frames of the outbox, and control frames. Disconnects peers that
//! accept output too slowly.
//!
//! **Invariant:** in addition to the frames of the outbox, at most one pong, one ping and one close frame wait for the
//! peer, for any number of frames that the peer sends. Frames that are being written here still count towards the limit
//! of the outbox.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::stream::UpgradedStream;
use crate::chat::hub::Connection;
use crate::http::Slot;
use crate::protocol::{Close, frame};

/// Number of bytes at which a batch of frames from the outbox is complete. Larger batches are not faster.
const WRITE_BATCH: usize = 64 * 1024;

/// Maximum number of frames per write.
const WRITE_SLICES: usize = 64;

/// Maximum time for which a peer may accept no bytes. After this time, the peer is disconnected.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Minimum number of bytes that a peer must accept in each [`PROGRESS_WINDOW`] while output waits.
const MIN_PROGRESS: usize = 4 * 1024;
const PROGRESS_WINDOW: Duration = Duration::from_secs(30);

/// Maximum time to send a close frame and to wait for the peer's answer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Output of one connection that is being written.
pub(super) struct Outbound {
    pub(super) tcp: TcpStream,
    _slot: Arc<Slot>,
    frames: VecDeque<Bytes>,
    /// Whether a part of the first frame has been written.
    is_split: bool,
    /// Pong in response to the newest ping.
    pong: Option<Bytes>,
    is_ping_due: bool,
    stall: Option<Stall>,
}

/// Progress of a peer while output waits for it.
#[derive(Clone, Copy)]
struct Stall {
    /// Time at which the peer last accepted a byte, or at which output started to wait.
    since: Instant,
    window_began: Instant,
    accepted_bytes: usize,
}

impl Stall {
    fn at(now: Instant) -> Self {
        Self { since: now, window_began: now, accepted_bytes: 0 }
    }

    fn accepted(&mut self, now: Instant, bytes: usize) {
        self.since = now;
        self.accepted_bytes += bytes;
        if self.accepted_bytes >= MIN_PROGRESS {
            (self.window_began, self.accepted_bytes) = (now, 0);
        }
    }

    fn deadline(&self) -> Instant {
        (self.since + WRITE_TIMEOUT).min(self.window_began + PROGRESS_WINDOW)
    }
}

impl Outbound {
    pub(super) fn new(tcp: TcpStream, slot: Arc<Slot>) -> Self {
        Self { tcp, _slot: slot, frames: VecDeque::new(), is_split: false, pong: None, is_ping_due: false, stall: None }
    }

    /// Returns whether no output waits for the peer.
    pub(super) fn is_drained(&self) -> bool {
        self.frames.is_empty() && self.pong.is_none() && !self.is_ping_due
    }

    /// Queues a pong. It replaces a pong that is still waiting (RFC 6455, 5.5.3).
    pub(super) fn pong(&mut self, payload: &[u8]) {
        self.pong = Some(frame::pong(payload));
    }

    pub(super) fn ping(&mut self) {
        self.is_ping_due = true;
    }

    /// Returns the time at which the peer is disconnected if it accepts no more bytes. Returns `None` if no output
    /// waits.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.stall.map(|stall| stall.deadline())
    }

    /// Restarts the timeouts of the peer after this node was stalled and therefore wrote nothing.
    pub(super) fn restart_time_limits(&mut self, now: Instant) {
        self.stall = self.stall.map(|_| Stall::at(now));
    }

    /// Writes the waiting output until the peer accepts no more bytes. Returns the pending close when all frames before
    /// it are written.
    pub(super) fn send_from(&mut self, connection: &Connection) -> io::Result<Option<Close>> {
        loop {
            let end = if self.frames.is_empty() { self.refill(connection) } else { None };
            if self.frames.is_empty() {
                self.frames = VecDeque::new();
                self.stall = None;
                return Ok(end);
            }
            if !self.write()? {
                return Ok(None);
            }
        }
    }

    fn refill(&mut self, connection: &Connection) -> Option<Close> {
        self.frames.extend(self.pong.take());
        if std::mem::take(&mut self.is_ping_due) {
            self.frames.push_back(frame::ping(b""));
        }
        connection.take(&mut self.frames, WRITE_BATCH)
    }

    /// Writes the queued frames. Returns `false` if the peer does not accept more bytes now.
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
                    if let Some(stall) = &mut self.stall {
                        stall.accepted(Instant::now(), written);
                    }
                    self.written(written);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.stall.get_or_insert_with(|| Stall::at(Instant::now()));
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
                self.is_split |= bytes > 0;
                return;
            }
            bytes -= frame.len();
            self.frames.pop_front();
            self.is_split = false;
        }
    }

    /// Drops all frames of which no byte has been written, so that a slow peer receives its close frame sooner.
    pub(super) fn drop_unsent(&mut self) {
        self.frames.truncate(usize::from(self.is_split));
        self.pong = None;
    }

    /// Answers the close frame of the peer. Waits for the peer only if earlier output is pending, because the peer
    /// sends nothing after its close frame.
    pub(super) async fn answer_close(mut self) {
        if !self.is_drained() {
            // Earlier output still waits for the peer, so the close frame is sent after it.
            return self.close(Close::Normal).await;
        }
        self.frames.push_back(frame::close(Close::Normal.code(), &Close::Normal.reason()));
        if let Err(error) = self.write() {
            tracing::trace!(%error, "failed to answer close frame");
        }
    }

    /// Sends a close frame and waits briefly for the answer. Without the wait, the kernel would reset the connection of
    /// a peer that is still sending, and the peer could not read the close code.
    pub(super) async fn close(mut self, close: Close) {
        self.frames.push_back(frame::close(close.code(), &close.reason()));
        let closing = async {
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
        match tokio::time::timeout(CLOSE_TIMEOUT, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::trace!(%error, "failed to complete close handshake"),
            Err(_) => self.reset(),
        }
    }

    /// Makes the kernel reset the connection when it is closed. Otherwise the kernel would keep the unsent output for
    /// minutes.
    pub(super) fn reset(&self) {
        if let Err(error) = self.tcp.set_zero_linger() {
            tracing::trace!(%error, "failed to set linger option before reset");
        }
    }
}

/// Sends `frames` and a close frame over a socket without a session, then closes the socket.
pub(super) async fn refuse(stream: UpgradedStream, frames: VecDeque<Bytes>, close: Close) {
    let mut outbound = Outbound::new(stream.tcp, stream.slot);
    outbound.frames = frames;
    outbound.close(close).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the time after which a peer that accepts `bytes` every `pause` is disconnected. Returns `None` if the
    /// peer is still connected after ten minutes.
    fn too_slow_after(bytes: usize, pause: Duration) -> Option<Duration> {
        let start = Instant::now();
        let (mut stall, mut now) = (Stall::at(start), start);
        while now < start + Duration::from_secs(600) {
            if stall.deadline() <= now + pause {
                return Some(stall.deadline() - start);
            }
            now += pause;
            stall.accepted(now, bytes);
        }
        None
    }

    #[test]
    fn progress_is_a_rate_and_not_any_byte() {
        let second = Duration::from_secs(1);
        assert_eq!(too_slow_after(10, 4 * second), Some(30 * second));
        assert_eq!(too_slow_after(100, second), Some(30 * second));
        assert_eq!(too_slow_after(MIN_PROGRESS, 11 * second), Some(10 * second));
        assert_eq!(too_slow_after(200, second), None);
        assert_eq!(too_slow_after(MIN_PROGRESS, 9 * second), None);
    }
}
