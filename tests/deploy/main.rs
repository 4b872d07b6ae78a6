//! Tests the deployment files with the tools that operators use. The files are the chart, the alerts, the dashboard,
//! the Compose file and the image.

#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod alerts;
mod chart;
mod compose;
mod documents;
mod exposure;
mod image;
mod platform;
mod readme;
mod references;
mod refusals;
mod sources;
mod structure;
mod tools;
mod values;
