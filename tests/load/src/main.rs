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
use std::fs;
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
        Task::Chat(args) => tell(&chat::chat(args)?, &args.measure),
        Task::Fanout(args) => tell(&chat::fanout(args)?, &args.measure),
        Task::Idle(args) => tell(&idle::run(args)?, &args.measure),
        Task::Join(args) => tell(&join::run(args)?, &args.measure),
        Task::Table(args) => table::run(args),
    }
}

fn tell(report: &Report, args: &MeasureArgs) -> Result<bool, Failure> {
    print!("{report}");
    if let Some(file) = &args.json {
        let json = serde_json::to_vec(report).map_err(Failure::new)?;
        fs::write(file, json).map_err(|error| Failure::new(format!("--json: {}: {error}", file.display())))?;
    }
    if let Some(file) = &args.svg {
        let svg = picture::draw(report);
        fs::write(file, svg).map_err(|error| Failure::new(format!("--svg: {}: {error}", file.display())))?;
    }
    Ok(report.is_clean())
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
