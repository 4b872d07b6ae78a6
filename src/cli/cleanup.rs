//! `pintalk cleanup`: runs the leader's jobs once, or only counts the rows that they would change.

use clap::Args;

use super::{FAILED, Failure, block_on, init_command_logging, open_existing_store, open_store, print_line};
use crate::domain::Rng;
use crate::node::Cleaner;
use crate::node::config::{self, DutyArgs, RedisArgs, StoreArgs};
use crate::node::jobs::{JobEntry, JobError, TABLE};
use crate::node::telemetry;

/// Help text about running the command while nodes are running.
pub(super) const AFTER_HELP: &str = "You can run this command while nodes are running; their leader runs the same jobs. Rooms are \
    closed in SQL, and nodes notify the clients in them within 10 s. A cluster requires its Redis.";

#[derive(Args)]
pub(super) struct CleanupArgs {
    /// Only count what would be closed or deleted; change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    duties: DutyArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    redis: RedisArgs,
}

pub(super) fn run(args: &CleanupArgs) -> Result<u8, Failure> {
    init_command_logging();
    let stores = config::stores(&args.store, &args.redis)?;
    block_on(async {
        let database = stores.database();
        let store = if args.dry_run { open_existing_store(database).await? } else { open_store(database).await? };
        let redis = stores.redis();
        let cleaner = Cleaner::connect(store.clone(), redis, args.duties.into(), &Rng::from_entropy()).await?;
        let skew = cleaner.measure_skew().await?;
        if let Some(skew) = skew.filter(|_| !args.dry_run) {
            return Err(Failure::new(format!("{skew}: cleanup requires clocks that agree within 30 s")));
        }
        let outcomes = if args.dry_run { count(&cleaner).await } else { cleaner.jobs().run_once().await };
        cleaner.close().await;
        store.close().await;
        let mut failed = false;
        for (entry, outcome) in outcomes {
            match outcome {
                Ok(rows) => print_line(&format!("{:20}  {rows:>9}  {}", entry.name, entry.upon))?,
                Err(error) => {
                    failed = true;
                    telemetry::print(std::io::stderr(), format!("{}: {error}", entry.name));
                }
            }
        }
        Ok(if failed { FAILED } else { 0 })
    })
}

async fn count(cleaner: &Cleaner) -> Vec<(&'static JobEntry, Result<u64, JobError>)> {
    let mut outcomes = Vec::with_capacity(TABLE.len());
    for entry in &TABLE {
        outcomes.push((entry, cleaner.jobs().count(entry.job).await));
    }
    outcomes
}
