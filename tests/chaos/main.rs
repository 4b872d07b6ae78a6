//! No acknowledged message is lost or duplicated under any fault: real nodes, stores and load balancers, with faults
//! injected during conversations.
//!
//! A case is a [`stage::Stage`] with [`person::Person`]s, clients that follow the protocol. It injects a fault, repairs
//! it, and [settles](stage::Stage::settle): acknowledged, delivered and stored messages must then be the same. Each
//! case writes a line of [`figures`]. `PINTALK_CHAOS=long` uses the fault lengths of the specification instead of short
//! ones.

#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod balancer;
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
mod node;
mod nodes;
mod person;
mod presence;
mod proxy;
mod random;
mod redis_away;
mod rolling;
mod slow;
mod socket;
mod sql_away;
mod sql_partly;
mod stage;
mod statuses;
mod telemetry;
mod traces;
mod watched;
mod webhooks;

#[allow(dead_code, reason = "MariaDB is for others")]
#[path = "../support/database.rs"]
mod database;
#[allow(dead_code, unreachable_pub, reason = "the crate's own tests use it all")]
#[path = "../../src/outbound/webhooks/testing.rs"]
mod receiver;
#[allow(dead_code, reason = "the crate's own tests use it all")]
#[path = "../../src/backend/redis/testing/servers.rs"]
mod servers;

use std::time::Duration;

/// Length of a fault: a short one that still exceeds every timeout, or that of the specification.
fn span(quick: u64, long: u64) -> Duration {
    Duration::from_secs(if std::env::var_os("PINTALK_CHAOS").is_some_and(|kind| kind == "long") { long } else { quick })
}

/// Polls until there is an answer.
async fn eventually<T>(what: &str, within: Duration, ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(within, asking).await.unwrap_or_else(|_| panic!("in vain for {within:?}: {what}"))
}
