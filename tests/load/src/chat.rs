//! Commands `chat` and `fanout`. `chat` measures throughput and latency of messages in many rooms, `fanout` the cost
//! per delivery in one room with many receivers.

use std::collections::BTreeMap;

use crate::Failure;
use crate::args::{ChatArgs, FanoutArgs, MeasureArgs, SpanArgs, Writers};
use crate::progress::Bar;
use crate::report::{Meter, Report, Scenario};
use crate::setup::{self, Setup};
use crate::talk::{Pace, Phase, Talk};

const GUEST: u8 = 0;
const HOST: u8 = 1;

/// Runs many rooms in which guests, hosts or both send messages.
pub(crate) fn chat(args: &ChatArgs) -> Result<Report, Failure> {
    let sockets_per_room = if args.writers == Writers::GuestsAlone { 1 } else { 2 };
    let setup = Setup::new(&args.target, args.rooms * sockets_per_room)?;
    let talk = open_pairs(&setup, args.rooms, args.writers, args.span.size)?;
    let pace = args.rate.map_or(Pace::InFlight(args.in_flight), Pace::Rate);
    let scenario = if args.rate.is_some() { Scenario::Paced } else { Scenario::Saturated };
    let mut settings = settings(&args.span, pace);
    settings.insert("rooms".into(), f64::from(args.rooms));
    let report = measure(&setup, talk, scenario, pace, &args.span, &args.measure)?;
    Ok(Report { settings, ..report })
}

/// Opens rooms that each have one guest and, unless the guests are alone, one host. If there are several nodes, guest
/// and host use different ones.
pub(crate) fn open_pairs(setup: &Setup, rooms: u32, writers: Writers, size: u32) -> Result<Talk, Failure> {
    let rooms = setup.open_rooms(rooms)?;
    let mut talk = setup.new_talk()?;
    let size = |writes: bool| writes.then_some(size as usize);
    let bar = Bar::of("open sockets", rooms.len() * 2);
    for (room, name) in rooms.iter().enumerate() {
        let guest = setup.open(&setup.guest_in(name, room, room * 2))?;
        talk.add_participant(room as u32, GUEST, guest, size(writers != Writers::Hosts)).map_err(Failure::new)?;
        if writers != Writers::GuestsAlone {
            let host = setup.open(&setup.host_in(name, room + 1, room * 2 + 1))?;
            talk.add_participant(room as u32, HOST, host, size(writers != Writers::Guests)).map_err(Failure::new)?;
        }
        talk.process_events()?;
        bar.tick();
    }
    Ok(talk)
}

/// Runs one room in which the host sends messages and all guests receive them.
pub(crate) fn fanout(args: &FanoutArgs) -> Result<Report, Failure> {
    let setup = Setup::new(&args.target, args.listeners + 1)?;
    let rooms = setup.open_rooms(1)?;
    let room = rooms.first().map(String::as_str).unwrap_or_default();
    let mut talk = setup.new_talk()?;
    let host = setup.open(&setup.host_in(room, 0, 0))?;
    talk.add_participant(0, HOST, host, Some(args.span.size as usize)).map_err(Failure::new)?;
    let bar = Bar::of("open sockets", args.listeners as usize);
    for listener in 1..=args.listeners as usize {
        let guest = setup.open(&setup.guest_in(room, listener, listener))?;
        talk.add_participant(0, GUEST, guest, None).map_err(Failure::new)?;
        talk.process_events()?;
        bar.tick();
    }
    drop(bar);
    let pace = Pace::Rate(args.rate);
    let mut settings = settings(&args.span, pace);
    settings.insert("listeners".into(), f64::from(args.listeners));
    let report = measure(&setup, talk, Scenario::Fanout, pace, &args.span, &args.measure)?;
    Ok(Report { settings, ..report })
}

pub(crate) fn settings(span: &SpanArgs, pace: Pace) -> BTreeMap<String, f64> {
    let (name, value) = match pace {
        Pace::InFlight(count) => ("in-flight", f64::from(count)),
        Pace::Rate(rate) => ("rate", rate),
    };
    let all = [(name, value), ("size", f64::from(span.size)), ("warm-up", span.warm_up.as_secs_f64())];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Runs the warm-up and the measurement. Waits after each of them until the archive queues are empty. The measured cost
/// thus includes archiving exactly the messages of the measurement.
fn measure(
    setup: &Setup,
    mut talk: Talk,
    scenario: Scenario,
    pace: Pace,
    span: &SpanArgs,
    measure: &MeasureArgs,
) -> Result<Report, Failure> {
    let mut queues = setup::queues(measure.await_archive.as_deref())?;
    talk.talk(pace, span.warm_up, &Bar::span("warm up", span.warm_up))?;
    talk.await_archive(queues.as_mut())?;
    let meter = Meter::start(&measure.process)?;
    let phase = talk.talk(pace, span.span, &Bar::span("measure", span.span))?;
    let archived = talk.await_archive(queues.as_mut());
    let (_, mut measured) = meter.stop();
    measured.faults.extend(archived.err().map(|failure| failure.sentence));
    measured.generator.late_p99_ms = phase.late.at_ms(99.0);
    measured.generator.late_max_ms = phase.late.at_ms(100.0);
    let report = Report::new(scenario, setup.nodes.len(), measured);
    Ok(with_messages(report, &talk, &phase, span.span.as_secs_f64()))
}

/// Adds the figures of a phase's messages to `report`.
pub(crate) fn with_messages(report: Report, talk: &Talk, phase: &Phase, span_s: f64) -> Report {
    let (verdict, closed) = talk.verdict();
    let fanout = report.scenario == Scenario::Fanout;
    Report {
        span_s,
        messages: phase.messages,
        deliveries: phase.deliveries,
        units: if fanout { phase.deliveries } else { phase.messages },
        per_second: if fanout { phase.deliveries } else { phase.acknowledged } as f64 / span_s,
        latency: vec![phase.acknowledge.distribution("acknowledged"), phase.deliver.distribution("delivered")],
        verdict,
        closed,
        ..report
    }
}
