//! Command `idle`, which opens sockets of visitors who have a room each and send no messages.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::args::IdleArgs;
use crate::frame;
use crate::latency::Latencies;
use crate::progress::Bar;
use crate::report::{Meter, Report, Scenario};
use crate::setup::{self, Setup};
use crate::socket::{OpenError, Opened, Target};
use crate::sockets::{SocketEvent, Sockets};

/// Maximum time until the server admits or closes the last socket.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// Maximum time between two polls of the open sockets.
const TURN: Duration = Duration::from_millis(2);

/// Opens the sockets of all visitors and keeps them open. Measures how much the memory of the servers grows.
pub(crate) fn run(args: &IdleArgs) -> Result<Report, Failure> {
    let per_visitor = if args.status { 2 } else { 1 };
    let setup = Setup::new(&args.target, args.visitors * per_visitor)?;
    let rooms = setup.open_rooms(args.visitors)?;
    let targets: Vec<_> = (0..).zip(&rooms).flat_map(|(visitor, room)| visit(&setup, room, visitor, args)).collect();
    let meter = Meter::start(&args.measure.process)?;
    let mut crowd = Crowd::new(targets.len())?;
    crowd.open(&targets, args.concurrency)?;
    crowd.await_admission()?;
    crowd.hold(args.hold)?;
    let (_, measured) = meter.stop();
    let mut report = Report {
        settings: [
            ("visitors".to_owned(), f64::from(args.visitors)),
            ("sockets-per-visitor".to_owned(), f64::from(per_visitor)),
        ]
        .into(),
        span_s: args.hold.as_secs_f64(),
        units: u64::from(args.visitors),
        latency: vec![crowd.admission.distribution("admitted")],
        closed: crowd.closed,
        ..Report::new(Scenario::Idle, setup.nodes.len(), measured)
    };
    report.measured.faults.extend(crowd.fault);
    Ok(report)
}

/// Returns the sockets of one visitor.
fn visit<'a>(setup: &'a Setup, room: &str, visitor: usize, args: &IdleArgs) -> Vec<Target<'a>> {
    if args.status {
        vec![setup.guest_in(room, visitor, visitor * 2), setup.status(visitor + 1, visitor * 2 + 1)]
    } else {
        vec![setup.guest_in(room, visitor, visitor)]
    }
}

/// Sockets that answer pings and otherwise only stay open.
struct Crowd {
    sockets: Sockets,
    /// Time of the upgrade of each socket.
    opened: Vec<Instant>,
    /// Number of sockets that were neither admitted nor closed yet.
    pending: usize,
    /// Time from the upgrade until the server answers a ping, which it does once the socket is admitted.
    admission: Latencies,
    closed: BTreeMap<u16, u64>,
    /// Error of the first socket that did not open, or the number of sockets that were not admitted in time.
    fault: Option<String>,
}

impl Crowd {
    fn new(expected: usize) -> Result<Self, Failure> {
        Ok(Self {
            sockets: Sockets::new().map_err(Failure::new)?,
            opened: Vec::with_capacity(expected),
            pending: 0,
            admission: Latencies::new(),
            closed: BTreeMap::new(),
            fault: None,
        })
    }

    /// Upgrades all connections in `concurrency` threads.
    fn open(&mut self, targets: &[Target<'_>], concurrency: u32) -> Result<(), Failure> {
        let bar = Bar::of("open sockets", targets.len());
        let next = AtomicUsize::new(0);
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..concurrency {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || upgrade(targets, next, &sender));
            }
            drop(sender);
            self.take_in(&receiver, &bar)
        })
    }

    /// Adds connections until all threads have ended.
    fn take_in(&mut self, receiver: &Receiver<Result<Opened, String>>, bar: &Bar) -> Result<(), Failure> {
        loop {
            match receiver.recv_timeout(TURN) {
                Ok(opened) => self.add(opened)?,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
            }
            for opened in receiver.try_iter() {
                self.add(opened)?;
                bar.tick();
            }
            self.listen(Instant::now())?;
        }
    }

    fn add(&mut self, opened: Result<Opened, String>) -> Result<(), Failure> {
        match opened {
            Ok(opened) => {
                self.sockets.add(opened).map_err(Failure::new)?;
                self.sockets.send(self.opened.len(), &frame::ping());
                self.opened.push(Instant::now());
                self.pending += 1;
            }
            Err(reason) => {
                *self.closed.entry(0).or_default() += 1;
                self.fault.get_or_insert(reason);
            }
        }
        Ok(())
    }

    fn await_admission(&mut self) -> Result<(), Failure> {
        let end = Instant::now() + TIME_LIMIT;
        while self.pending > 0 && Instant::now() < end {
            self.listen(Instant::now() + TURN)?;
        }
        if self.pending > 0 {
            self.fault = Some(format!("{} sockets were not admitted within {} s", self.pending, TIME_LIMIT.as_secs()));
        }
        Ok(())
    }

    fn hold(&mut self, span: Duration) -> Result<(), Failure> {
        let bar = Bar::span("hold", span);
        let end = Instant::now() + span;
        while Instant::now() < end {
            self.listen(end.min(Instant::now() + Duration::from_millis(100)))?;
            bar.tick();
        }
        Ok(())
    }

    fn listen(&mut self, until: Instant) -> Result<(), Failure> {
        let Self { sockets, opened, pending, admission, closed, .. } = self;
        let received = sockets.turn(
            until,
            || 0,
            |index, received, _| match received {
                SocketEvent::Pong => {
                    admission.record(opened[index].elapsed().as_nanos() as u64);
                    *pending = pending.saturating_sub(1);
                }
                SocketEvent::Closed(code) => {
                    *closed.entry(code).or_default() += 1;
                    *pending = pending.saturating_sub(1);
                }
                SocketEvent::Text(_) => {}
            },
        );
        received.map_err(Failure::new)
    }
}

/// Upgrades one connection after another until none is left.
fn upgrade(targets: &[Target<'_>], next: &AtomicUsize, opened: &Sender<Result<Opened, String>>) {
    while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
        let result = target.open_unadmitted().map_err(|error: OpenError| setup::failure(target, &error).sentence);
        if opened.send(result).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::frame::Decoder;

    #[test]
    fn socket_is_pending_until_it_is_admitted_or_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut crowd = Crowd::new(3).unwrap();
        let mut servers = Vec::new();
        for _ in 0..2 {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            stream.set_nonblocking(true).unwrap();
            crowd.add(Ok(Opened { stream, decoder: Decoder::default() })).unwrap();
            servers.push(listener.accept().unwrap().0);
        }
        crowd.add(Err("refused".into())).unwrap();
        assert_eq!(crowd.pending, 2);
        // The first server sends a pong, and the second sends a close frame with code 1013.
        servers[0].write_all(&[0x8A, 0]).unwrap();
        servers[1].write_all(&[0x88, 2, 0x03, 0xF5]).unwrap();
        crowd.await_admission().unwrap();
        assert_eq!((crowd.pending, crowd.admission.distribution("").count), (0, 1));
        assert_eq!(crowd.closed, BTreeMap::from([(0, 1), (1013, 1)]));
        assert_eq!(crowd.fault.as_deref(), Some("refused"));
    }
}
