//! Handles many sockets in one thread. It reads from all sockets that are ready, and writes immediately.
//!
//! **Invariant**: all sockets share one read buffer. Received frames are passed on as slices of this buffer, or of a
//! copy if the previous read of the socket ended within a frame.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::frame::{self, Decoder, Frame};
use crate::socket::Opened;

/// Size of the read buffer in bytes. A read that does not fill the buffer has emptied the socket.
const BUFFER: usize = 256 * 1024;
const TIMER: Token = Token(usize::MAX);

/// Event of a socket.
#[derive(Debug)]
pub(crate) enum SocketEvent<'a> {
    Text(&'a [u8]),
    /// Answer to a ping.
    Pong,
    /// The server has closed the socket. The code is 1006 if the stream ended without a close frame, and 1002 after a
    /// protocol violation. This is the last event of a socket.
    Closed(u16),
}

/// Open sockets, numbered from 0 in the order in which they were added.
pub(crate) struct Sockets {
    poll: Poll,
    events: Events,
    /// Timer with a resolution of microseconds. The timeout of a poll only has a resolution of milliseconds.
    timer: OwnedFd,
    armed: Option<Instant>,
    buffer: Vec<u8>,
    members: Vec<Member>,
}

struct Member {
    /// Connection of the socket. `None` after the socket has been closed.
    stream: Option<TcpStream>,
    decoder: Decoder,
    /// Bytes that wait until the kernel accepts them.
    unsent: Vec<u8>,
}

impl Sockets {
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        let events = Events::with_capacity(1024);
        Ok(Self { poll, events, timer, armed: None, buffer: vec![0; BUFFER], members: Vec::new() })
    }

    pub(crate) fn add(&mut self, opened: Opened) -> io::Result<()> {
        let mut stream = TcpStream::from_std(opened.stream);
        let token = Token(self.members.len());
        self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.members.push(Member { stream: Some(stream), decoder: opened.decoder, unsent: Vec::new() });
        Ok(())
    }

    /// Sends a frame, or buffers it until the kernel accepts it. A frame to a closed socket is dropped. Write errors
    /// are reported by the next [`turn`](Self::turn).
    pub(crate) fn send(&mut self, member: usize, frame: &[u8]) {
        self.members[member].send(frame);
    }

    /// Waits for events, at most until `until`. Passes each event to `receive`, with the number of the socket and the
    /// time at which it was read.
    pub(crate) fn turn(
        &mut self,
        until: Instant,
        now: impl Fn() -> u64,
        mut receive: impl FnMut(usize, SocketEvent<'_>, u64),
    ) -> io::Result<()> {
        let wait = until.saturating_duration_since(Instant::now());
        let timeout = if wait.is_zero() { Some(Duration::ZERO) } else { None };
        if timeout.is_none() && self.armed != Some(until) {
            let value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
            let never = Timespec { tv_sec: 0, tv_nsec: 0 };
            timerfd_settime(
                &self.timer,
                TimerfdTimerFlags::empty(),
                &Itimerspec { it_interval: never, it_value: value },
            )?;
            self.armed = Some(until);
        }
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in &self.events {
            if event.token() == TIMER {
                self.armed = None;
                continue;
            }
            let index = event.token().0;
            let member = &mut self.members[index];
            if event.is_writable() && !member.unsent.is_empty() {
                member.flush();
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                let ending = event.is_read_closed() || event.is_error();
                member.read(&mut self.buffer, ending, &now, |received, at| receive(index, received, at));
            }
        }
        Ok(())
    }
}

impl Member {
    fn send(&mut self, frame: &[u8]) {
        let Some(stream) = &mut self.stream else { return };
        let written = if self.unsent.is_empty() { stream.write(frame).unwrap_or(0) } else { 0 };
        self.unsent.extend_from_slice(&frame[written..]);
    }

    fn flush(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        while let Ok(written @ 1..) = stream.write(&self.unsent) {
            self.unsent.drain(..written);
            if self.unsent.is_empty() {
                self.unsent = Vec::new();
                return;
            }
        }
    }

    fn read(
        &mut self,
        buffer: &mut [u8],
        ending: bool,
        now: impl Fn() -> u64,
        mut receive: impl FnMut(SocketEvent<'_>, u64),
    ) {
        let mut closed = None;
        while closed.is_none() {
            let Some(stream) = &mut self.stream else { return };
            let len = match stream.read(buffer) {
                Ok(0) => {
                    closed = Some(1006);
                    break;
                }
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    closed = Some(1006);
                    break;
                }
            };
            let at = now();
            let mut pong = None;
            let result = self.decoder.read(&buffer[..len], |frame| match frame {
                _ if closed.is_some() => {}
                Frame::Text(text) => receive(SocketEvent::Text(text), at),
                Frame::Ping(payload) => pong = Some(frame::pong(payload)),
                Frame::Pong => receive(SocketEvent::Pong, at),
                Frame::Close(code) => closed = Some(code),
            });
            if result.is_err() {
                closed = Some(1002);
            }
            if let Some(pong) = pong {
                self.send(&pong);
            }
            // A read that does not fill the buffer has emptied the socket. Further data causes a new event.
            if len < buffer.len() && !ending {
                break;
            }
        }
        if let Some(code) = closed {
            self.stream = None;
            self.unsent = Vec::new();
            receive(SocketEvent::Closed(code), now());
        }
    }
}
