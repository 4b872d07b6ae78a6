//! `pintalk cleanup`: runs the leader's jobs once, or only counts what they would change.

use clap::Args;

use super::{FAILED, Failure, block_on, log_for_a_command, open_store, open_store_to_look, print_line};
use crate::domain::clock::Chance;
use crate::node::Cleaner;
use crate::node::config::{self, DutyArgs, Hidden, StoreArgs};
use crate::node::jobs::{Entry, JobError, TABLE};
use crate::node::telemetry;

/// Help text about use beside running nodes.
pub(super) const WHEN: &str = "Nodes may be running: they do the same by themselves, and neither is in the other's way. Rooms that \
    this closes are closed in SQL; the nodes tell whoever is in them within 10 s. In a cluster, --redis-url has to be given.";

#[derive(Args)]
pub(super) struct CleanupArgs {
    /// Only count what would be closed or deleted; change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    duties: DutyArgs,
    #[command(flatten)]
    store: StoreArgs,
    /// URL of the cluster's Redis.
    #[arg(long, env = "PINTALK_REDIS_URL", value_name = "URL", hide_env_values = true)]
    redis_url: Option<Hidden>,
}

pub(super) fn run(args: &CleanupArgs) -> Result<u8, Failure> {
    log_for_a_command();
    let stores = config::stores(&args.store, args.redis_url.as_ref())?;
    block_on(async {
        let database = stores.database();
        let store = if args.dry_run { open_store_to_look(database).await? } else { open_store(database).await? };
        let redis = stores.redis();
        let cleaner = Cleaner::connect(store.clone(), redis, args.duties.into(), &Chance::from_entropy()).await?;
        let skew = cleaner.measure_skew().await?;
        if let Some(skew) = skew.filter(|_| !args.dry_run) {
            return Err(Failure::new(format!("{skew}: nothing is cleaned up until the clocks agree to 30 s")));
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

async fn count(cleaner: &Cleaner) -> Vec<(&'static Entry, Result<u64, JobError>)> {
    let mut outcomes = Vec::with_capacity(TABLE.len());
    for entry in &TABLE {
        outcomes.push((entry, cleaner.jobs().count(entry.job).await));
    }
    outcomes
}
