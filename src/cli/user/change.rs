//! `pintalk user disable`, `enable`, `reset-password` and `rotate-keys`: change an account while nodes are running.

use clap::Args;

use super::{Failure, USAGE, Who, accounts, block_on, in_silence, open_store, password, plain, print, print_line};
use crate::accounts::{Accounts, SetPasswordError, readable_password};
use crate::domain::clock::Chance;
use crate::domain::{Host, HostId};
use crate::node::Announcer;
use crate::node::config::{self, Hidden, KeyGrace, StoreArgs};

/// Help text: when running nodes apply a change.
pub(super) const WHEN: &str = "With --redis-url every node of the cluster is told and acts at once. Without it, as beside a single \
    node, a node finds out by itself: it refuses keys and tokens within 5 s, and closes open sockets within a minute.";

#[derive(Args)]
struct ClusterArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// URL of the cluster's Redis, through which its nodes are notified.
    #[arg(long, env = "PINTALK_REDIS_URL", value_name = "URL", hide_env_values = true)]
    redis_url: Option<Hidden>,
}

#[derive(Args)]
pub(in crate::cli) struct StandingArgs {
    /// E-mail address or id of the host.
    #[arg(value_name = "HOST")]
    who: Who,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Args)]
pub(in crate::cli) struct PasswordArgs {
    /// E-mail address or id of the host.
    #[arg(value_name = "HOST")]
    who: Who,
    /// New password, at least 8 characters; `-` reads a line from standard input.
    #[arg(long, env = "PINTALK_USER_PASSWORD", hide_env_values = true, allow_hyphen_values = true)]
    password: Option<Hidden>,
    /// Generate a password and print only that, on one line.
    #[arg(long, conflicts_with = "password")]
    generate: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Args)]
pub(in crate::cli) struct KeysArgs {
    /// E-mail address or id of the host.
    #[arg(value_name = "HOST")]
    who: Who,
    /// End all old keys at once, including the current ones.
    #[arg(long)]
    revoke_old: bool,
    /// Time for which the current keys stay valid.
    #[arg(long, env = "PINTALK_KEY_GRACE", value_name = "SPAN", default_value = "1d")]
    key_grace: KeyGrace,
    /// Print JSON in the format of the API.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) fn disable(args: &StandingArgs) -> Result<u8, Failure> {
    change(
        &args.cluster,
        &args.who,
        async |accounts, id| accounts.disable_host(id).await.map_err(Failure::new),
        |host| print_line(&format!("{} is disabled", plain(&host.email))),
    )
}

pub(super) fn enable(args: &StandingArgs) -> Result<u8, Failure> {
    change(
        &args.cluster,
        &args.who,
        async |accounts, id| accounts.enable_host(id).await.map_err(Failure::new),
        |host| print_line(&format!("{} is enabled", plain(&host.email))),
    )
}

pub(super) fn reset_password(args: &PasswordArgs) -> Result<u8, Failure> {
    let password = if args.generate {
        let chance = Chance::from_entropy();
        readable_password(|| chance.bytes())
    } else {
        password(args.password.as_ref())?
    };
    change(
        &args.cluster,
        &args.who,
        async |accounts, id| {
            accounts.set_password(id, &password).await.map_err(|error| match error {
                SetPasswordError::Invalid(why) => Failure { code: USAGE, sentence: format!("--password: {why}") },
                SetPasswordError::Fault(fault) => Failure::new(fault),
            })
        },
        |host| {
            if args.generate {
                print_line(&password)
            } else {
                print_line(&format!("{} has a new password", plain(&host.email)))
            }
        },
    )
}

pub(super) fn rotate_keys(args: &KeysArgs) -> Result<u8, Failure> {
    change(
        &args.cluster,
        &args.who,
        async |accounts, id| {
            let accounts = accounts.with_key_grace(args.key_grace.0);
            accounts.rotate_keys(id, args.revoke_old).await.map_err(Failure::new)
        },
        |host| print(host, args.json),
    )
}

/// Changes an account in SQL and notifies the nodes. The result is printed even if they could not be notified.
fn change(
    cluster: &ClusterArgs,
    who: &Who,
    work: impl AsyncFnOnce(Accounts, HostId) -> Result<Option<Host>, Failure>,
    show: impl FnOnce(&Host) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let stores = config::stores(&cluster.store, cluster.redis_url.as_ref())?;
    block_on(async {
        let store = open_store(stores.database()).await?;
        let announcer = match stores.redis() {
            Some(url) => Some(Announcer::connect(url, &store, &Chance::from_entropy()).await?),
            None => None,
        };
        let changed = async {
            let accounts = accounts(&store, announcer.as_ref().map_or_else(in_silence, Announcer::announce)).await?;
            let host = who.find(&store).await?;
            work(accounts, host.id).await?.ok_or_else(Who::unknown)
        };
        let changed = changed.await;
        let told = match announcer {
            Some(announcer) => announcer.close().await,
            None => Ok(()),
        };
        store.close().await;
        show(&changed?)?;
        told.map_err(|error| {
            Failure::new(format!(
                "it is done, but --redis-url: the nodes may not have been told: {error}; they find out within 5 s, and close \
                 open sockets within a minute"
            ))
        })?;
        Ok(0)
    })
}
