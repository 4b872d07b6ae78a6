//! Rooms in which people talk and everybody listens: what `chat` and `fanout` measure, and what `join` finds in a room.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::check::{Receiver, SIDES, Verdict};
use crate::clock::Clock;
use crate::crowd::{Crowd, Heard};
use crate::latency::Latencies;
use crate::message::{Run, Scanner, Template};
use crate::progress::Bar;
use crate::queues::Queues;
use crate::schedule::Schedule;
use crate::socket::Opened;

/// What has not arrived by then after the last was sent is lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// The archive may be as far behind as a busy machine takes to catch up.
const ARCHIVE_PATIENCE: Duration = Duration::from_secs(180);
/// How often a loop looks up from its sockets.
const GLANCE: Duration = Duration::from_millis(100);

/// When the next message is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Closed loop: each writer has that many unacknowledged, and sends the next when one comes back.
    Window(u32),
    /// Open loop: that many a second of all writers together, whatever comes back.
    Rate(f64),
}

#[cfg(test)]
mod tests;

/// What a stretch of talking came to.
pub(crate) struct Phase {
    pub(crate) messages: u64,
    /// How many were acknowledged before its span was over.
    pub(crate) acknowledged: u64,
    pub(crate) deliveries: u64,
    /// To the sender.
    pub(crate) acknowledge: Latencies,
    /// To everybody else.
    pub(crate) deliver: Latencies,
    /// How long after its time this process sent a message.
    pub(crate) late: Latencies,
}

impl Phase {
    fn new() -> Self {
        Self {
            messages: 0,
            acknowledged: 0,
            deliveries: 0,
            acknowledge: Latencies::new(),
            deliver: Latencies::new(),
            late: Latencies::new(),
        }
    }
}

/// People in rooms.
pub(crate) struct Talk {
    clock: Clock,
    run: Run,
    crowd: Crowd,
    scanner: Scanner,
    rooms: Vec<Room>,
    /// As the crowd counts them.
    seats: Vec<Seat>,
    /// Seats of those who write.
    writers: Vec<usize>,
    /// Whose message has come back since they were last asked to go on.
    acknowledged: Vec<usize>,
    tally: Tally,
    /// How long what was sent last may take to arrive.
    patience: Duration,
}

#[derive(Default)]
struct Room {
    sent: [u32; SIDES],
    writers: [Option<usize>; SIDES],
    /// Seats whose socket is open.
    open: u32,
}

struct Seat {
    receiver: Receiver,
    room: u32,
    side: u8,
    open: bool,
    /// What he writes with; listeners have none.
    template: Option<Template>,
}

struct Tally {
    phase: Phase,
    /// Until when an acknowledgement counts as of the span.
    end: u64,
    /// Arrivals that are still to come, over all receivers.
    awaited: u64,
    verdict: Verdict,
    closed: BTreeMap<u16, u64>,
}

impl Talk {
    pub(crate) fn new() -> Result<Self, Failure> {
        let clock = Clock::start();
        Ok(Self {
            run: clock.run(),
            clock,
            crowd: Crowd::new().map_err(Failure::new)?,
            scanner: Scanner::new(),
            rooms: Vec::new(),
            seats: Vec::new(),
            writers: Vec::new(),
            acknowledged: Vec::new(),
            tally: Tally {
                phase: Phase::new(),
                end: 0,
                awaited: 0,
                verdict: Verdict::default(),
                closed: BTreeMap::new(),
            },
            patience: PATIENCE,
        })
    }

    pub(crate) fn run_id(&self) -> Run {
        self.run
    }

    /// Seats somebody in a room; with a size he writes messages of that many bytes. One side has at most one writer a room.
    pub(crate) fn seat(&mut self, room: u32, side: u8, opened: Opened, size: Option<usize>) -> io::Result<()> {
        let index = self.seats.len();
        self.crowd.add(opened)?;
        let at = room as usize;
        if self.rooms.len() <= at {
            self.rooms.resize_with(at + 1, Room::default);
        }
        self.rooms[at].open += 1;
        if size.is_some() {
            self.writers.push(index);
            self.rooms[at].writers[usize::from(side)] = Some(index);
        }
        let template = size.map(|size| Template::new(self.run, room, side, size));
        self.seats.push(Seat { receiver: Receiver::new(self.run, room), room, side, open: true, template });
        Ok(())
    }

    /// Hears what waits, so that the server's pings are answered while other things are done.
    pub(crate) fn glance(&mut self) -> Result<(), Failure> {
        self.hear(Instant::now())
    }

    /// Everybody talks for a span; returns when all has arrived, or patience has run out.
    pub(crate) fn talk(&mut self, pace: Pace, span: Duration, bar: &Bar) -> Result<Phase, Failure> {
        let start = self.clock.now();
        self.tally.end = start + span.as_nanos() as u64;
        let end = self.clock.instant(self.tally.end);
        match pace {
            Pace::Window(window) => {
                self.everybody_says(window);
                self.go_on_while_acknowledged(end, bar)?;
            }
            Pace::Rate(rate) => self.follow(Schedule::new(start, rate, span), bar)?,
        }
        self.settle()
    }

    /// Each writer says that many messages; returns when all has arrived.
    pub(crate) fn say_each(&mut self, count: u32) -> Result<Phase, Failure> {
        self.everybody_says(count);
        self.settle()
    }

    fn everybody_says(&mut self, count: u32) {
        for _ in 0..count {
            for writer in 0..self.writers.len() {
                self.say(self.writers[writer], None);
            }
        }
    }

    fn go_on_while_acknowledged(&mut self, end: Instant, bar: &Bar) -> Result<(), Failure> {
        loop {
            let now = Instant::now();
            if now >= end || self.is_deserted() {
                return Ok(());
            }
            self.hear(end.min(now + GLANCE))?;
            bar.tick();
            let mut acknowledged = std::mem::take(&mut self.acknowledged);
            for seat in acknowledged.drain(..) {
                self.say(seat, None);
            }
            self.acknowledged = acknowledged;
        }
    }

    fn follow(&mut self, mut schedule: Schedule, bar: &Bar) -> Result<(), Failure> {
        while !self.is_deserted() {
            while let Some((count, due)) = schedule.take_due(self.clock.now()) {
                let seat = self.writers[(count % self.writers.len() as u64) as usize];
                self.say(seat, Some(due));
            }
            let Some(due) = schedule.next_due() else { return Ok(()) };
            self.hear(self.clock.instant(due).min(Instant::now() + GLANCE))?;
            self.acknowledged.clear();
            bar.tick();
        }
        Ok(())
    }

    /// Sends a message that was due at some time, now if none is given.
    fn say(&mut self, seat: usize, due: Option<u64>) {
        let Seat { room, side, open: true, template: Some(template), .. } = &mut self.seats[seat] else { return };
        let now = self.clock.now();
        let due = due.unwrap_or(now);
        self.crowd.send(seat, template.next(due, self.clock.wall(now)));
        let room = &mut self.rooms[*room as usize];
        room.sent[usize::from(*side)] += 1;
        self.tally.awaited += u64::from(room.open);
        self.tally.phase.messages += 1;
        self.tally.phase.late.record(now.saturating_sub(due));
    }

    fn hear(&mut self, until: Instant) -> Result<(), Failure> {
        let Self { clock, crowd, scanner, rooms, seats, acknowledged, tally, .. } = self;
        let heard = crowd.turn(
            until,
            || clock.now(),
            |index, heard, at| match heard {
                Heard::Text(json) => {
                    let seat = &mut seats[index];
                    for (id, seq) in scanner.messages(json) {
                        let Some(id) = seat.receiver.receive(id, seq, &mut tally.verdict) else { continue };
                        let latency = at.saturating_sub(id.due);
                        tally.awaited = tally.awaited.saturating_sub(1);
                        tally.phase.deliveries += 1;
                        if id.side == seat.side && seat.template.is_some() {
                            tally.phase.acknowledge.record(latency);
                            tally.phase.acknowledged += u64::from(at < tally.end);
                            acknowledged.push(index);
                        } else {
                            tally.phase.deliver.record(latency);
                        }
                    }
                }
                Heard::Closed(code) => {
                    let seat = &mut seats[index];
                    let room = &mut rooms[seat.room as usize];
                    seat.open = false;
                    room.open -= 1;
                    tally.awaited = tally.awaited.saturating_sub(seat.receiver.lost(room.sent));
                    *tally.closed.entry(code).or_default() += 1;
                }
            },
        );
        heard.map_err(Failure::new)
    }

    /// Nobody is left who could say anything.
    fn is_deserted(&self) -> bool {
        !self.writers.iter().any(|&writer| self.seats[writer].open)
    }

    fn settle(&mut self) -> Result<Phase, Failure> {
        let end = Instant::now() + self.patience;
        while self.tally.awaited > 0 && Instant::now() < end {
            self.hear(Instant::now() + GLANCE)?;
        }
        self.acknowledged.clear();
        Ok(std::mem::replace(&mut self.tally.phase, Phase::new()))
    }

    /// Waits until the archive has taken what was said.
    pub(crate) fn await_archive(&mut self, queues: Option<&mut Queues>) -> Result<(), Failure> {
        let Some(queues) = queues else { return Ok(()) };
        let end = Instant::now() + ARCHIVE_PATIENCE;
        loop {
            let waiting = queues.waiting()?;
            if waiting == 0 {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(Failure::new(format!("--await-archive: {waiting} messages still wait for the archive")));
            }
            self.hear(Instant::now() + GLANCE)?;
        }
    }

    /// What went wrong so far, and whose sockets were closed, by code. Of a writer whose socket was closed only what came
    /// back to him was promised to anybody; whoever was closed himself is asked for nothing.
    pub(crate) fn verdict(&self) -> (Verdict, BTreeMap<u16, u64>) {
        let mut verdict = self.tally.verdict;
        for seat in self.seats.iter().filter(|seat| seat.open) {
            let room = &self.rooms[seat.room as usize];
            let mut promised = room.sent;
            for (side, writer) in (0..).zip(room.writers) {
                if let Some(writer) = writer.map(|writer| &self.seats[writer]).filter(|writer| !writer.open) {
                    promised[usize::from(side)] = writer.receiver.highest(side);
                }
            }
            verdict.lost += seat.receiver.lost(promised);
        }
        (verdict, self.tally.closed.clone())
    }
}
