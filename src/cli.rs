//! Command line: subcommands and exit codes.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | success; for a node: orderly shutdown |
//! | 1 | failure, or the shutdown was forced while work was in flight |
//! | 64 | invalid configuration; the error names the flag |
//! | 70 | a critical task of the node ended unexpectedly |

mod check;
mod cleanup;
mod demo;
mod installation;
mod migrate;
mod serve;
mod user;
mod variables;

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::io::Write as _;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::node::AppError;
use crate::node::config::{ConfigError, LogFormat};
use crate::node::telemetry;
use crate::store::{Store, StoreError, is_made};

/// Exit code for an invalid configuration (EX_USAGE). A restart cannot resolve this error.
const USAGE: u8 = 64;
/// Exit code for a command that failed.
const FAILED: u8 = 1;

/// Self-hosted live chat over plain WebSockets, on one node or a cluster.
#[derive(Parser)]
#[command(name = "pintalk", version)]
struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Subcommand)]
enum CliCommand {
    /// Run a node: with Redis a node of a cluster, otherwise a single node.
    Serve(Box<crate::node::config::ServeArgs>),
    /// Run a complete node with a demo host and a page that shows the guest's and the host's view side by side.
    Demo(Box<demo::DemoArgs>),
    /// Migrate the database schema, show its migrations, or switch between single node and cluster.
    #[command(after_help = migrate::AFTER_HELP)]
    Migrate(migrate::MigrateArgs),
    /// Show which installation owns the database and Redis, or make it the owner of a Redis.
    #[command(subcommand)]
    Installation(installation::InstallationCommand),
    /// Manage host accounts.
    #[command(subcommand)]
    User(user::UserCommand),
    /// Run the leader's cleanup jobs once: close idle rooms and delete expired data, or only count both.
    #[command(after_help = cleanup::AFTER_HELP)]
    Cleanup(cleanup::CleanupArgs),
    /// Read the configuration, connect to every store, and report errors and risks.
    Check(Box<check::CheckArgs>),
}

/// Error of a command: exit code and message.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn new(message: impl fmt::Display) -> Self {
        Self { code: FAILED, message: message.to_string() }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { code: USAGE, message: error.to_string() }
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        let code = if matches!(error, AppError::Mode(_)) { USAGE } else { FAILED };
        Self { code, message: error.to_string() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(error)
    }
}

/// Runs the program with the arguments `args`, which start with the program name. Returns the exit code.
pub fn run<I, T>(args: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    // Files that the program creates are accessible only to the user who runs it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let command = variables::without_unset(Cli::command());
    let parsed = command.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    let mut is_json = false;
    let outcome = match parsed {
        Ok(cli) => {
            is_json = matches!(&cli.command, CliCommand::Serve(args) if args.log.log_format == LogFormat::Json);
            cli.command.run()
        }
        Err(error) if !error.use_stderr() => {
            // Clap returns the output of `--help` and `--version` as an error. A failure to print it, for example to a
            // closed pipe, is ignored.
            let _ = error.print();
            Ok(0)
        }
        Err(error) => Err(Failure { code: USAGE, message: message_of(&error) }),
    };
    let code = outcome.unwrap_or_else(|failure| {
        if is_json {
            tracing::error!(error = failure.message, code = failure.code, "node failed");
        } else {
            telemetry::print(std::io::stderr(), format!("error: {}", failure.message));
        }
        failure.code
    });
    telemetry::flush();
    ExitCode::from(code)
}

impl CliCommand {
    fn run(self) -> Result<u8, Failure> {
        match self {
            CliCommand::Serve(args) => serve::run(*args),
            CliCommand::Demo(args) => demo::run(*args),
            CliCommand::Migrate(args) => migrate::run(&args),
            CliCommand::Installation(command) => installation::run(&command),
            CliCommand::User(command) => user::run(command),
            CliCommand::Cleanup(args) => cleanup::run(&args),
            CliCommand::Check(args) => check::run(*args),
        }
    }
}

/// Returns the first paragraph of a clap error, which names the invalid flag, and the tips, which contain similar names.
/// The remaining paragraphs are usage hints.
fn message_of(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a command is missing, see --help".to_owned();
    }
    let text = error.to_string();
    let paragraph = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect::<Vec<_>>().join(" ");
    let tips = text.lines().map(str::trim).filter(|line| line.starts_with("tip: "));
    let parts: Vec<&str> = std::iter::once(paragraph.as_str()).chain(tips).collect();
    parts.join("; ").trim_start_matches("error: ").to_owned()
}

/// Runs the async part of a command on a new runtime. Does not wait for tasks that are still running when `work`
/// completes.
fn block_on<F>(work: F) -> Result<u8, Failure>
where
    F: Future<Output = Result<u8, Failure>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("failed to start the async runtime: {error}")))?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

/// Writes a line to standard output. A closed pipe is not an error.
fn print_line(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Starts logging for a command that prints its result to standard output.
fn init_command_logging() {
    init_logging(LogFormat::Text, "warn");
}

/// Starts logging, and logs a warning for each environment variable that is probably a misspelt option.
fn init_logging(format: LogFormat, filter: &str) {
    telemetry::log(format, filter);
    variables::warn_of_unknown(&Cli::command());
}

/// Opens an existing database without changing its schema. Returns an error if the database does not exist or
/// migrations are pending.
async fn open_existing_store(database: &crate::node::config::DatabaseUrl) -> Result<Store, Failure> {
    if !is_made(database.expose()).map_err(Failure::new)? {
        return Err(Failure::new(format!("there is no database at {database}")));
    }
    let store = Store::connect(database.expose()).await?;
    match migrate::state(&store).await?.pending() {
        0 => Ok(store),
        pending => Err(Failure::new(format!("{pending} migrations are pending: run `pintalk migrate up` first"))),
    }
}

/// Opens the database for a command. Migrates the schema if the database is SQLite. Returns an error if the schema of a
/// MySQL database is not current.
async fn open_store(database: &crate::node::config::DatabaseUrl) -> Result<Store, Failure> {
    let store = Store::connect(database.expose()).await?;
    if database.is_sqlite() {
        migrate::apply(&store, None).await?;
    } else if let pending @ 1.. = migrate::state(&store).await?.pending() {
        return Err(Failure::new(format!("{pending} migrations are pending: run `pintalk migrate up` first")));
    }
    Ok(store)
}
