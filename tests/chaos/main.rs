//! Tests that no acknowledged message is lost or duplicated. They inject faults into real nodes, stores and load
//! balancers while clients exchange messages.
//!
//! Each test case creates a [`setup::Setup`] with [`client::Client`]s, injects a fault and repairs it. It then
//! [settles](setup::Setup::settle): the acknowledged, delivered and stored messages must be the same. Each test case
//! prints a line of [`figures`]. With `PINTALK_CHAOS=long`, faults last as long as the specification demands.

#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod alarms;
mod client;
mod clocks;
mod clocks_of_stores;
mod collector;
mod ends;
mod failover;
mod figures;
mod health;
mod installation;
mod joins;
mod leader;
mod ledger;
mod log_output;
mod nodes;
mod presence;
mod prometheus;
mod random;
mod redis_away;
mod rolling;
mod setup;
mod slow;
mod socket;
mod sql_away;
mod sql_partly;
mod statuses;
mod telemetry;
mod traces;
mod watched;
mod webhooks;

use std::time::Duration;

use pintalk_kit::eventually;

/// Path of the executable of this build.
const BUILT: &str = env!("CARGO_BIN_EXE_pintalk");

/// Returns the duration of a fault in seconds: `long` with `PINTALK_CHAOS=long`, and `quick` otherwise. `quick` exceeds
/// every timeout.
fn span(quick: u64, long: u64) -> Duration {
    Duration::from_secs(if std::env::var_os("PINTALK_CHAOS").is_some_and(|kind| kind == "long") { long } else { quick })
}
