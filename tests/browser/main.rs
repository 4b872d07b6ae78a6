//! Tests the widget, the console and the demo in a real Chromium with real nodes, with and without faults.
//!
//! A test has a [`site::Site`], which consists of nodes, their stores, a host's account, and a shop on another origin
//! that embeds the widget. [`people`] act on [`browser::Page`]s as users do: they read what is shown, press keys and
//! click.

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

use std::time::Duration;

use pintalk_kit::eventually;

/// Path of the program of this build.
const BUILT: &str = env!("CARGO_BIN_EXE_pintalk");

/// Time limit until an expected change is shown. It is sufficient on a slow machine.
const TIMEOUT: Duration = Duration::from_secs(30);
