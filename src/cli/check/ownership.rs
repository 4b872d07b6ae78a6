//! Whether the stores belong to one installation, and are served as the database records.

use super::Finding;
use crate::app::ModeMismatch;
use crate::clock::Chance;
use crate::config::{Mode, RedisUrl};
use crate::domain::{InstallationId, NodeId};
use crate::redis::Redis;
use crate::store::{Store, is_made};

pub(super) async fn check(mode: &Mode) -> Vec<Finding> {
    let url = mode.database().expose();
    if !is_made(url).unwrap_or(false) {
        return Vec::new();
    }
    // What cannot be connected is a finding of its own already, and so is a schema that is not up to date.
    let Ok(store) = Store::connect(url).await else { return Vec::new() };
    let recorded = store.installation().await;
    store.close().await;
    let Ok(Some(recorded)) = recorded else { return Vec::new() };
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

async fn owner(url: &RedisUrl, own: InstallationId) -> Option<Finding> {
    let node = NodeId::from_random(Chance::from_entropy().bytes());
    let redis = Redis::new(url.expose(), node).ok()?;
    let owner = redis.owner().await;
    redis.quit().await;
    // A Redis that does not answer is a finding of its own already.
    Some(match owner.ok()? {
        Some(owner) if owner == own.as_str() => Finding::good("installation: redis belongs to it"),
        Some(owner) => Finding::wrong(format!(
            "installation: redis belongs to another installation, {owner}: give the Redis of this installation, or run \
             `pintalk installation adopt`"
        )),
        None => Finding::good("installation: redis belongs to none, a node will claim it"),
    })
}
