//! Build script that sets the environment variables for the version output: the source revision (`PINTALK_REVISION`, if
//! set) and the compiler version.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/cli/build.rs");
    println!("cargo::rerun-if-env-changed=PINTALK_REVISION");
    let revision = std::env::var("PINTALK_REVISION").ok().filter(|revision| !revision.is_empty());
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version =
        Command::new(rustc).arg("--version").output().ok().and_then(|output| String::from_utf8(output.stdout).ok());
    // The output of `rustc --version` has the format "rustc 1.95.0 (…)".
    let version = version.as_deref().and_then(|output| output.split_whitespace().nth(1)).unwrap_or("unknown");
    println!("cargo::rustc-env=PINTALK_BUILD_REVISION={}", revision.as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=PINTALK_BUILD_RUST={version}");
}
