//! Command `rooms`, which creates rooms, one after another.

use crate::Failure;
use crate::args::RoomsArgs;
use crate::report::{Meter, Report, Scenario};
use crate::setup::Setup;

/// Creates all rooms and measures the cost per room.
pub(crate) fn run(args: &RoomsArgs) -> Result<Report, Failure> {
    let setup = Setup::new(&args.target, 0)?;
    // One room per node is created before the measurement, so that it excludes work that each node does only for its
    // first request.
    setup.open_rooms_in(setup.nodes.len() as u32, 1)?;
    let meter = Meter::start(&args.measure.process)?;
    let rooms = setup.open_rooms_in(args.rooms, 1)?;
    let (span_s, measured) = meter.stop();
    let units = rooms.len() as u64;
    Ok(Report {
        settings: [("rooms".to_owned(), f64::from(args.rooms))].into(),
        span_s,
        units,
        per_second: units as f64 / span_s,
        ..Report::new(Scenario::Rooms, setup.nodes.len(), measured)
    })
}
