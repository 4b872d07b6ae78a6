//! Command `idle`, which opens sockets without messages.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::args::IdleArgs;
use crate::check::Verdict;
use crate::progress::Bar;
use crate::report::{Measured, Meter, Report, Scenario};
use crate::setup::Setup;
use crate::socket::Target;
use crate::sockets::{SocketEvent, Sockets};

/// Number of sockets that are opened between two polls of all open sockets.
const SOCKETS_PER_POLL: u32 = 64;

/// Opens all sockets and keeps them open. Measures how much the memory of the servers grows.
pub(crate) fn run(args: &IdleArgs) -> Result<Report, Failure> {
    let setup = Setup::new(&args.target, args.sockets)?;
    let rooms = setup.open_rooms(args.rooms.min(args.sockets))?;
    let mut sockets = Sockets::new().map_err(Failure::new)?;
    let mut closed = BTreeMap::new();
    let meter = Meter::start(&args.measure.process)?;
    let bar = Bar::of("open sockets", args.sockets as usize);
    for socket in 0..args.sockets {
        let count = rooms.len() as u32;
        // The second term distributes the sockets of one room over the nodes as well.
        let node = setup.node(socket + socket / count);
        let room = &rooms[(socket % count) as usize];
        let target = Target { node, room, credential: &setup.guest, index: socket as usize };
        sockets.add(setup.open(&target)?).map_err(Failure::new)?;
        if socket % SOCKETS_PER_POLL == 0 {
            listen(&mut sockets, Instant::now(), &mut closed)?;
        }
        bar.tick();
    }
    drop(bar);
    let bar = Bar::span("hold", args.hold);
    let end = Instant::now() + args.hold;
    while Instant::now() < end {
        listen(&mut sockets, end.min(Instant::now() + Duration::from_millis(100)), &mut closed)?;
        bar.tick();
    }
    let Measured { processes, generator, others_cores, faults } = meter.stop();
    Ok(Report {
        scenario: Scenario::Idle,
        nodes: setup.nodes.len(),
        settings: [("rooms".to_owned(), f64::from(args.rooms)), ("sockets".to_owned(), f64::from(args.sockets))].into(),
        span_s: args.hold.as_secs_f64(),
        messages: 0,
        deliveries: 0,
        units: u64::from(args.sockets),
        per_second: 0.0,
        latency: Vec::new(),
        processes,
        generator,
        others_cores,
        verdict: Verdict::default(),
        closed,
        faults,
    })
}

fn listen(sockets: &mut Sockets, until: Instant, closed: &mut BTreeMap<u16, u64>) -> Result<(), Failure> {
    let received = sockets.turn(
        until,
        || 0,
        |_, received, _| match received {
            SocketEvent::Closed(code) => *closed.entry(code).or_default() += 1,
            SocketEvent::Text(_) => {}
        },
    );
    received.map_err(Failure::new)
}
