//! Checks that the database and Redis belong to the same installation, and that the configuration matches the mode
//! stored in the database.

use super::Finding;
use crate::backend::redis::Redis;
use crate::domain::Rng;
use crate::domain::{InstallationId, NodeId};
use crate::node::ModeMismatch;
use crate::node::config::{Mode, RedisUrl};
use crate::store::{Store, is_made};

pub(super) async fn check(mode: &Mode) -> Vec<Finding> {
    let url = mode.database().expose();
    if !is_made(url).unwrap_or(false) {
        return Vec::new();
    }
    // Other checks report connection errors and pending migrations.
    let Ok(store) = Store::connect(url).await else { return Vec::new() };
    let recorded = store.installation().get().await;
    store.close().await;
    let recorded = match recorded {
        Ok(Some(recorded)) => recorded,
        Ok(None) => return unclaimed(mode).await,
        Err(_) => return Vec::new(),
    };
    let mut findings = vec![if recorded.mode == mode.of_installation() {
        Finding::good(format!("installation: {}", recorded.id))
    } else {
        Finding::wrong(format!("installation: {}", ModeMismatch { recorded: recorded.mode }))
    }];
    if let Some(redis) = mode.redis() {
        findings.extend(owner(redis, recorded.id).await);
    }
    findings
}

/// Checks Redis for a database on which no node has been started yet. Redis must have no owner.
async fn unclaimed(mode: &Mode) -> Vec<Finding> {
    let Some(url) = mode.redis() else { return Vec::new() };
    let candidate = InstallationId::from_random(Rng::from_entropy().bytes());
    owner(url, candidate).await.into_iter().collect()
}

async fn owner(url: &RedisUrl, own: InstallationId) -> Option<Finding> {
    let node = NodeId::from_random(Rng::from_entropy().bytes());
    let redis = Redis::new(url.expose(), node).ok()?;
    redis.install(own);
    let (owner, is_retired) = (redis.owner().await, redis.is_retired().await);
    redis.quit().await;
    // Another check reports an unreachable Redis.
    Some(match owner.ok()? {
        Some(_) if is_retired == Ok(true) => {
            Finding::good("installation: redis belonged to this installation, a node will claim it again")
        }
        Some(owner) if owner == own.as_str() => Finding::good("installation: redis belongs to this installation"),
        Some(owner) => Finding::wrong(format!(
            "installation: redis belongs to another installation, {owner}: use the Redis of this installation, or run \
             `pintalk installation adopt`"
        )),
        None => Finding::good("installation: redis belongs to no installation, a node will claim it"),
    })
}
