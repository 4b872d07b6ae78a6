//! Checks that Redis meets the requirements of a cluster: version, role, memory, eviction policy, persistence, replicas
//! and permissions.

mod permissions;

use std::collections::HashMap;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::{Config, Server};
use fred::types::{Builder, ClusterHash, CustomCommand};

use super::Finding;
use crate::backend::redis::{client_config, fault_of};
use crate::domain::StoreFault;
use crate::node::config::{RedisTopology, RedisUrl};

/// Oldest supported major version. It is the first version with sharded pub/sub and all features that the scripts use.
const MINIMUM_VERSION: u32 = 7;

/// Share of `maxmemory`, in percent, above which nodes delete idle rooms from Redis early.
const MEMORY_PERCENT: u64 = 75;

/// Maximum time for a connection. The rest of the time of a check is for the search for the cause of a failure.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) async fn check(url: &RedisUrl) -> Vec<Finding> {
    let client = match connect(url).await {
        Ok(client) => client,
        Err(fault) => return vec![Finding::wrong(format!("redis: {url}: {}", fault.reason()))],
    };
    let mut findings = vec![Finding::good(format!("redis: {url} answers"))];
    // The client has a connection to the single server, to the primary that Sentinel reports, or to each primary of a
    // Redis Cluster.
    for server in client.active_connections() {
        match RedisInfo::read(&client, &server).await {
            Ok(info) => findings.extend(info.assess(&server.to_string(), url.topology())),
            Err(error) => findings.push(Finding::wrong(format!("redis {server}: {error}"))),
        }
    }
    findings.extend(permissions::check(&client).await);
    // All responses have been read, so an error on close is ignored.
    let _ = client.quit().await;
    findings
}

async fn connect(url: &RedisUrl) -> Result<Client, StoreFault> {
    let config = client_config(url.expose()).map_err(|error| StoreFault::from(error.details()))?;
    match try_connect(config.clone()).await {
        Ok(client) => Ok(client),
        Err(error) => Err(fault_of(&config, error).await),
    }
}

async fn try_connect(config: Config) -> Result<Client, fred::error::Error> {
    let client = Builder::from_config(config)
        .with_connection_config(|connection| connection.connection_timeout = CONNECT_TIMEOUT)
        .with_performance_config(|performance| performance.default_command_timeout = CONNECT_TIMEOUT)
        .build()?;
    client.init().await?;
    client.ping::<()>(None).await?;
    Ok(client)
}

/// Version, role, memory and settings of a Redis server: the fields of `INFO`, and the setting of `CONFIG` that `INFO`
/// does not contain.
#[derive(Clone, Debug, Default)]
pub(super) struct RedisInfo {
    fields: HashMap<String, String>,
    min_replicas: Option<String>,
}

impl RedisInfo {
    pub(super) async fn read(client: &Client, server: &Server) -> Result<Self, fred::error::Error> {
        let text: String = query(client, server, "INFO", &[]).await?;
        // Managed Redis services may reject `CONFIG`, so an error is ignored.
        let setting = query::<HashMap<String, String>>(client, server, "CONFIG", &["GET", MIN_REPLICAS]).await;
        Ok(Self { fields: fields(&text), min_replicas: setting.unwrap_or_default().remove(MIN_REPLICAS) })
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }

    pub(super) fn version(&self) -> &str {
        self.field("redis_version").unwrap_or("unknown")
    }

    fn assess(&self, server: &str, topology: RedisTopology) -> Vec<Finding> {
        let mut findings = Vec::new();
        let version = self.version();
        match version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
            Some(MINIMUM_VERSION..) => findings.push(Finding::good(format!("redis {server}: version {version}"))),
            _ => findings.push(Finding::wrong(format!(
                "redis {server}: version {version}, {MINIMUM_VERSION} or later is required"
            ))),
        }
        if self.field("role") == Some("slave") {
            findings.push(Finding::wrong(format!(
                "redis {server}: is a read-only replica: use the address of the primary, or Sentinel"
            )));
        }
        findings.push(self.memory(server));
        findings.push(match self.field("maxmemory_policy") {
            Some("noeviction") => Finding::good(format!("redis {server}: does not evict")),
            Some(policy) => Finding::wrong(format!(
                "redis {server}: maxmemory-policy is {policy}: rooms could be evicted, set noeviction"
            )),
            None => Finding::risky(format!("redis {server}: maxmemory-policy cannot be read, it must be noeviction")),
        });
        findings.push(match self.field("aof_enabled") {
            Some("1") => Finding::good(format!("redis {server}: append-only file is enabled")),
            Some(_) => Finding::risky(format!(
                "redis {server}: appendonly is no: a restart loses messages that are not in SQL yet"
            )),
            None => Finding::risky(format!("redis {server}: appendonly cannot be read, it should be yes")),
        });
        if topology != RedisTopology::Standalone {
            findings.push(self.replicas(server));
        }
        findings
    }

    fn memory(&self, server: &str) -> Finding {
        match (self.number("used_memory"), self.number("maxmemory")) {
            (Some(used), Some(most @ 1..)) if used >= most => Finding::wrong(format!(
                "redis {server}: out of memory, uses {used} of {most} bytes (maxmemory): Redis rejects messages"
            )),
            (Some(used), Some(most @ 1..)) if used / (most / 100).max(1) >= MEMORY_PERCENT => Finding::risky(format!(
                "redis {server}: uses {used} of {most} bytes (maxmemory): above {MEMORY_PERCENT} %, idle rooms are removed \
                 early"
            )),
            (Some(used), Some(most @ 1..)) => {
                Finding::good(format!("redis {server}: uses {used} of {most} bytes (maxmemory)"))
            }
            (_, Some(0)) => Finding::risky(format!(
                "redis {server}: maxmemory is 0: without a limit, the operating system may end Redis, set a limit"
            )),
            _ => Finding::risky(format!("redis {server}: maxmemory cannot be read, a limit should be set")),
        }
    }

    fn replicas(&self, server: &str) -> Finding {
        match self.min_replicas.as_deref() {
            None => Finding::risky(format!("redis {server}: {MIN_REPLICAS} cannot be read, it should be 1")),
            Some("0") => Finding::risky(format!(
                "redis {server}: {MIN_REPLICAS} is 0: a primary without replicas accepts writes that a failover loses"
            )),
            Some(replicas) => Finding::good(format!("redis {server}: writes require {replicas} replicas")),
        }
    }
}

/// Setting that limits the writes that a failover loses.
const MIN_REPLICAS: &str = "min-replicas-to-write";

/// Parses the response to `INFO`.
fn fields(text: &str) -> HashMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
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

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    fn severities(info: &str, min_replicas: Option<&str>, topology: RedisTopology) -> Vec<Severity> {
        let info = RedisInfo { fields: fields(info), min_replicas: min_replicas.map(str::to_owned) };
        info.assess("a:1", topology).into_iter().map(|finding| finding.severity).collect()
    }

    #[test]
    fn evicting_or_old_redis_is_wrong_and_non_persistent_redis_is_risky() {
        use Severity::{Good, Risky, Wrong};
        let durable = "redis_version:7.0.15\r\nrole:master\r\nused_memory:10\r\nmaxmemory:1000\r\n\
                       maxmemory_policy:noeviction\r\naof_enabled:1\r\n";
        assert_eq!(severities(durable, Some("1"), RedisTopology::Sentinel), [Good; 5]);
        let lossy =
            "redis_version:6.2.0\r\nused_memory:10\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:0";
        assert_eq!(severities(lossy, Some("0"), RedisTopology::Cluster), [Wrong, Risky, Wrong, Risky, Risky]);
        assert_eq!(severities(lossy, None, RedisTopology::Standalone), [Wrong, Risky, Wrong, Risky]);
        assert_eq!(
            severities("redis_version:7.2.4", None, RedisTopology::Sentinel),
            [Good, Risky, Risky, Risky, Risky]
        );
    }

    #[test]
    fn full_redis_and_replica_are_wrong() {
        use Severity::{Good, Risky, Wrong};
        let of = |used: u64, role: &str| {
            let info = format!(
                "redis_version:8.0.1\nrole:{role}\nused_memory:{used}\nmaxmemory:1000\nmaxmemory_policy:noeviction\n\
                 aof_enabled:1"
            );
            severities(&info, None, RedisTopology::Standalone)
        };
        assert_eq!(of(700, "master"), [Good, Good, Good, Good]);
        assert_eq!(of(760, "master"), [Good, Risky, Good, Good]);
        assert_eq!(of(1001, "master"), [Good, Wrong, Good, Good]);
        assert_eq!(of(700, "slave"), [Good, Wrong, Good, Good, Good]);
    }
}
