//! The widget, the console and the demo in a real Chromium, on real nodes, with and without faults.
//!
//! A test has a [`site::Site`]: nodes, their stores, a host's account, and a shop of another origin that embeds the
//! widget. [`people`] act on [`browser::Page`]s as users do: they read what is shown, press keys and click.

#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod accounts;
mod browser;
mod bundles;
mod consoles;
mod crowds;
mod device;
mod faults;
mod features;
mod hooks;
mod isolation;
mod libraries;
mod link;
mod looks;
mod mail;
mod navigation;
mod old_browsers;
mod paths;
mod people;
mod phones;
mod recovery;
mod shop;
mod silence;
mod site;
mod storage;
mod styles;
mod talk;

#[allow(dead_code, reason = "MariaDB is for others")]
#[path = "../support/database.rs"]
mod database;
#[allow(dead_code, reason = "memory and metrics are for others")]
#[path = "../chaos/node.rs"]
mod node;
#[allow(dead_code, reason = "the crate's own tests use it all")]
#[path = "../../src/outbound/webhooks/testing.rs"]
mod receiver;
#[allow(dead_code, reason = "the crate's own tests use it all")]
#[path = "../../src/backend/redis/testing/servers.rs"]
mod servers;

use std::time::Duration;

/// Time limit for every expected change, sufficient on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Polls until there is an answer.
async fn eventually<T>(what: &str, within: Duration, ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    tokio::time::timeout(within, asking).await.unwrap_or_else(|_| panic!("in vain for {within:?}: {what}"))
}
