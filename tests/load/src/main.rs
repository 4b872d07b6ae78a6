//! `pintalk-load` runs many guests and hosts in one process. They verify that every message arrives in its room,
//! exactly once and in order. They also measure the cost of the servers.
//!
//! | layer | modules | uses |
//! |---|---|---|
//! | vocabulary | [`frame`], [`message`], [`check`], [`schedule`], [`clock`], [`latency`] | no I/O |
//! | I/O | [`node`], [`socket`], [`sockets`], [`process`], [`queues`], [`progress`] | HTTP, sockets, `/proc`, Redis |
//! | scenarios | [`setup`], [`talk`], [`chat`], [`rooms`], [`idle`], [`join`], [`backlog`] | the layers above |
//! | results | [`report`], [`print`], [`table`] | reports of runs |
//!
//! Except in `join`, one thread handles all open sockets of a run, so the load generator needs only one core.

mod args;
mod backlog;
mod chat;
mod check;
mod clock;
mod frame;
mod idle;
mod join;
mod latency;
mod message;
mod node;
mod print;
mod process;
mod progress;
mod queues;
mod report;
mod rooms;
mod schedule;
mod setup;
mod socket;
mod sockets;
mod table;
mod talk;

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use args::{Cli, MeasureArgs, TargetArgs, Task};
use report::Report;

/// Exit code for invalid arguments (`EX_USAGE`).
const USAGE: u8 = 64;
/// Exit code if messages were lost, sockets were closed, or the run failed.
const FAILED: u8 = 1;

/// Error that ends the run, with its exit code.
#[derive(Debug)]
struct Failure {
    code: u8,
    sentence: String,
}

impl Failure {
    fn new(sentence: impl Display) -> Self {
        Self { code: FAILED, sentence: sentence.to_string() }
    }

    fn usage(sentence: impl Display) -> Self {
        Self { code: USAGE, sentence: sentence.to_string() }
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::try_parse() {
        Ok(cli) => run(&cli.task),
        Err(error) if !error.use_stderr() => {
            // This error is the help or the version text. Printing it to a closed pipe is not an error.
            let _ = error.print();
            Ok(true)
        }
        Err(error) => Err(Failure::usage(sentence(&error))),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(failure) => {
            eprintln!("error: {}", failure.sentence);
            ExitCode::from(failure.code)
        }
    }
}

/// Runs a command. Returns whether the run had no errors.
fn run(task: &Task) -> Result<bool, Failure> {
    match task {
        Task::Chat(args) => measured(&args.target, &args.measure, || chat::chat(args)),
        Task::Fanout(args) => measured(&args.target, &args.measure, || chat::fanout(args)),
        Task::Rooms(args) => measured(&args.target, &args.measure, || rooms::run(args)),
        Task::Idle(args) => measured(&args.target, &args.measure, || idle::run(args)),
        Task::Join(args) => measured(&args.target, &args.measure, || join::run(args)),
        Task::Backlog(args) => measured(&args.target, &args.measure, || backlog::run(args)),
        Task::Table(args) => table::run(args),
    }
}

/// Runs a scenario and prints its report. The output file is opened before the scenario, so that its errors are reported
/// first.
fn measured(
    target: &TargetArgs,
    args: &MeasureArgs,
    scenario: impl FnOnce() -> Result<Report, Failure>,
) -> Result<bool, Failure> {
    let mut json = args.json.as_deref().map(Output::open).transpose()?;
    let mut report = scenario()?;
    report.shape = args.shape.clone().unwrap_or_else(|| report.scenario.to_string());
    report.relay = target.relay;
    write_line(&report)?;
    if let Some(json) = &mut json {
        json.write(&serde_json::to_vec(&report).map_err(Failure::new)?)?;
    }
    Ok(report.is_clean())
}

/// Output file of `--json`. The previous content is kept until the new content is written.
struct Output<'a> {
    path: &'a Path,
    file: File,
}

impl<'a> Output<'a> {
    fn open(path: &'a Path) -> Result<Self, Failure> {
        let file = File::options().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| Failure::usage(format!("--json: {}: {error}", path.display())))?;
        Ok(Self { path, file })
    }

    fn write(&mut self, content: &[u8]) -> Result<(), Failure> {
        let written = self.file.set_len(0).and_then(|()| self.file.write_all(content));
        written.map_err(|error| Failure::new(format!("--json: {}: {error}", self.path.display())))
    }
}

/// Writes to standard output. A closed pipe is not an error.
fn write_line(text: impl Display) -> Result<(), Failure> {
    match write!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Returns the first paragraph of a clap error, which names the flag. The other paragraphs are usage hints.
fn sentence(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a command is missing, see --help".to_owned();
    }
    let text = error.to_string();
    let paragraph = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect::<Vec<_>>().join(" ");
    paragraph.strip_prefix("error: ").map_or(paragraph.clone(), str::to_owned)
}
