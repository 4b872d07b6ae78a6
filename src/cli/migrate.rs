//! `pintalk migrate`: the schema, one dated file per change, up and down; and how the database is served.

use clap::{Args, ValueEnum};
use migration::SchemaState;
use sea_orm::DbErr;

use super::installation::{self, ServedBy};
use super::{Failure, block_on, log_for_a_command, open_store_to_look, print_line};
use crate::config::{self, Hidden, StoreArgs};
use crate::store::Store;

/// Where the schema should go.
#[derive(Args)]
pub(super) struct MigrateArgs {
    /// Apply what is pending, take back the newest, list which are applied, or change how the database is served.
    #[arg(value_enum)]
    to: Direction,
    /// With `mode`: how the database is served from now on. Refused while nodes are running.
    #[arg(value_enum, required_if_eq("to", "mode"))]
    served_by: Option<ServedBy>,
    /// How many: all that are pending when up, one when down.
    #[arg(short = 'n', long = "steps", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    #[command(flatten)]
    store: StoreArgs,
    /// With `mode single`: Redis of the cluster that served the database.
    #[arg(long, env = "PINTALK_REDIS_URL", value_name = "URL", hide_env_values = true)]
    redis_url: Option<Hidden>,
    /// With `mode single`: that Redis no longer exists, and neither do the messages that only it had.
    #[arg(long, conflicts_with = "redis_url")]
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
    log_for_a_command();
    let database = config::database(&args.store)?;
    block_on(async {
        if let (Direction::Mode, Some(served_by)) = (args.to, args.served_by) {
            let stores = config::stores(&args.store, args.redis_url.as_ref())?;
            let store = open_store_to_look(stores.database()).await?;
            let done = installation::set_mode(&store, &stores, served_by, args.redis_lost).await;
            store.close().await;
            return done.map(|()| 0);
        }
        let store = Store::connect(database.expose()).await?;
        match args.to {
            Direction::Up => apply(&store, args.steps).await?,
            Direction::Down => {
                SchemaState::down(store.connection(), args.steps.unwrap_or(1)).await.map_err(failed)?;
            }
            Direction::Status | Direction::Mode => {}
        }
        let state = SchemaState::read(store.connection()).await.map_err(failed)?;
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

/// Applies migrations, all or so many.
pub(super) async fn apply(store: &Store, steps: Option<u32>) -> Result<(), Failure> {
    SchemaState::up(store.connection(), steps).await.map_err(failed)
}

/// How the schema stands to this release; changes nothing.
pub(super) async fn state(store: &Store) -> Result<SchemaState, Failure> {
    SchemaState::read(store.connection()).await.map_err(failed)
}

fn failed(error: DbErr) -> Failure {
    Failure::new(format!("the schema could not be read or changed: {error}"))
}
