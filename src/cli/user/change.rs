//! `pintalk user disable`, `enable`, `reset-password` and `rotate-keys`: change an account while nodes are running.

use clap::Args;

use super::{
    Failure, HostRef, PasswordOption, USAGE, accounts, block_on, open_store, password, print, print_line, printable,
    publish_nothing,
};
use crate::accounts::{Accounts, SetPasswordError, readable_password};
use crate::domain::Rng;
use crate::domain::{Host, HostId};
use crate::node::ControlPublisher;
use crate::node::config::{self, KeyGrace, RedisArgs, StoreArgs};

/// Help text about the delay until running nodes apply a change.
pub(super) const AFTER_HELP: &str = "With Redis, all nodes of the cluster are notified and apply the change at once. Without it, \
    for example with a single node, nodes reject keys and tokens within 5 s and close open sockets within a minute.";

#[derive(Args)]
struct ClusterArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    redis: RedisArgs,
}

#[derive(Args)]
pub(in crate::cli) struct AccountArgs {
    /// E-mail address or id of the host.
    #[arg(value_name = "HOST")]
    host: HostRef,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Args)]
pub(in crate::cli) struct PasswordArgs {
    /// E-mail address or id of the host.
    #[arg(value_name = "HOST")]
    host: HostRef,
    #[command(flatten)]
    password: PasswordOption,
    /// Generate a password and print only that, on one line.
    #[arg(long, conflicts_with = "new_password")]
    generate: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Args)]
pub(in crate::cli) struct KeysArgs {
    /// E-mail address or id of the host.
    #[arg(value_name = "HOST")]
    host: HostRef,
    /// Revoke all previous keys at once, including the current ones.
    #[arg(long)]
    revoke_old: bool,
    /// Time for which the current keys remain valid.
    #[arg(long, env = "PINTALK_KEY_GRACE", value_name = "SPAN", default_value = "1d")]
    key_grace: KeyGrace,
    /// Print JSON in the format of the API.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) fn disable(args: &AccountArgs) -> Result<u8, Failure> {
    change(
        &args.cluster,
        &args.host,
        async |accounts, id| accounts.disable_host(id).await.map_err(Failure::new),
        |host| print_line(&format!("{} is disabled", printable(&host.email))),
    )
}

pub(super) fn enable(args: &AccountArgs) -> Result<u8, Failure> {
    change(
        &args.cluster,
        &args.host,
        async |accounts, id| accounts.enable_host(id).await.map_err(Failure::new),
        |host| print_line(&format!("{} is enabled", printable(&host.email))),
    )
}

pub(super) fn reset_password(args: &PasswordArgs) -> Result<u8, Failure> {
    let password = if args.generate {
        let rng = Rng::from_entropy();
        readable_password(|| rng.bytes())
    } else {
        password(&args.password)?
    };
    change(
        &args.cluster,
        &args.host,
        async |accounts, id| {
            accounts.set_password(id, &password).await.map_err(|error| match error {
                SetPasswordError::Invalid(reason) => Failure { code: USAGE, message: format!("--password: {reason}") },
                SetPasswordError::Fault(fault) => Failure::new(fault),
            })
        },
        |host| {
            if args.generate {
                print_line(&password)
            } else {
                print_line(&format!("{} has a new password", printable(&host.email)))
            }
        },
    )
}

pub(super) fn rotate_keys(args: &KeysArgs) -> Result<u8, Failure> {
    change(
        &args.cluster,
        &args.host,
        async |accounts, id| {
            let accounts = accounts.with_key_grace(args.key_grace.0);
            accounts.rotate_keys(id, args.revoke_old).await.map_err(Failure::new)
        },
        |host| print(host, args.json),
    )
}

/// Changes an account in the database and notifies the nodes. Prints the new state of the account even if the nodes
/// could not be notified.
fn change(
    cluster: &ClusterArgs,
    host: &HostRef,
    work: impl AsyncFnOnce(Accounts, HostId) -> Result<Option<Host>, Failure>,
    show: impl FnOnce(&Host) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let stores = config::stores(&cluster.store, &cluster.redis)?;
    block_on(async {
        let store = open_store(stores.database()).await?;
        let publisher = match stores.redis() {
            Some(url) => Some(ControlPublisher::connect(url, &store, &Rng::from_entropy()).await?),
            None => None,
        };
        let changed = async {
            let accounts =
                accounts(&store, publisher.as_ref().map_or_else(publish_nothing, ControlPublisher::publish)).await?;
            let host = host.find(&store).await?;
            work(accounts, host.id).await?.ok_or_else(HostRef::unknown)
        };
        let changed = changed.await;
        let notified = match publisher {
            Some(publisher) => publisher.close().await,
            None => Ok(()),
        };
        store.close().await;
        show(&changed?)?;
        notified.map_err(|error| {
            Failure::new(format!(
                "the change is stored, but --redis-url: nodes may not have been notified: {error}; they apply it within 5 s and close \
                 open sockets within a minute"
            ))
        })?;
        Ok(0)
    })
}
