//! Command line arguments.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::node::Node;
use crate::process::Group;

const EXAMPLE: &str = "Example, with the processes of two nodes and a Redis on this machine:

  pintalk-load chat --nodes http://127.0.0.1:8081,http://127.0.0.1:8082 \\
      --email me@shop.example --password 'a good one' --rooms 200 --window 8 \\
      --process nodes=4711,4712 --process redis=4700 --svg chat.svg

The nodes must be served with `--limits off`. Exit code 1 means that a message was lost, duplicated, reordered or misrouted, or a
socket was closed; 64 means an invalid flag.";

/// Load generator for PinTalk: many guests and hosts that verify that every message arrives in its room, once and in
/// order.
#[derive(Parser)]
#[command(name = "pintalk-load", version, after_help = EXAMPLE, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) task: Task,
}

#[derive(Subcommand)]
pub(crate) enum Task {
    /// Many rooms with a guest and a host each, on different nodes: throughput and latency of messages.
    Chat(ChatArgs),
    /// One writer and many receivers in one room: cost per delivery.
    Fanout(FanoutArgs),
    /// Open sockets without messages: memory per socket.
    Idle(IdleArgs),
    /// Guests that join, read the history and leave: cost per join.
    Join(JoinArgs),
    /// Print a table of several runs' JSON files: the median of each figure beside the project's goals.
    Table(TableArgs),
}

/// Nodes under load, and the account of the host.
#[derive(Args)]
pub(crate) struct TargetArgs {
    /// URLs of the nodes, separated by commas; guest and host of a room use different ones.
    #[arg(long, value_name = "URL", required = true, value_delimiter = ',')]
    pub(crate) nodes: Vec<Node>,
    /// E-mail address of the host.
    #[arg(long)]
    pub(crate) email: String,
    /// Password of the host.
    #[arg(long, env = "PINTALK_LOAD_PASSWORD", hide_env_values = true, allow_hyphen_values = true)]
    pub(crate) password: String,
    /// Origin of the guests' page [default: https:// and the account's first service domain].
    #[arg(long)]
    pub(crate) origin: Option<String>,
}

/// What to measure, and where to write the results.
#[derive(Args)]
#[command(next_help_heading = "Measurement")]
pub(crate) struct MeasureArgs {
    /// Local processes whose CPU and memory are reported as one group; may be repeated.
    #[arg(long, value_name = "NAME=PID,PID…")]
    pub(crate) process: Vec<Group>,
    /// Redis whose archive queues must be empty before CPU is read, so that the cost of a message includes its
    /// archiving.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) await_archive: Option<String>,
    /// Write all figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a plot of the latency distribution to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

/// Sides of a room that send messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Writers {
    Guests,
    Hosts,
    Both,
}

#[derive(Args)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Number of rooms, each with a guest and a host.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rooms: u32,
    /// Closed loop, the default: maximum number of unacknowledged messages per writer, which sends the next after each
    /// acknowledgement.
    #[arg(long, value_name = "N", default_value_t = 8, conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) window: u32,
    /// Open loop: messages per second of all writers together, sent on a fixed schedule; latency is measured from the
    /// scheduled time.
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Who sends messages.
    #[arg(long, value_enum, default_value_t = Writers::Both)]
    pub(crate) writers: Writers,
    #[command(flatten)]
    pub(crate) span: SpanArgs,
    #[command(flatten)]
    pub(crate) measure: MeasureArgs,
}

#[derive(Args)]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Number of guests in the room, spread over the nodes; the host sends, and receives its own messages.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) listeners: u32,
    /// Messages per second.
    #[arg(long, value_name = "N", default_value = "20", value_parser = rate)]
    pub(crate) rate: f64,
    #[command(flatten)]
    pub(crate) span: SpanArgs,
    #[command(flatten)]
    pub(crate) measure: MeasureArgs,
}

/// Duration and message size.
#[derive(Args)]
pub(crate) struct SpanArgs {
    /// Bytes of text per message.
    #[arg(long, value_name = "BYTES", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub(crate) size: u32,
    /// Seconds of warm-up before the measurement.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub(crate) warm_up: Duration,
    /// Seconds of measurement.
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = span)]
    pub(crate) span: Duration,
}

#[derive(Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Number of guest sockets, spread over the nodes.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) sockets: u32,
    /// Number of rooms that the sockets are spread over.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rooms: u32,
    /// Seconds that the sockets stay open before memory is read.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) hold: Duration,
    #[command(flatten)]
    pub(crate) measure: MeasureArgs,
}

#[derive(Args)]
pub(crate) struct JoinArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Number of measured joins.
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) joins: u32,
    /// Number of guests that join concurrently.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) concurrency: u32,
    /// Number of rooms that guests join.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rooms: u32,
    /// Messages per room.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) history: u32,
    /// Bytes of text per message.
    #[arg(long, value_name = "BYTES", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub(crate) size: u32,
    #[command(flatten)]
    pub(crate) measure: MeasureArgs,
}

#[derive(Args)]
pub(crate) struct TableArgs {
    /// Files written by `--json`.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

fn rate(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|rate| (0.1..=1e6).contains(rate)).ok_or("expected 0.1 to 1000000")
}

fn span(text: &str) -> Result<Duration, &'static str> {
    seconds(text).ok().filter(|span| *span >= Duration::from_millis(100)).ok_or("expected 0.1 to 86400 seconds")
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or("expected 0 to 86400 seconds")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn rate_and_window_exclude_each_other() {
        let parse = |more: &[&str]| {
            let chat = ["pintalk-load", "chat", "--nodes", "http://127.0.0.1:1", "--email", "a", "--password", "b"];
            Cli::try_parse_from(chat.iter().chain(more)).is_ok()
        };
        assert!(parse(&[]) && parse(&["--rate", "1000"]) && parse(&["--window", "1"]));
        assert!(!parse(&["--rate", "1000", "--window", "1"]));
        assert!(
            !parse(&["--rate", "0"])
                && !parse(&["--span", "-1"])
                && !parse(&["--span", "0"])
                && !parse(&["--process", "x"])
        );
    }
}
