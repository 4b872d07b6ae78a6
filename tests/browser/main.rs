//! Tests the widget, the console and the demo in a real Chromium with real nodes. Some tests inject faults.
//!
//! Each test creates a [`site::Site`]: nodes and their stores, a host account, and a shop that embeds the widget and
//! has a different origin. The [`people`] of a test act on [`browser::Page`]s as users do: they read the page, press
//! keys and click.

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

/// Path of the executable of this build.
const BUILT: &str = env!("CARGO_BIN_EXE_pintalk");

/// Maximum time until an expected change is shown, even on a slow machine.
const TIMEOUT: Duration = Duration::from_secs(30);
