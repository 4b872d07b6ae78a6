//! `pintalk migrate`: the schema, one dated file a change, up and down.

use clap::{Args, ValueEnum};
use migration::SchemaState;
use sea_orm::DbErr;

use super::{Failure, block_on, log_for_a_command, print_line};
use crate::config::{self, StoreArgs};
use crate::store::Store;

/// Where the schema should go.
#[derive(Args)]
pub(super) struct MigrateArgs {
    /// Apply what is pending, take back the newest, or tell which are applied.
    #[arg(value_enum)]
    to: Direction,
    /// How many: all that are pending when up, one when down.
    #[arg(short = 'n', long = "steps", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Direction {
    Up,
    Down,
    Status,
}

pub(super) fn run(args: &MigrateArgs) -> Result<u8, Failure> {
    log_for_a_command();
    let database = config::database(&args.store)?;
    block_on(async {
        let store = Store::connect(database.expose()).await?;
        match args.to {
            Direction::Up => apply(&store, args.steps).await?,
            Direction::Down => {
                SchemaState::down(store.connection(), args.steps.unwrap_or(1)).await.map_err(failed)?;
            }
            Direction::Status => {}
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
