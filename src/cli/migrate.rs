//! `pintalk migrate`: the schema, one dated file a change, up and down.

use clap::{Args, ValueEnum};
use migration::{Migrator, MigratorTrait as _};
use sea_orm::DbErr;

use super::{Failure, block_on, log_for_a_command};
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
                Migrator::down(store.connection(), Some(args.steps.unwrap_or(1))).await.map_err(failed)?;
            }
            Direction::Status => {}
        }
        for migration in Migrator::get_migration_with_status_read_only(store.connection()).await.map_err(failed)? {
            println!("{:8} {}", migration.status().to_string().to_lowercase(), migration.name());
        }
        store.close().await;
        Ok(0)
    })
}

/// Applies migrations, all or so many.
pub(super) async fn apply(store: &Store, steps: Option<u32>) -> Result<(), Failure> {
    Migrator::up(store.connection(), steps).await.map_err(failed)
}

/// How many migrations are pending; changes nothing.
pub(super) async fn pending(store: &Store) -> Result<usize, Failure> {
    let pending = Migrator::get_pending_migrations_read_only(store.connection()).await.map_err(failed)?;
    Ok(pending.len())
}

fn failed(error: DbErr) -> Failure {
    Failure::new(format!("the schema could not be read or changed: {error}"))
}
