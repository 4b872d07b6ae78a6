//! `pintalk-load`: many guests and hosts from one process, who check that every message arrives where it should, once, in
//! order, and measure what it costs the servers.
//!
//! | floor | modules | knows |
//! |---|---|---|
//! | ground | [`frame`], [`message`], [`check`], [`schedule`], [`clock`], [`latency`] | words; no I/O |
//! | means | [`node`], [`socket`], [`crowd`], [`process`], [`queues`], [`progress`] | HTTP, sockets, `/proc`, Redis |
//! | scenarios | [`stage`], [`talk`], [`chat`], [`idle`], [`join`] | what happens in a run |
//! | findings | [`report`], [`print`], [`picture`], [`table`] | what is told of it |
//!
//! All sockets of a run are one thread's: it has a core to itself when the servers have another.

mod args;
mod chat;
mod check;
mod clock;
mod crowd;
mod frame;
mod idle;
mod join;
mod latency;
mod message;
mod node;
mod picture;
mod print;
mod process;
mod progress;
mod queues;
mod report;
mod schedule;
mod socket;
mod stage;
mod table;
mod talk;

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use args::{Cli, MeasureArgs, Task};
use report::Report;

/// Wrong use (EX_USAGE).
const USAGE: u8 = 64;
/// Something was lost or closed, or the run could not be done.
const FAILED: u8 = 1;

/// Why a run ends badly.
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
            // Help and version. A reader that has gone away has read enough.
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

/// Whether all was well.
fn run(task: &Task) -> Result<bool, Failure> {
    match task {
        Task::Chat(args) => measured(&args.measure, || chat::chat(args)),
        Task::Fanout(args) => measured(&args.measure, || chat::fanout(args)),
        Task::Idle(args) => measured(&args.measure, || idle::run(args)),
        Task::Join(args) => measured(&args.measure, || join::run(args)),
        Task::Table(args) => table::run(args),
    }
}

/// Runs a scenario and tells what it found. That its files can be written is known before it begins.
fn measured(args: &MeasureArgs, scenario: impl FnOnce() -> Result<Report, Failure>) -> Result<bool, Failure> {
    let mut json = args.json.as_deref().map(|path| Output::open("--json", path)).transpose()?;
    let mut svg = args.svg.as_deref().map(|path| Output::open("--svg", path)).transpose()?;
    let report = scenario()?;
    say(&report)?;
    if let Some(json) = &mut json {
        json.write(&serde_json::to_vec(&report).map_err(Failure::new)?)?;
    }
    if let Some(svg) = &mut svg {
        svg.write(picture::draw(&report).as_bytes())?;
    }
    Ok(report.is_clean())
}

/// A file that a flag names. What it held stays until there is something new.
struct Output<'a> {
    flag: &'static str,
    path: &'a Path,
    file: File,
}

impl<'a> Output<'a> {
    fn open(flag: &'static str, path: &'a Path) -> Result<Self, Failure> {
        let file = File::options().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| Failure::usage(format!("{flag}: {}: {error}", path.display())))?;
        Ok(Self { flag, path, file })
    }

    fn write(&mut self, content: &[u8]) -> Result<(), Failure> {
        let written = self.file.set_len(0).and_then(|()| self.file.write_all(content));
        written.map_err(|error| Failure::new(format!("{}: {}: {error}", self.flag, self.path.display())))
    }
}

/// Prints; a reader that has gone away has read enough.
fn say(text: impl Display) -> Result<(), Failure> {
    match write!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// The first paragraph of what clap says, which names the flag; the rest are hints for a terminal.
fn sentence(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a command is missing, see --help".to_owned();
    }
    let text = error.to_string();
    let paragraph = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect::<Vec<_>>().join(" ");
    paragraph.strip_prefix("error: ").map_or(paragraph.clone(), str::to_owned)
}
