//! Rooms with writers and receivers. `chat`, `fanout` and `backlog` measure them, and `join` uses them to send the
//! histories.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::check::{Receiver, SIDES, Verdict};
use crate::clock::Clock;
use crate::latency::Latencies;
use crate::message::{Run, Scanner, Template};
use crate::progress::Bar;
use crate::queues::Queues;
use crate::schedule::Schedule;
use crate::socket::Opened;
use crate::sockets::{SocketEvent, Sockets};

/// Maximum time from the last send until all messages have arrived. Messages that arrive later count as lost.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Maximum time for the archiver to catch up, even on a busy machine.
const ARCHIVE_TIME_LIMIT: Duration = Duration::from_secs(180);
/// Maximum time that a loop waits for events before it checks its other conditions.
const MAX_WAIT: Duration = Duration::from_millis(100);

/// Rule for when the next message is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Closed loop. All writers together have this number of unacknowledged messages. After each acknowledgement, the
    /// next writer sends a message.
    InFlight(u32),
    /// Open loop. All writers together send this number of messages per second, regardless of acknowledgements.
    Rate(f64),
}

#[cfg(test)]
mod tests;

/// Results of one sending phase, limited either by duration or by number of messages per writer.
pub(crate) struct Phase {
    pub(crate) messages: u64,
    /// Messages that were acknowledged before the end of the period.
    pub(crate) acknowledged: u64,
    pub(crate) deliveries: u64,
    /// Latency of acknowledgements, which are deliveries to the sender.
    pub(crate) acknowledge: Latencies,
    /// Latency of deliveries to all other participants.
    pub(crate) deliver: Latencies,
    /// Time from the scheduled to the actual sending of a message.
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

/// Rooms with their sockets, and the messages in them.
pub(crate) struct Talk {
    clock: Clock,
    run: Run,
    sockets: Sockets,
    scanner: Scanner,
    rooms: Vec<Room>,
    /// Participants. Each has the same index as its socket in `sockets`.
    participants: Vec<Participant>,
    /// Indexes of the participants that send messages.
    writers: Vec<usize>,
    /// Index in `writers` of the next writer in a closed loop.
    next_writer: usize,
    /// Number of acknowledgements since messages were last sent.
    acknowledged: u64,
    tally: Tally,
    /// Maximum time from the last send until all messages have arrived.
    time_limit: Duration,
}

#[derive(Default)]
struct Room {
    sent: [u32; SIDES],
    writers: [Option<usize>; SIDES],
    /// Number of open sockets in this room.
    open: u32,
}

struct Participant {
    receiver: Receiver,
    room: u32,
    side: u8,
    open: bool,
    /// Template of the frames that the participant sends. `None` if the participant only receives messages.
    template: Option<Template>,
}

struct Tally {
    phase: Phase,
    /// End of the period. Later acknowledgements do not count.
    end: u64,
    /// Number of deliveries that are still expected, summed over all receivers.
    awaited: u64,
    verdict: Verdict,
    closed: BTreeMap<u16, u64>,
}

impl Talk {
    /// Creates a talk without rooms. `numbered` states whether the messages of the server have a `seq`.
    pub(crate) fn new(numbered: bool) -> Result<Self, Failure> {
        let clock = Clock::start();
        Ok(Self {
            run: clock.run(),
            clock,
            sockets: Sockets::new().map_err(Failure::new)?,
            scanner: Scanner::new(numbered),
            rooms: Vec::new(),
            participants: Vec::new(),
            writers: Vec::new(),
            next_writer: 0,
            acknowledged: 0,
            tally: Tally {
                phase: Phase::new(),
                end: 0,
                awaited: 0,
                verdict: Verdict::default(),
                closed: BTreeMap::new(),
            },
            time_limit: TIME_LIMIT,
        })
    }

    pub(crate) fn run_id(&self) -> Run {
        self.run
    }

    /// Adds a participant with an open socket to a room. If `size` is given, the participant sends messages of `size`
    /// bytes. Each side of a room has at most one writer.
    pub(crate) fn add_participant(
        &mut self,
        room: u32,
        side: u8,
        opened: Opened,
        size: Option<usize>,
    ) -> io::Result<()> {
        let index = self.participants.len();
        self.sockets.add(opened)?;
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
        self.participants.push(Participant {
            receiver: Receiver::new(self.run, room),
            room,
            side,
            open: true,
            template,
        });
        Ok(())
    }

    /// Processes pending events without waiting. Calling this method during other work ensures that the server's pings
    /// are answered.
    pub(crate) fn process_events(&mut self) -> Result<(), Failure> {
        self.receive(Instant::now())
    }

    /// Sends messages for the duration `span`. Returns when all messages have arrived or the time limit has passed.
    pub(crate) fn talk(&mut self, pace: Pace, span: Duration, bar: &Bar) -> Result<Phase, Failure> {
        let start = self.clock.now();
        self.tally.end = start + span.as_nanos() as u64;
        let end = self.clock.instant(self.tally.end);
        match pace {
            Pace::InFlight(count) => self.send_in_turn(count, end, bar)?,
            Pace::Rate(rate) => self.follow(Schedule::new(start, rate, span), bar)?,
        }
        self.settle()
    }

    /// Sends `count` messages per writer. Returns when all messages have arrived or the time limit has passed.
    pub(crate) fn send_each(&mut self, count: u32) -> Result<Phase, Failure> {
        for _ in 0..count as usize * self.writers.len() {
            self.send_next();
        }
        self.settle()
    }

    /// Keeps `count` messages unacknowledged until `end`.
    fn send_in_turn(&mut self, count: u32, end: Instant, bar: &Bar) -> Result<(), Failure> {
        self.acknowledged = u64::from(count);
        loop {
            for _ in 0..std::mem::take(&mut self.acknowledged) {
                self.send_next();
            }
            let now = Instant::now();
            if now >= end || self.has_no_writer() {
                return Ok(());
            }
            self.receive(end.min(now + MAX_WAIT))?;
            bar.tick();
        }
    }

    /// Sends a message of the next writer whose socket is open.
    fn send_next(&mut self) {
        for _ in 0..self.writers.len() {
            let writer = self.writers[self.next_writer];
            self.next_writer = (self.next_writer + 1) % self.writers.len();
            if self.participants[writer].open {
                return self.send(writer, None);
            }
        }
    }

    fn follow(&mut self, mut schedule: Schedule, bar: &Bar) -> Result<(), Failure> {
        while !self.has_no_writer() {
            while let Some((count, due)) = schedule.take_due(self.clock.now()) {
                let participant = self.writers[(count % self.writers.len() as u64) as usize];
                self.send(participant, Some(due));
            }
            let Some(due) = schedule.next_due() else { return Ok(()) };
            self.receive(self.clock.instant(due).min(Instant::now() + MAX_WAIT))?;
            self.acknowledged = 0;
            bar.tick();
        }
        Ok(())
    }

    /// Sends a message that was scheduled for `due`. `None` stands for the current time.
    fn send(&mut self, participant: usize, due: Option<u64>) {
        let Participant { room, side, open: true, template: Some(template), .. } = &mut self.participants[participant]
        else {
            return;
        };
        let now = self.clock.now();
        let due = due.unwrap_or(now);
        self.sockets.send(participant, template.next(due, self.clock.wall(now)));
        let room = &mut self.rooms[*room as usize];
        room.sent[usize::from(*side)] += 1;
        self.tally.awaited += u64::from(room.open);
        self.tally.phase.messages += 1;
        self.tally.phase.late.record(now.saturating_sub(due));
    }

    fn receive(&mut self, until: Instant) -> Result<(), Failure> {
        let Self { clock, sockets, scanner, rooms, participants, acknowledged, tally, .. } = self;
        let received = sockets.turn(
            until,
            || clock.now(),
            |index, received, at| match received {
                SocketEvent::Text(json) => {
                    let participant = &mut participants[index];
                    for (id, seq) in scanner.messages(json) {
                        let Some(id) = participant.receiver.receive(id, seq, &mut tally.verdict) else { continue };
                        let latency = at.saturating_sub(id.due);
                        tally.awaited = tally.awaited.saturating_sub(1);
                        tally.phase.deliveries += 1;
                        if id.side == participant.side && participant.template.is_some() {
                            tally.phase.acknowledge.record(latency);
                            tally.phase.acknowledged += u64::from(at < tally.end);
                            *acknowledged += 1;
                        } else {
                            tally.phase.deliver.record(latency);
                        }
                    }
                }
                SocketEvent::Pong => {}
                SocketEvent::Closed(code) => {
                    let participant = &mut participants[index];
                    let room = &mut rooms[participant.room as usize];
                    participant.open = false;
                    room.open -= 1;
                    tally.awaited = tally.awaited.saturating_sub(participant.receiver.lost(room.sent));
                    *tally.closed.entry(code).or_default() += 1;
                }
            },
        );
        received.map_err(Failure::new)
    }

    /// Returns whether no writer has an open socket.
    fn has_no_writer(&self) -> bool {
        !self.writers.iter().any(|&writer| self.participants[writer].open)
    }

    fn settle(&mut self) -> Result<Phase, Failure> {
        let end = Instant::now() + self.time_limit;
        while self.tally.awaited > 0 && Instant::now() < end {
            self.receive(Instant::now() + MAX_WAIT)?;
        }
        self.acknowledged = 0;
        Ok(std::mem::replace(&mut self.tally.phase, Phase::new()))
    }

    /// Waits until the archive queues are empty. Fails after [`ARCHIVE_TIME_LIMIT`].
    pub(crate) fn await_archive(&mut self, queues: Option<&mut Queues>) -> Result<(), Failure> {
        let Some(queues) = queues else { return Ok(()) };
        let end = Instant::now() + ARCHIVE_TIME_LIMIT;
        loop {
            let waiting = queues.waiting()?;
            if waiting == 0 {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(Failure::new(format!("--await-archive: {waiting} messages still wait for the archive")));
            }
            self.receive(Instant::now() + MAX_WAIT)?;
        }
    }

    /// Returns all violations so far, and the number of closed sockets by close code.
    ///
    /// If the socket of a writer was closed, receivers are expected to have only its acknowledged messages. Receivers
    /// whose sockets were closed are not checked.
    pub(crate) fn verdict(&self) -> (Verdict, BTreeMap<u16, u64>) {
        let mut verdict = self.tally.verdict;
        for participant in self.participants.iter().filter(|participant| participant.open) {
            let room = &self.rooms[participant.room as usize];
            let mut promised = room.sent;
            for (side, writer) in (0..).zip(room.writers) {
                if let Some(writer) = writer.map(|writer| &self.participants[writer]).filter(|writer| !writer.open) {
                    promised[usize::from(side)] = writer.receiver.highest(side);
                }
            }
            verdict.lost += participant.receiver.lost(promised);
        }
        (verdict, self.tally.closed.clone())
    }
}
