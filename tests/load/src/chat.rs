//! Commands `chat` and `fanout`, which measure messages in many rooms or in one room.

use std::collections::BTreeMap;

use crate::Failure;
use crate::args::{ChatArgs, FanoutArgs, MeasureArgs, SpanArgs, Writers};
use crate::progress::Bar;
use crate::report::{Measured, Meter, Report, Scenario};
use crate::setup::{self, Setup};
use crate::socket::Target;
use crate::talk::{Pace, Talk};

const GUEST: u8 = 0;
const HOST: u8 = 1;

/// Runs rooms that each have one guest and one host. If there are several nodes, guest and host use different ones.
pub(crate) fn chat(args: &ChatArgs) -> Result<Report, Failure> {
    let setup = Setup::new(&args.target, args.rooms * 2)?;
    let rooms = setup.open_rooms(args.rooms)?;
    let mut talk = Talk::new()?;
    let size = |writes| if writes { Some(args.span.size as usize) } else { None };
    let bar = Bar::of("open sockets", rooms.len() * 2);
    for (room, name) in (0..).zip(&rooms) {
        for (side, credential, writes) in [
            (GUEST, &setup.guest, args.writers != Writers::Hosts),
            (HOST, &setup.host, args.writers != Writers::Guests),
        ] {
            let index = (room * 2 + u32::from(side)) as usize;
            let target = Target { node: setup.node(room + u32::from(side)), room: name, credential, index };
            talk.add_participant(room, side, setup.open(&target)?, size(writes)).map_err(Failure::new)?;
            bar.tick();
        }
        talk.process_events()?;
    }
    drop(bar);
    let pace = args.rate.map_or(Pace::Window(args.window), Pace::Rate);
    let scenario = if args.rate.is_some() { Scenario::Paced } else { Scenario::Saturated };
    let mut settings = settings(&args.span, pace);
    settings.insert("rooms".into(), f64::from(args.rooms));
    Ok(Report { nodes: setup.nodes.len(), settings, ..measure(talk, scenario, pace, &args.span, &args.measure)? })
}

/// Runs one room in which the host sends messages and all guests receive them.
pub(crate) fn fanout(args: &FanoutArgs) -> Result<Report, Failure> {
    let setup = Setup::new(&args.target, args.listeners + 1)?;
    let rooms = setup.open_rooms(1)?;
    let room = rooms.first().map(String::as_str).unwrap_or_default();
    let mut talk = Talk::new()?;
    let host = Target { node: setup.node(0), room, credential: &setup.host, index: 0 };
    talk.add_participant(0, HOST, setup.open(&host)?, Some(args.span.size as usize)).map_err(Failure::new)?;
    let bar = Bar::of("open sockets", args.listeners as usize);
    for listener in 1..=args.listeners {
        let target = Target { node: setup.node(listener), room, credential: &setup.guest, index: listener as usize };
        talk.add_participant(0, GUEST, setup.open(&target)?, None).map_err(Failure::new)?;
        talk.process_events()?;
        bar.tick();
    }
    drop(bar);
    let pace = Pace::Rate(args.rate);
    let mut settings = settings(&args.span, pace);
    settings.insert("listeners".into(), f64::from(args.listeners));
    Ok(Report {
        nodes: setup.nodes.len(),
        settings,
        ..measure(talk, Scenario::Fanout, pace, &args.span, &args.measure)?
    })
}

fn settings(span: &SpanArgs, pace: Pace) -> BTreeMap<String, f64> {
    let (name, value) = match pace {
        Pace::Window(window) => ("window", f64::from(window)),
        Pace::Rate(rate) => ("rate", rate),
    };
    let all = [(name, value), ("size", f64::from(span.size)), ("warm-up", span.warm_up.as_secs_f64())];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Runs the warm-up and the measurement. Waits after each of them until the archive queues are empty. The measured cost
/// thus includes archiving exactly the messages of the measurement.
fn measure(
    mut talk: Talk,
    scenario: Scenario,
    pace: Pace,
    span: &SpanArgs,
    measure: &MeasureArgs,
) -> Result<Report, Failure> {
    let mut queues = setup::queues(measure)?;
    talk.talk(pace, span.warm_up, &Bar::span("warm up", span.warm_up))?;
    talk.await_archive(queues.as_mut())?;
    let meter = Meter::start(&measure.process)?;
    let phase = talk.talk(pace, span.span, &Bar::span("measure", span.span))?;
    let archived = talk.await_archive(queues.as_mut());
    let Measured { processes, mut generator, others_cores, mut faults } = meter.stop();
    faults.extend(archived.err().map(|failure| failure.sentence));
    generator.late_p99_ms = phase.late.at_ms(99.0);
    generator.late_max_ms = phase.late.at_ms(100.0);
    let (verdict, closed) = talk.verdict();
    let span_s = span.span.as_secs_f64();
    let fanout = scenario == Scenario::Fanout;
    Ok(Report {
        scenario,
        nodes: 0,
        settings: BTreeMap::new(),
        span_s,
        messages: phase.messages,
        deliveries: phase.deliveries,
        units: if fanout { phase.deliveries } else { phase.messages },
        per_second: if fanout { phase.deliveries } else { phase.acknowledged } as f64 / span_s,
        latency: vec![phase.acknowledge.distribution("acknowledged"), phase.deliver.distribution("delivered")],
        processes,
        generator,
        others_cores,
        verdict,
        closed,
        faults,
    })
}
