//! Command `join`: guests join a room with a history, read the whole history, and leave.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::args::JoinArgs;
use crate::check::{Receiver, Verdict};
use crate::frame::{self, Decoder, Frame};
use crate::latency::Latencies;
use crate::message::{self, Run, Scanner};
use crate::progress::Bar;
use crate::report::{Meter, Report, Scenario};
use crate::setup::{self, Setup, joined};
use crate::socket::{OpenError, read_some};

/// Results of the guests that one thread runs.
struct Finding {
    joins: u64,
    latency: Latencies,
    verdict: Verdict,
    /// Number of closed sockets by close code. Code 0 counts guests who were not admitted or did not receive the
    /// history.
    closed: BTreeMap<u16, u64>,
    /// Error of the first guest who was not admitted or did not receive the history.
    reason: Option<String>,
}

impl Finding {
    fn new() -> Self {
        Self { joins: 0, latency: Latencies::new(), verdict: Verdict::default(), closed: BTreeMap::new(), reason: None }
    }

    fn add(mut self, other: Self) -> Self {
        self.joins += other.joins;
        self.latency.add(&other.latency);
        self.verdict.add(&other.verdict);
        for (code, count) in other.closed {
            *self.closed.entry(code).or_default() += count;
        }
        self.reason = self.reason.or(other.reason);
        self
    }
}

/// Sends the messages of the histories, and then runs the guests.
pub(crate) fn run(args: &JoinArgs) -> Result<Report, Failure> {
    let setup = Setup::new(&args.target, args.rooms.max(args.concurrency))?;
    let rooms = setup.open_rooms(args.rooms)?;
    let run = fill(&setup, &rooms, args)?;
    let storm = Storm { setup: &setup, rooms: &rooms, run, args, next: AtomicU32::new(0) };
    let bar = Bar::of("join", args.joins as usize);
    let meter = Meter::start(&args.measure.process)?;
    let found = thread::scope(|scope| {
        let guests: Vec<_> = (0..args.concurrency).map(|_| scope.spawn(|| storm.guests(&bar))).collect();
        guests.into_iter().map(joined).fold(Finding::new(), Finding::add)
    });
    let (span_s, measured) = meter.stop();
    drop(bar);
    if let Some(reason) = &found.reason {
        eprintln!("join failed: {reason}");
    }
    let settings = [("rooms", args.rooms), ("concurrency", args.concurrency), ("history", args.history)];
    Ok(Report {
        settings: settings.into_iter().map(|(name, value)| (name.to_owned(), f64::from(value))).collect(),
        span_s,
        deliveries: found.joins * u64::from(args.history),
        units: found.joins,
        per_second: found.joins as f64 / span_s,
        latency: vec![found.latency.distribution("history read")],
        verdict: found.verdict,
        closed: found.closed,
        ..Report::new(Scenario::Join, setup.nodes.len(), measured)
    })
}

/// Sends the history of each room as the guest of the room. With `--await-archive`, waits until the messages are
/// archived. Returns the id of the run that the messages contain.
fn fill(setup: &Setup, rooms: &[String], args: &JoinArgs) -> Result<Run, Failure> {
    let mut talk = setup.new_talk()?;
    for (at, room) in rooms.iter().enumerate() {
        let guest = setup.open(&setup.guest_in(room, at, at))?;
        talk.add_participant(at as u32, 0, guest, Some(args.size as usize)).map_err(Failure::new)?;
    }
    talk.send_each(args.history)?;
    talk.await_archive(setup::queues(args.measure.await_archive.as_deref())?.as_mut())?;
    let (verdict, closed) = talk.verdict();
    if !verdict.is_clean() || !closed.is_empty() {
        return Err(Failure::new(format!("failed to fill the rooms: {verdict:?}, sockets closed: {closed:?}")));
    }
    Ok(talk.run_id())
}

struct Storm<'a> {
    setup: &'a Setup,
    rooms: &'a [String],
    run: Run,
    args: &'a JoinArgs,
    next: AtomicU32,
}

impl Storm<'_> {
    /// Runs one guest after another until the number of joins is reached, and returns their results.
    fn guests(&self, bar: &Bar) -> Finding {
        let mut found = Finding::new();
        let scanner = Scanner::new(true);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let join = self.next.fetch_add(1, Ordering::Relaxed);
            if join >= self.args.joins {
                return found;
            }
            match self.guest(join, &scanner, &mut buffer, &mut found.verdict) {
                Ok(latency) => {
                    found.joins += 1;
                    found.latency.record(latency.as_nanos() as u64);
                }
                Err(OpenError::Closed(code)) => *found.closed.entry(code).or_default() += 1,
                Err(error) => {
                    *found.closed.entry(0).or_default() += 1;
                    found.reason.get_or_insert_with(|| error.to_string());
                }
            }
            bar.tick();
        }
    }

    /// Runs one guest: connects, reads the whole history, sends a close frame, and waits until the server has closed
    /// the connection. Returns the time until the history was complete.
    fn guest(
        &self,
        join: u32,
        scanner: &Scanner,
        buffer: &mut [u8],
        verdict: &mut Verdict,
    ) -> Result<Duration, OpenError> {
        let room = join % self.rooms.len() as u32;
        let node = join as usize / self.rooms.len() + room as usize;
        let target = self.setup.guest_in(&self.rooms[room as usize], node, join as usize);
        let start = Instant::now();
        let (mut stream, rest) = target.upgrade()?;
        let mut history =
            History { receiver: Receiver::new(self.run, room), decoder: Decoder::default(), scanner, verdict };
        let mut whole = history.read(&rest)?;
        while !whole {
            let len = read_some(&mut stream, buffer)?;
            whole = history.read(&buffer[..len])?;
        }
        let latency = start.elapsed();
        history.verdict.lost += history.receiver.lost([self.args.history, 0]);
        stream.write_all(&frame::close(1000))?;
        while read_some(&mut stream, buffer).is_ok() {}
        Ok(latency)
    }
}

/// History of a room while a guest receives it.
struct History<'a> {
    receiver: Receiver,
    decoder: Decoder,
    scanner: &'a Scanner,
    verdict: &'a mut Verdict,
}

impl History<'_> {
    /// Decodes received bytes. Returns whether the history is complete.
    fn read(&mut self, input: &[u8]) -> Result<bool, OpenError> {
        let mut whole = Ok(false);
        self.decoder.read(input, |frame| match frame {
            Frame::Text(json) => {
                let mut any = false;
                for (id, seq) in self.scanner.messages(json) {
                    any = true;
                    self.receiver.receive(id, seq, self.verdict);
                }
                if any && !message::is_continued(json) {
                    whole = Ok(true);
                }
            }
            Frame::Close(code) => whole = Err(OpenError::Closed(code)),
            Frame::Ping(_) | Frame::Pong => {}
        })?;
        whole
    }
}
