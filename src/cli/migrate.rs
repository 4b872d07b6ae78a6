//! `pintalk migrate`: applies and reverts schema migrations, and sets the mode in which the database is served.

use clap::{Args, ValueEnum};
use migration::SchemaState;

use super::installation::{self, ServedBy};
use super::{Failure, block_on, init_command_logging, open_existing_store, print_line};
use crate::node::config::{self, RedisArgs, StoreArgs};
use crate::store::Store;

/// Help text about the options of Redis.
pub(super) const AFTER_HELP: &str =
    "Only `mode single` uses Redis: it requires the Redis of the cluster that served the database, or --redis-lost.";

/// Arguments of `pintalk migrate`.
#[derive(Args)]
pub(super) struct MigrateArgs {
    /// Apply pending migrations (up), revert the newest (down), list all (status), or set whether a single node or a
    /// cluster serves the database (mode).
    #[arg(value_enum)]
    to: Direction,
    /// With `mode`: mode in which the database is served from now on; rejected while nodes are running.
    #[arg(value_enum, required_if_eq("to", "mode"))]
    served_by: Option<ServedBy>,
    /// Number of migrations [default: all pending ones for up, 1 for down].
    #[arg(short = 'n', long = "steps", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    redis: RedisArgs,
    /// With `mode single`: the cluster's Redis no longer exists; messages that are not in SQL are lost.
    #[arg(long, conflicts_with = "redis")]
    redis_lost: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Direction {
    Up,
    Down,
    Status,
    Mode,
}

pub(super) fn run(args: &MigrateArgs) -> Result<u8, Failure> {
    init_command_logging();
    let database = config::database(&args.store)?;
    block_on(async {
        if let (Direction::Mode, Some(served_by)) = (args.to, args.served_by) {
            let stores = config::stores(&args.store, &args.redis)?;
            let store = open_existing_store(stores.database()).await?;
            let result = installation::set_mode(&store, &stores, served_by, args.redis_lost).await;
            store.close().await;
            return result.map(|()| 0);
        }
        let store = Store::connect(database.expose()).await?;
        match args.to {
            Direction::Up => apply(&store, args.steps).await?,
            Direction::Down => {
                SchemaState::down(store.connection(), args.steps.unwrap_or(1)).await.map_err(schema_error)?;
            }
            Direction::Status | Direction::Mode => {}
        }
        let state = SchemaState::read(store.connection()).await.map_err(schema_error)?;
        for (name, is_applied) in &state.changes {
            print_line(&format!("{:8} {name}", if *is_applied { "applied" } else { "pending" }))?;
        }
        for name in &state.foreign {
            print_line(&format!("applied  {name} (by another release)"))?;
        }
        store.close().await;
        Ok(0)
    })
}

/// Applies the next `steps` migrations, or all pending migrations if `steps` is `None`.
pub(super) async fn apply(store: &Store, steps: Option<u32>) -> Result<(), Failure> {
    SchemaState::up(store.connection(), steps).await.map_err(schema_error)
}

/// Returns the applied and the pending migrations. Does not change the database.
pub(super) async fn state(store: &Store) -> Result<SchemaState, Failure> {
    SchemaState::read(store.connection()).await.map_err(schema_error)
}

fn schema_error(error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("failed to read or change the schema: {error}"))
}
