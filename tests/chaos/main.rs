//! Tests that no acknowledged message is lost or duplicated. They inject faults into real nodes, stores and load
//! balancers during conversations.
//!
//! A case has a [`setup::Setup`] with [`client::Client`]s, which are clients that follow the protocol. The case injects
//! a fault, repairs it, and [settles](setup::Setup::settle). Acknowledged, delivered and stored messages must then be
//! the same. Each case writes a line of [`figures`]. With `PINTALK_CHAOS=long`, faults last as long as in the
//! specification.

#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

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

/// Path of the program of this build.
const BUILT: &str = env!("CARGO_BIN_EXE_pintalk");

/// Returns the duration of a fault: `quick`, which exceeds every time-out, or with `PINTALK_CHAOS=long` that of the
/// specification.
fn span(quick: u64, long: u64) -> Duration {
    Duration::from_secs(if std::env::var_os("PINTALK_CHAOS").is_some_and(|kind| kind == "long") { long } else { quick })
}
