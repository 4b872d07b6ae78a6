//! Orphaned sets of hosts. A set is orphaned if its node is missing from the list of nodes, so that no other node can
//! detect the death of this node.
//!
//! In a Redis Cluster, different servers store the list and the sets. A failover of one server may lose the list while
//! the sets are still stored, or the reverse.

use fred::prelude::*;
use fred::types::{ClusterHash, CustomCommand, SetOptions};

use crate::backend::Unavailable;
use crate::backend::redis::{Keys, Redis, call};

/// Number of keys scanned per call. The call takes well under a millisecond.
const PART: &str = "500";

/// Counts orphaned sets. With `adopt`, adds their nodes to the list again, as dead nodes. If such a node is alive, it
/// detects that its lease has ended and begins a new incarnation.
pub(super) async fn adopt(redis: &Redis, adopt: bool) -> Result<u64, Unavailable> {
    let (mut orphans, keys) = (0, redis.keys()?);
    for set in sets(redis, keys).await? {
        let Some(node) = keys.incarnation_in(&set) else { continue };
        let lease: Option<f64> = call(|| redis.client().zscore(keys.nodes(), node)).await?;
        if lease.is_some() {
            continue;
        }
        orphans += 1;
        if adopt {
            let only_new = Some(SetOptions::NX);
            call(|| redis.client().zadd::<(), _, _>(keys.nodes(), only_new.clone(), None, false, false, (0.0, node)))
                .await?;
            tracing::warn!(node, "found presence entries of unknown node, marking node as dead");
        }
    }
    Ok(orphans)
}

/// Returns the keys of all sets of hosts, on every server.
async fn sets(redis: &Redis, keys: &Keys) -> Result<Vec<String>, Unavailable> {
    let (mut sets, pattern) = (Vec::new(), keys.hosts_pattern());
    for server in redis.client().active_connections() {
        let server = redis.client().with_cluster_node(server);
        let mut cursor = "0".to_owned();
        loop {
            let scan = CustomCommand::new_static("SCAN", ClusterHash::FirstKey, false);
            let args: Vec<String> = [&*cursor, "MATCH", &pattern, "COUNT", PART].map(str::to_owned).into();
            let (next, found): (String, Vec<String>) = call(|| server.custom(scan.clone(), args.clone())).await?;
            sets.extend(found);
            cursor = next;
            if cursor == "0" {
                break;
            }
        }
    }
    // A scan may return a key twice.
    sets.sort_unstable();
    sets.dedup();
    Ok(sets)
}
