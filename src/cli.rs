//! The command line: which commands there are, and what a process ends with.
//!
//! | exit code | means |
//! |---|---|
//! | 0 | done, or drained |
//! | 1 | it could not be done, or the end did not wait for work in flight |
//! | 64 | bad configuration: one sentence that names the flag |
//! | 70 | a part of the node died by itself |

mod check;
mod cleanup;
mod demo;
mod installation;
mod migrate;
mod serve;
mod user;

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::io::Write as _;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::app::AppError;
use crate::config::{ConfigError, LogFormat};
use crate::store::{Store, StoreError, is_made};
use crate::telemetry;

/// Bad configuration (EX_USAGE): nothing is gained by starting again.
const USAGE: u8 = 64;
/// It could not be done.
const FAILED: u8 = 1;

/// Self-hosted live chat: guests and hosts talk over plain WebSockets, on one node or many.
#[derive(Parser)]
#[command(name = "pintalk", version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run a node: alone when neither Redis nor a database is given, else one of a cluster.
    Serve(Box<crate::config::ServeArgs>),
    /// Run a complete node with a demo host and a page with guest and host side by side.
    Demo(Box<demo::DemoArgs>),
    /// Change the schema of the database, or how the database is served; or show both.
    Migrate(migrate::MigrateArgs),
    /// Show which installation the stores belong to, or adopt a Redis.
    #[command(subcommand)]
    Installation(installation::InstallationCommand),
    /// Hosts.
    #[command(subcommand)]
    User(user::UserCommand),
    /// Close idle rooms and delete what is over, once and now, as the leader does all the time; or count it.
    #[command(after_help = cleanup::WHEN)]
    Cleanup(cleanup::CleanupArgs),
    /// Read the configuration, reach every store, and tell what is wrong or risky.
    Check(Box<crate::config::ServeArgs>),
}

/// Why a command ends badly.
#[derive(Debug)]
struct Failure {
    code: u8,
    sentence: String,
}

impl Failure {
    fn new(sentence: impl fmt::Display) -> Self {
        Self { code: FAILED, sentence: sentence.to_string() }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { code: USAGE, sentence: error.to_string() }
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        let code = if matches!(error, AppError::Mode(_)) { USAGE } else { FAILED };
        Self { code, sentence: error.to_string() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(error)
    }
}

/// Runs the program with these arguments, its name first.
pub fn run<I, T>(args: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    // Files that this program creates are for the program's user alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let command = without_empty_variables(Cli::command());
    let parsed = command.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    let mut is_json = false;
    let outcome = match parsed {
        Ok(cli) => {
            is_json = matches!(&cli.task, Task::Serve(args) if args.log.log_format == LogFormat::Json);
            cli.task.run()
        }
        Err(error) if !error.use_stderr() => {
            // Help and version. A reader that has gone away has read enough.
            let _ = error.print();
            Ok(0)
        }
        Err(error) => Err(Failure { code: USAGE, sentence: sentence(&error) }),
    };
    let code = outcome.unwrap_or_else(|failure| {
        if is_json {
            tracing::error!(error = failure.sentence, code = failure.code, "node failed");
        } else {
            telemetry::print(std::io::stderr(), format!("error: {}", failure.sentence));
        }
        failure.code
    });
    telemetry::flush();
    ExitCode::from(code)
}

impl Task {
    fn run(self) -> Result<u8, Failure> {
        match self {
            Task::Serve(args) => serve::run(*args),
            Task::Demo(args) => demo::run(*args),
            Task::Migrate(args) => migrate::run(&args),
            Task::Installation(command) => installation::run(&command),
            Task::User(command) => user::run(command),
            Task::Cleanup(args) => cleanup::run(&args),
            Task::Check(args) => check::run(*args),
        }
    }
}

/// A variable that is set to nothing, as a compose file or a chart leaves it, is not set.
fn without_empty_variables(command: Command) -> Command {
    command
        .mut_args(|arg| {
            let value = arg.get_env().and_then(std::env::var_os);
            if value.is_some_and(|value| value.is_empty()) { arg.env(Resettable::<_>::Reset) } else { arg }
        })
        .mut_subcommands(without_empty_variables)
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

/// Runs a command's async part. What it leaves behind does not hold up the process's end.
fn block_on<F>(work: F) -> Result<u8, Failure>
where
    F: Future<Output = Result<u8, Failure>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("no runtime: {error}")))?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

/// Writes a line to standard output. A reader that has closed its end needs no more.
fn print_line(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The log of a command that answers on standard output and ends.
fn log_for_a_command() {
    telemetry::log(LogFormat::Text, "warn");
}

/// Opens the database of a command that only looks.
async fn open_store_to_look(database: &crate::config::DatabaseUrl) -> Result<Store, Failure> {
    if !is_made(database.expose()).map_err(Failure::new)? {
        return Err(Failure::new(format!("there is no database at {database}")));
    }
    let store = Store::connect(database.expose()).await?;
    match migrate::state(&store).await?.pending() {
        0 => Ok(store),
        pending => Err(Failure::new(format!("{pending} migrations are pending: run `pintalk migrate up` first"))),
    }
}

/// Opens the database of a command. One of this machine is brought up to date; another must be already.
async fn open_store(database: &crate::config::DatabaseUrl) -> Result<Store, Failure> {
    let store = Store::connect(database.expose()).await?;
    if database.is_sqlite() {
        migrate::apply(&store, None).await?;
    } else if let pending @ 1.. = migrate::state(&store).await?.pending() {
        return Err(Failure::new(format!("{pending} migrations are pending: run `pintalk migrate up` first")));
    }
    Ok(store)
}
