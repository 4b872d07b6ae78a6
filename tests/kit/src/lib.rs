//! Servers, databases, nodes, proxies and load balancers for the unit tests of `pintalk` and for the test binaries.
//!
//! The database servers that [`database`] uses are started by `tests/run` and shared; each test creates its own
//! database on them. All other servers belong to one test and are stopped on drop.

#![allow(missing_docs, reason = "only tests use it")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot continue has failed")]

pub mod certificates;
pub mod database;
pub mod database_server;
pub mod haproxy;
pub mod mail_server;
pub mod nginx;
pub mod node;
pub mod proxy;
pub mod redis;
pub mod switch_proxy;
pub mod webhook_receiver;

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Delay between two polls of [`eventually`].
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Polls `ask` until it returns a value, and returns the value.
///
/// # Panics
/// Panics if `ask` returns no value within the time limit `within`.
pub async fn eventually<T>(what: &str, within: Duration, ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::time::timeout(within, asking).await.unwrap_or_else(|_| panic!("not within {within:?}: {what}"))
}

/// Returns the path of a file in the repository.
fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}
