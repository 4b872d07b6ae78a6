//! Search for orphaned sets of hosts. A set is orphaned if its incarnation is missing from the list of nodes. Nodes
//! detect dead nodes only in this list, so no node would remove the entries of an orphaned set.
//!
//! In a Redis Cluster, different servers store the list and the sets. A failover of one server may therefore lose the
//! list but not the sets.

use fred::prelude::*;
use fred::types::{ClusterHash, CustomCommand, SetOptions};

use crate::backend::Unavailable;
use crate::backend::redis::{Keys, Redis, call};

/// Number of keys that one call scans. With this number, a call takes well under a millisecond.
const PART: &str = "500";

/// Returns the number of orphaned sets. If `adopt` is true, adds their incarnations to the list of nodes, as dead
/// incarnations. If the node of such an incarnation is alive, it detects that its lease has ended and begins a new
/// incarnation.
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

/// Returns the keys of all sets of hosts on all servers.
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
