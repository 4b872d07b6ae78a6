//! Checks Redis against the requirements of a cluster: version, no eviction, persistence, replicas.

use std::collections::HashMap;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::{Config, Server};
use fred::types::{Builder, ClusterHash, CustomCommand};

use super::{Finding, PATIENCE};
use crate::node::config::{RedisTopology, RedisUrl};

/// First major version with sharded pub/sub and all features that the scripts use.
const OLDEST: u32 = 7;

pub(super) async fn check(url: &RedisUrl) -> Vec<Finding> {
    let client = match connect(url).await {
        Ok(client) => client,
        Err(error) => return vec![Finding::wrong(format!("redis: {url}: {error}"))],
    };
    let mut findings = vec![Finding::good(format!("redis: {url} answers"))];
    // A single server, the primary named by the sentinels, or every primary of the cluster.
    for server in client.active_connections() {
        match read(&client, &server).await {
            Ok(facts) => findings.extend(facts.judge(&server.to_string(), url.topology())),
            Err(error) => findings.push(Finding::wrong(format!("redis {server}: {error}"))),
        }
    }
    // All results are read: an error while closing is ignored.
    let _ = client.quit().await;
    findings
}

async fn connect(url: &RedisUrl) -> Result<Client, fred::error::Error> {
    let config = Config::from_url(url.expose())?;
    let client = Builder::from_config(config)
        .with_connection_config(|connection| connection.connection_timeout = PATIENCE)
        .with_performance_config(|performance| performance.default_command_timeout = PATIENCE)
        .build()?;
    client.init().await?;
    client.ping::<()>(None).await?;
    Ok(client)
}

/// Version and settings of a server; absent where the server does not return them.
#[derive(Debug, Default)]
struct Facts {
    version: Option<String>,
    settings: HashMap<String, String>,
}

async fn read(client: &Client, server: &Server) -> Result<Facts, fred::error::Error> {
    let mut facts = Facts::default();
    let info: String = ask(client, server, "INFO", &["server"]).await?;
    facts.version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).map(str::to_owned);
    for setting in ["maxmemory-policy", "appendonly", "min-replicas-to-write"] {
        // Managed servers may not allow this command.
        if let Ok(answer) = ask::<HashMap<String, String>>(client, server, "CONFIG", &["GET", setting]).await {
            facts.settings.extend(answer);
        }
    }
    Ok(facts)
}

async fn ask<R>(client: &Client, server: &Server, name: &'static str, args: &[&str]) -> Result<R, fred::error::Error>
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

impl Facts {
    fn judge(&self, server: &str, topology: RedisTopology) -> Vec<Finding> {
        let mut findings = Vec::new();
        let version = self.version.as_deref().unwrap_or("unknown");
        match version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
            Some(OLDEST..) => findings.push(Finding::good(format!("redis {server}: version {version}"))),
            _ => findings.push(Finding::wrong(format!("redis {server}: version {version}, {OLDEST} is needed"))),
        }
        findings.push(match self.setting("maxmemory-policy") {
            Some("noeviction") => Finding::good(format!("redis {server}: does not evict")),
            Some(policy) => Finding::wrong(format!(
                "redis {server}: maxmemory-policy is {policy}: rooms would vanish, set noeviction"
            )),
            None => Finding::risky(format!("redis {server}: maxmemory-policy is not shown, it must be noeviction")),
        });
        findings.push(match self.setting("appendonly") {
            Some("yes") => Finding::good(format!("redis {server}: keeps an append-only file")),
            Some(_) => {
                Finding::risky(format!("redis {server}: appendonly is no: a restart loses what is not yet in SQL"))
            }
            None => Finding::risky(format!("redis {server}: appendonly is not shown, it should be yes")),
        });
        if topology != RedisTopology::Standalone {
            findings.push(match self.setting("min-replicas-to-write") {
                None => Finding::risky(format!("redis {server}: min-replicas-to-write is not shown, it should be 1")),
                Some("0") => Finding::risky(format!(
                    "redis {server}: min-replicas-to-write is 0: a primary that is cut off goes on accepting what is lost"
                )),
                Some(replicas) => Finding::good(format!("redis {server}: writes need {replicas} replicas")),
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
    use super::super::Weight;
    use super::*;

    fn weights(version: &str, settings: &[(&str, &str)], topology: RedisTopology) -> Vec<Weight> {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let facts = Facts { version: Some(version.to_owned()), settings };
        facts.judge("a:1", topology).into_iter().map(|finding| finding.weight).collect()
    }

    #[test]
    fn an_evicting_or_old_redis_is_wrong_and_a_forgetful_one_risky() {
        use Weight::{Good, Risky, Wrong};
        let keeps = [("maxmemory-policy", "noeviction"), ("appendonly", "yes"), ("min-replicas-to-write", "1")];
        assert_eq!(weights("7.0.15", &keeps, RedisTopology::Sentinel), [Good, Good, Good, Good]);
        let loses = [("maxmemory-policy", "allkeys-lru"), ("appendonly", "no"), ("min-replicas-to-write", "0")];
        assert_eq!(weights("6.2.0", &loses, RedisTopology::Cluster), [Wrong, Wrong, Risky, Risky]);
        assert_eq!(weights("8.0.1", &loses, RedisTopology::Standalone), [Good, Wrong, Risky]);
        assert_eq!(weights("7.2.4", &[], RedisTopology::Sentinel), [Good, Risky, Risky, Risky]);
    }
}
