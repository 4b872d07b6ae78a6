//! Wraps the TCP stream of a connection and enforces a timeout for each phase and direction.
//!
//! A connection may be idle between requests for at most the time `keep-alive`. The timeout for a request head starts
//! at its first byte. While a response is sent, the peer must accept bytes at a minimum rate. Calls that read a request
//! body enforce its timeout themselves.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::slots::Slot;
use crate::http::metrics::{TcpMetrics, TimedPhase};

/// Minimum number of response bytes that the peer must accept in each [`PROGRESS_WINDOW`] while output is pending.
const MIN_PROGRESS: usize = 16 * 1024;
pub(super) const PROGRESS_WINDOW: Duration = Duration::from_secs(20);

/// Time for which a connection is still read after its write side was closed. If bytes remained unread, the kernel
/// would reset the connection and the peer would not receive the response.
const LINGER: Duration = Duration::from_secs(1);

/// Maximum number of bytes read during [`LINGER`].
const LINGER_BYTES: usize = 256 * 1024;

/// Timeouts of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// Maximum time to the first byte of a connection, and from the first byte of each request to the end of its head.
    pub(super) head: Duration,
    /// Maximum time from a response to the next request.
    pub(super) keep_alive: Duration,
}

/// State of a connection, shared by its stream, its service and its responses in flight.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<StreamState>,
    slot: Arc<Slot>,
}

#[derive(Debug)]
struct StreamState {
    phase: StreamPhase,
    /// Whether the connection accepts no further requests.
    is_closing: bool,
    is_shed: bool,
    /// Waker of the connection's task. The task is woken when a call ends, because the idle timeout starts then.
    reader: Option<Waker>,
}

#[derive(Clone, Copy, Debug)]
enum StreamPhase {
    /// The connection has been waiting for a request since this time.
    Idle(Instant),
    /// The connection is reading a request head that began at this time.
    Head(Instant),
    /// A call is in flight: either it has no response, or the body of its response has not been dropped.
    Call,
}

impl Activity {
    /// Creates the state of a connection whose first bytes have arrived.
    pub(super) fn new(slot: Arc<Slot>) -> Arc<Self> {
        let state =
            StreamState { phase: StreamPhase::Head(Instant::now()), is_closing: false, is_shed: false, reader: None };
        Arc::new(Self { state: Mutex::new(state), slot })
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Ends the connection after the call in flight.
    pub(super) fn close(&self) {
        self.state.lock().is_closing = true;
    }

    /// Ends the connection at once, or after the call in flight.
    pub(super) fn shed(&self) {
        let mut state = self.state.lock();
        (state.is_closing, state.is_shed) = (true, true);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.state.lock().is_closing
    }

    /// Starts a call. The call ends when the body of its response is dropped.
    pub(super) fn begin_call(self: &Arc<Self>) -> OpenCall {
        self.state.lock().phase = StreamPhase::Call;
        self.slot.work();
        OpenCall(self.clone())
    }

    /// Records that a response was written completely. Returns whether the connection is now waiting for a request.
    fn became_idle(self: &Arc<Self>) -> bool {
        let is_idle = {
            let mut state = self.state.lock();
            let is_idle = matches!(state.phase, StreamPhase::Idle(_));
            if is_idle {
                state.phase = StreamPhase::Idle(Instant::now());
            }
            is_idle
        };
        if is_idle {
            self.slot.wait();
        }
        is_idle
    }

    fn received(&self) {
        let mut state = self.state.lock();
        if let StreamPhase::Idle(_) = state.phase {
            state.phase = StreamPhase::Head(Instant::now());
        }
    }
}

/// Call in flight. The call ends when this value is dropped.
#[derive(Debug)]
pub(super) struct OpenCall(Arc<Activity>);

impl Drop for OpenCall {
    fn drop(&mut self) {
        let reader = {
            let mut state = self.0.state.lock();
            state.phase = StreamPhase::Idle(Instant::now());
            state.reader.take()
        };
        self.0.slot.wait();
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// Body of a response. The call ends when this value is dropped.
pub(super) struct CallBody<B> {
    pub(super) body: B,
    pub(super) _call: OpenCall,
}

impl<B: hyper::body::Body + Unpin> hyper::body::Body for CallBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// TCP stream of a peer with timeouts; see the module documentation.
pub(crate) struct PeerStream {
    tcp: TcpStream,
    activity: Arc<Activity>,
    timeouts: Timeouts,
    timer: Pin<Box<Sleep>>,
    /// Whether output is pending because the peer has not read earlier output.
    is_writing: bool,
    /// Start of the current progress window, and the number of bytes that the peer has accepted since.
    waiting: Option<(Instant, usize)>,
    linger: Option<(Instant, usize)>,
}

impl std::fmt::Debug for PeerStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerStream").field("activity", &self.activity).finish_non_exhaustive()
    }
}

impl PeerStream {
    pub(super) fn new(tcp: TcpStream, activity: Arc<Activity>, timeouts: Timeouts) -> Self {
        let timer = Box::pin(tokio::time::sleep(timeouts.head));
        Self { tcp, activity, timeouts, timer, is_writing: false, waiting: None, linger: None }
    }

    /// Returns the TCP stream for a WebSocket and the slot of the connection. From then on, the connection is not
    /// closed to make space for another one.
    pub(crate) fn into_parts(self) -> (TcpStream, Arc<Slot>) {
        let slot = self.activity.slot.clone();
        slot.work();
        (self.tcp, slot)
    }

    /// Returns whether `deadline` has been reached. If not, the task is woken at that time or earlier.
    fn has_passed(&mut self, cx: &mut Context<'_>, deadline: Instant) -> bool {
        if Instant::now() >= deadline {
            return true;
        }
        if self.timer.deadline() > deadline || self.timer.is_elapsed() {
            self.timer.as_mut().reset(deadline);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return true;
            }
            self.timer.as_mut().reset(deadline);
        }
        false
    }

    /// Returns the result of a read when no bytes are available.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (phase, is_closing, is_shed) = {
            let mut state = self.activity.state.lock();
            if let StreamPhase::Call = state.phase {
                state.reader = Some(cx.waker().clone());
            }
            (state.phase, state.is_closing, state.is_shed)
        };
        let end = Poll::Ready(Ok(()));
        match phase {
            StreamPhase::Call => Poll::Pending,
            // The progress window applies while output is pending. The idle timeout starts after the write.
            _ if self.is_writing => Poll::Pending,
            StreamPhase::Idle(_) | StreamPhase::Head(_) if is_shed => end,
            StreamPhase::Idle(_) if is_closing => end,
            StreamPhase::Idle(since) if self.has_passed(cx, since + self.timeouts.keep_alive) => end,
            StreamPhase::Head(since) if self.has_passed(cx, since + self.timeouts.head) => {
                timed_out(self.activity.slot.metrics(), TimedPhase::Head)
            }
            StreamPhase::Idle(_) | StreamPhase::Head(_) => Poll::Pending,
        }
    }

    fn wrote(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.waiting = self.waiting.map(|(since, taken)| (since, taken + bytes));
                self.waiting = self.waiting.filter(|(_, taken)| *taken < MIN_PROGRESS);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                self.is_writing = true;
                self.activity.slot.work();
                let (since, _) = *self.waiting.get_or_insert_with(|| (Instant::now(), 0));
                if self.has_passed(cx, since + PROGRESS_WINDOW) {
                    return timed_out(self.activity.slot.metrics(), TimedPhase::Write);
                }
            }
        }
        written
    }
}

fn timed_out<T>(metrics: &TcpMetrics, phase: TimedPhase) -> Poll<io::Result<T>> {
    metrics.timeouts.get(phase).increment(1);
    Poll::Ready(Err(ErrorKind::TimedOut.into()))
}

impl AsyncRead for PeerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.tcp).poll_read(cx, buf) {
            Poll::Pending => self.poll_silence(cx),
            ready => {
                if buf.filled().len() > before {
                    self.activity.received();
                }
                ready
            }
        }
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.wrote(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes after it has written all output, so no output is pending now.
        self.waiting = None;
        if std::mem::take(&mut self.is_writing) && self.activity.became_idle() {
            // Wakes the task, because its next read starts the idle timeout.
            cx.waker().wake_by_ref();
        }
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.tcp).poll_shutdown(cx))?;
            self.linger = Some((Instant::now() + LINGER, 0));
        }
        let mut scratch = [0; 4 * 1024];
        while let Some((until, read)) = self.linger
            && read < LINGER_BYTES
            && !self.activity.state.lock().is_shed
        {
            let mut rest = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.tcp).poll_read(cx, &mut rest) {
                Poll::Ready(Ok(())) if !rest.filled().is_empty() => {
                    self.linger = Some((until, read + rest.filled().len()));
                }
                Poll::Ready(_) => break,
                Poll::Pending if self.has_passed(cx, until) => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}
