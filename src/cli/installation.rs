//! `pintalk installation`: shows which installation owns a database and a Redis, or makes the installation of the
//! database the owner of the Redis. This module also implements `pintalk migrate mode`.

use clap::{Args, Subcommand, ValueEnum};

use super::{Failure, block_on, init_command_logging, open_existing_store, print_line};
use crate::backend::broker::Partition;
use crate::backend::redis::Redis;
use crate::backend::{Backend, RedisOptions, Unavailable};
use crate::domain::Rng;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::domain::{InstallationId, NodeId};
use crate::node::config::{self, Mode, RedisArgs, RedisUrl, StoreArgs};
use crate::node::{AppError, SoleNode, no_other_redis};
use crate::store::{Installation, InstallationMode, Store};

/// Database and Redis of an installation.
#[derive(Args)]
pub(super) struct InstallationArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    redis: RedisArgs,
}

#[derive(Subcommand)]
pub(super) enum InstallationCommand {
    /// Print the installation id and mode recorded in the database, and the owner of the Redis.
    Show(InstallationArgs),
    /// Make this database's installation the owner of the Redis; rejected while nodes of the current owner are running.
    Adopt(InstallationArgs),
}

/// Mode in which a database is served.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ServedBy {
    /// Several nodes that share a Redis.
    Cluster,
    /// A single node.
    Single,
}

pub(super) fn run(command: &InstallationCommand) -> Result<u8, Failure> {
    init_command_logging();
    match command {
        InstallationCommand::Show(args) => with_stores(args, recorded_installation, show),
        InstallationCommand::Adopt(args) => with_stores(args, ensured_installation, adopt),
    }
}

fn with_stores(
    args: &InstallationArgs,
    read: impl AsyncFnOnce(&Store) -> Result<Installation, Failure>,
    work: impl AsyncFnOnce(Installation, Option<&Redis>) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let stores = config::stores(&args.store, &args.redis)?;
    block_on(async {
        let store = open_existing_store(stores.database()).await?;
        let installation = read(&store).await?;
        let redis = stores.redis().map(connect).transpose()?;
        if let Some(redis) = &redis {
            redis.install(installation.id);
        }
        let result = work(installation, redis.as_ref()).await;
        if let Some(redis) = redis {
            redis.quit().await;
        }
        store.close().await;
        result.map(|()| 0)
    })
}

async fn show(installation: Installation, redis: Option<&Redis>) -> Result<(), Failure> {
    print_line(&format!("installation {} of a {}", installation.id, name(installation.mode)))?;
    if let Some(redis) = redis {
        match redis.owner().await.map_err(unreachable)? {
            Some(owner) if owner == installation.id.as_str() => print_line("redis belongs to this installation")?,
            Some(_) if redis.is_retired().await.map_err(unreachable)? => {
                print_line("redis belonged to this installation until a single node replaced the cluster")?;
            }
            Some(owner) => print_line(&format!("redis belongs to another installation, {owner}"))?,
            None => print_line("redis belongs to no installation")?,
        }
    }
    Ok(())
}

async fn adopt(installation: Installation, redis: Option<&Redis>) -> Result<(), Failure> {
    let redis = redis.ok_or_else(|| Failure::new("--redis-url is required: URL of the Redis to adopt"))?;
    let owner = redis.owner().await.map_err(unreachable)?;
    if let Some(owner) = owner.as_deref().filter(|owner| *owner != installation.id.as_str()) {
        // Nodes use only installation ids as owners. If the owner is not an installation id, no node can hold a lease
        // for it.
        if let Ok(owner) = owner.parse::<InstallationId>() {
            reject_live_leases(redis, owner).await?;
        }
    }
    redis.adopt().await.map_err(unreachable)?;
    print_line(&format!("redis belongs to installation {}", installation.id))?;
    if let Some(owner) = owner.filter(|owner| owner != installation.id.as_str()) {
        print_line(&format!("keys of its previous owner remain under pt:{owner}:"))?;
    }
    Ok(())
}

/// Implements `pintalk migrate mode`: stores the mode in which the database will be used.
pub(super) async fn set_mode(store: &Store, stores: &Mode, to: ServedBy, redis_is_lost: bool) -> Result<(), Failure> {
    let to = match to {
        ServedBy::Cluster => InstallationMode::Cluster,
        ServedBy::Single => InstallationMode::Single,
    };
    if to == InstallationMode::Cluster && stores.database().is_sqlite() {
        return Err(Failure::new("--database-url: a cluster requires MySQL, and this database is SQLite"));
    }
    let candidate = InstallationId::from_random(Rng::from_entropy().bytes());
    let installation = store.installation().ensure(candidate, to, SystemClock.now()).await?;
    if installation.mode != to {
        match (installation.mode, stores.redis()) {
            (InstallationMode::Single, _) => drop(SoleNode::acquire(store).await?),
            (InstallationMode::Cluster, Some(url)) => retire(url, installation.id).await?,
            // Without Redis, the leases of running nodes cannot be read. A running cluster is detected by the writes of
            // its leader to the database.
            (InstallationMode::Cluster, None) if redis_is_lost => {
                let running = |_| Failure::new("nodes of this cluster are running: stop them first");
                no_other_redis(store).await.map_err(running)?;
            }
            (InstallationMode::Cluster, None) => {
                return Err(Failure::new(
                    "--redis-url is required: messages that are not in SQL yet are in the cluster's Redis; if that Redis no \
                     longer exists, pass --redis-lost",
                ));
            }
        }
        store.installation().set_mode(to).await?;
    }
    print_line(&format!("this database is used by a {}", name(to)))?;
    Ok(())
}

/// Retires the Redis of a cluster, so that nodes no longer use it. Returns an error if nodes of the cluster are
/// running, or if Redis contains messages that are not in the database.
async fn retire(url: &RedisUrl, id: InstallationId) -> Result<(), Failure> {
    let redis = connect(url)?;
    redis.install(id);
    let retired = async {
        redis.attach().await.map_err(unreachable)?;
        reject_live_leases(&redis, id).await?;
        match unarchived(&redis).await.map_err(unreachable)? {
            0 => redis.retire().await.map_err(unreachable),
            waiting => Err(Failure::new(format!(
                "{waiting} messages are not in SQL yet: start a node of the cluster and wait until \
                 pintalk_archive_lag_messages is 0"
            ))),
        }
    };
    let retired = retired.await;
    redis.quit().await;
    retired
}

/// Returns the number of messages in Redis that are not in the database yet.
async fn unarchived(redis: &Redis) -> Result<u64, Unavailable> {
    let backend = Backend::redis(redis.clone(), Rng::from_entropy(), RedisOptions::default());
    let Some(cluster) = &backend.cluster else { return Ok(0) };
    let mut messages = 0;
    for partition in (0..redis.partitions()).map(Partition) {
        messages += cluster.archive.backlog(partition).await?.messages;
    }
    Ok(messages)
}

async fn reject_live_leases(redis: &Redis, id: InstallationId) -> Result<(), Failure> {
    match redis.live_leases_of(id).await.map_err(unreachable)? {
        0 => Ok(()),
        live => Err(Failure::new(format!(
            "{live} nodes of installation {id} are running on this Redis, or stopped within the last 15 s: stop them and \
             wait until their leases have expired"
        ))),
    }
}

async fn recorded_installation(store: &Store) -> Result<Installation, Failure> {
    let installation = store.installation().get().await?;
    installation.ok_or_else(|| Failure::new("this database has no installation yet: no node has started on it"))
}

/// Reads the installation record from the database. If no node has been started on the database yet, creates a record
/// with cluster mode.
async fn ensured_installation(store: &Store) -> Result<Installation, Failure> {
    let candidate = InstallationId::from_random(Rng::from_entropy().bytes());
    Ok(store.installation().ensure(candidate, InstallationMode::Cluster, SystemClock.now()).await?)
}

fn connect(url: &RedisUrl) -> Result<Redis, Failure> {
    let node = NodeId::from_random(Rng::from_entropy().bytes());
    Redis::new(url.expose(), node)
        .map_err(|error| AppError::Url { flag: "redis-url", problem: error.details().to_owned() }.into())
}

fn unreachable(error: Unavailable) -> Failure {
    Failure::new(format!("--redis-url: {error}"))
}

fn name(mode: InstallationMode) -> &'static str {
    match mode {
        InstallationMode::Cluster => "cluster",
        InstallationMode::Single => "single node",
    }
}
