//! Exports the memory usage of Redis.

use fred::interfaces::ClientLike as _;
use fred::types::config::Server;
use fred::types::{ClusterHash, CustomCommand};

use super::{Redis, call};
use crate::backend::Unavailable;

/// Memory usage of one Redis server, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    used: u64,
    /// `maxmemory`, or the memory of the machine if `maxmemory` is 0. Not 0.
    max: u64,
}

impl Memory {
    /// Parses the answer to `INFO memory`. Returns `None` if the answer contains no limit.
    fn parse(info: &str) -> Option<Self> {
        let figure =
            |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.parse().ok());
        let max = figure("maxmemory").filter(|max| *max > 0).or_else(|| figure("total_system_memory"));
        Some(Self { used: figure("used_memory")?, max: max.filter(|max| *max > 0)? })
    }

    fn share(&self) -> f64 {
        self.used as f64 / self.max as f64
    }
}

impl Redis {
    /// Reads the memory usage of the primary, or of every primary of a Redis Cluster. Exports that of the fullest.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if a server returns an error or does not answer in time.
    pub async fn measure_memory(&self) -> Result<(), Unavailable> {
        if let Some(fullest) = self.fullest_memory().await? {
            self.shared.metrics.memory_used.set(fullest.used as f64);
            self.shared.metrics.memory_max.set(fullest.max as f64);
        }
        Ok(())
    }

    /// Returns the memory usage of the server that uses the largest share of its limit.
    async fn fullest_memory(&self) -> Result<Option<Memory>, Unavailable> {
        let servers = self.client.active_connections();
        let readings = servers.iter().map(|server| call(|| self.memory_info(server)));
        let infos = futures_util::future::try_join_all(readings).await?;
        let memories = infos.iter().filter_map(|info| Memory::parse(info));
        Ok(memories.max_by(|a, b| a.share().total_cmp(&b.share())))
    }

    async fn memory_info(&self, server: &Server) -> Result<String, fred::error::Error> {
        let (info, section) = (CustomCommand::new_static("INFO", ClusterHash::FirstKey, false), vec!["memory"]);
        if self.client.is_clustered() {
            self.client.with_cluster_node(server).custom(info, section).await
        } else {
            self.client.custom(info, section).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::redis::testing::{Kind, Servers};
    use crate::backend::redis::within;
    use crate::domain::{NodeId, Rng};

    #[tokio::test]
    async fn every_primary_is_read_and_the_fullest_is_exported() {
        for (kind, primaries) in [(Kind::Redis7, 1), (Kind::Sentinel, 1), (Kind::Cluster, 3)] {
            let servers = Servers::of(kind).await;
            let node = NodeId::from_random(Rng::from_entropy().bytes());
            let redis = Redis::with_config(servers.config(), node).unwrap();
            within(redis.client().wait_for_connect()).await.unwrap();
            let connected = redis.client().active_connections();
            assert_eq!(connected.len(), primaries, "{kind:?}");
            for (at, server) in connected.iter().enumerate() {
                let limit = 100_000_000 + at as u64;
                for limit in [limit, 0] {
                    let config = CustomCommand::new_static("CONFIG", ClusterHash::FirstKey, false);
                    let args = vec!["SET".to_owned(), "maxmemory".to_owned(), limit.to_string()];
                    let _: String = if redis.client().is_clustered() {
                        redis.client().with_cluster_node(server).custom(config, args).await.unwrap()
                    } else {
                        redis.client().custom(config, args).await.unwrap()
                    };
                    let fullest = redis.fullest_memory().await.unwrap().expect("a limit");
                    // Without `maxmemory`, the limit is the memory of the machine.
                    let is_set = fullest.max == 100_000_000 + at as u64;
                    assert_eq!((is_set, fullest.used > 500_000), (limit > 0, true), "{kind:?}: {fullest:?}");
                }
            }
            redis.quit().await;
        }
    }

    #[test]
    fn limit_is_maxmemory_or_else_the_memory_of_the_machine() {
        let info = |max: u64, machine: &str| {
            format!(
                "# Memory\r\nused_memory:60\r\nused_memory_rss:99\r\n{machine}maxmemory:{max}\r\nmaxmemory_human:1B"
            )
        };
        let machine = "total_system_memory:400\r\n";
        assert_eq!(Memory::parse(&info(80, machine)), Some(Memory { used: 60, max: 80 }));
        assert_eq!(Memory::parse(&info(0, machine)), Some(Memory { used: 60, max: 400 }));
        assert_eq!(Memory::parse(&info(0, "")), None);
    }
}
