//! Checks that Redis meets the requirements of a cluster: version, eviction policy, persistence, and replicas.

use std::collections::HashMap;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::Server;
use fred::types::{Builder, ClusterHash, CustomCommand};

use super::{CHECK_TIMEOUT, Finding};
use crate::backend::redis::client_config;
use crate::node::config::{RedisTopology, RedisUrl};

/// Oldest supported major version. It is the first version with sharded pub/sub and all features that the scripts use.
const MINIMUM_VERSION: u32 = 7;

pub(super) async fn check(url: &RedisUrl) -> Vec<Finding> {
    let client = match connect(url).await {
        Ok(client) => client,
        Err(error) => return vec![Finding::wrong(format!("redis: {url}: {error}"))],
    };
    let mut findings = vec![Finding::good(format!("redis: {url} answers"))];
    // The client has a connection to the single server, to the primary that Sentinel reports, or to each primary of a
    // Redis Cluster.
    for server in client.active_connections() {
        match read(&client, &server).await {
            Ok(info) => findings.extend(info.assess(&server.to_string(), url.topology())),
            Err(error) => findings.push(Finding::wrong(format!("redis {server}: {error}"))),
        }
    }
    // All responses have been read, so an error on close is ignored.
    let _ = client.quit().await;
    findings
}

async fn connect(url: &RedisUrl) -> Result<Client, fred::error::Error> {
    let client = Builder::from_config(client_config(url.expose())?)
        .with_connection_config(|connection| connection.connection_timeout = CHECK_TIMEOUT)
        .with_performance_config(|performance| performance.default_command_timeout = CHECK_TIMEOUT)
        .build()?;
    client.init().await?;
    client.ping::<()>(None).await?;
    Ok(client)
}

/// Version and settings of a Redis server. `settings` contains only settings that the server returned.
#[derive(Debug, Default)]
struct ServerInfo {
    version: Option<String>,
    settings: HashMap<String, String>,
}

async fn read(client: &Client, server: &Server) -> Result<ServerInfo, fred::error::Error> {
    let mut info = ServerInfo::default();
    let section: String = query(client, server, "INFO", &["server"]).await?;
    info.version = section.lines().find_map(|line| line.strip_prefix("redis_version:")).map(str::to_owned);
    for setting in ["maxmemory-policy", "appendonly", "min-replicas-to-write"] {
        // Managed Redis services may reject `CONFIG`, so an error is ignored.
        if let Ok(answer) = query::<HashMap<String, String>>(client, server, "CONFIG", &["GET", setting]).await {
            info.settings.extend(answer);
        }
    }
    Ok(info)
}

async fn query<R>(client: &Client, server: &Server, name: &'static str, args: &[&str]) -> Result<R, fred::error::Error>
where
    R: fred::types::FromValue,
{
    let command = CustomCommand::new_static(name, ClusterHash::FirstKey, false);
    let args = args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
    if client.is_clustered() {
        client.with_cluster_node(server).custom(command, args).await
    } else {
        client.custom(command, args).await
    }
}

impl ServerInfo {
    fn assess(&self, server: &str, topology: RedisTopology) -> Vec<Finding> {
        let mut findings = Vec::new();
        let version = self.version.as_deref().unwrap_or("unknown");
        match version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
            Some(MINIMUM_VERSION..) => findings.push(Finding::good(format!("redis {server}: version {version}"))),
            _ => findings.push(Finding::wrong(format!(
                "redis {server}: version {version}, {MINIMUM_VERSION} or later is required"
            ))),
        }
        findings.push(match self.setting("maxmemory-policy") {
            Some("noeviction") => Finding::good(format!("redis {server}: does not evict")),
            Some(policy) => Finding::wrong(format!(
                "redis {server}: maxmemory-policy is {policy}: rooms could be evicted, set noeviction"
            )),
            None => Finding::risky(format!("redis {server}: maxmemory-policy cannot be read, it must be noeviction")),
        });
        findings.push(match self.setting("appendonly") {
            Some("yes") => Finding::good(format!("redis {server}: append-only file is enabled")),
            Some(_) => Finding::risky(format!(
                "redis {server}: appendonly is no: a restart loses messages that are not in SQL yet"
            )),
            None => Finding::risky(format!("redis {server}: appendonly cannot be read, it should be yes")),
        });
        if topology != RedisTopology::Standalone {
            findings.push(match self.setting("min-replicas-to-write") {
                None => Finding::risky(format!("redis {server}: min-replicas-to-write cannot be read, it should be 1")),
                Some("0") => Finding::risky(format!(
                    "redis {server}: min-replicas-to-write is 0: a primary without replicas accepts writes that a failover loses"
                )),
                Some(replicas) => Finding::good(format!("redis {server}: writes require {replicas} replicas")),
            });
        }
        findings
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    fn weights(version: &str, settings: &[(&str, &str)], topology: RedisTopology) -> Vec<Severity> {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let info = ServerInfo { version: Some(version.to_owned()), settings };
        info.assess("a:1", topology).into_iter().map(|finding| finding.severity).collect()
    }

    #[test]
    fn evicting_or_old_redis_is_wrong_and_non_persistent_redis_is_risky() {
        use Severity::{Good, Risky, Wrong};
        let durable = [("maxmemory-policy", "noeviction"), ("appendonly", "yes"), ("min-replicas-to-write", "1")];
        assert_eq!(weights("7.0.15", &durable, RedisTopology::Sentinel), [Good, Good, Good, Good]);
        let lossy = [("maxmemory-policy", "allkeys-lru"), ("appendonly", "no"), ("min-replicas-to-write", "0")];
        assert_eq!(weights("6.2.0", &lossy, RedisTopology::Cluster), [Wrong, Wrong, Risky, Risky]);
        assert_eq!(weights("8.0.1", &lossy, RedisTopology::Standalone), [Good, Wrong, Risky]);
        assert_eq!(weights("7.2.4", &[], RedisTopology::Sentinel), [Good, Risky, Risky, Risky]);
    }
}
