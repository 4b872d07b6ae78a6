//! Redis keys of releases without installation ids. These keys start with `pt:` and are distributed over 16 partitions
//! on every Redis deployment.
//!
//! Other installations and applications may have keys with the same prefix. Each call therefore accesses only keys with
//! known names.

use fred::prelude::*;
use fred::types::{ClusterHash, CustomCommand, Expiration};

use super::answer::{self, Answer};
use super::archive::entry;
use crate::backend::Unavailable;
use crate::backend::broker::Partition;
use crate::backend::broker::queue::QueueEntry;
use crate::backend::redis::{Redis, call};
use crate::domain::{HostUuid, RoomName};

/// Number of partitions in the earlier releases.
pub const PARTITIONS: u16 = 16;

/// Maximum number of entries, or approximate number of keys, that one call reads.
const PAGE: u64 = 500;

/// Lifetime of the fence, in seconds. The fence is a string key in place of the archive queue. It prevents a suspended
/// process of an earlier release from accepting messages.
const FENCE_TTL: i64 = 24 * 3600;

/// Fields of a dead letter. Each pair contains a name and a value.
pub type Fields = Vec<(String, bytes::Bytes)>;

/// Accessor for the keys of the earlier releases.
#[derive(Clone, Copy, Debug)]
pub struct EarlierKeys<'a> {
    redis: &'a Redis,
}

impl<'a> EarlierKeys<'a> {
    /// Creates an accessor that uses the Redis clients of a node.
    pub fn new(redis: &'a Redis) -> Self {
        Self { redis }
    }

    /// Returns one page of the queue entries after a position.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn queue(&self, partition: Partition, after: &str) -> Result<Vec<QueueEntry>, Unavailable> {
        let (queue, from) = (key(partition, "queue"), format!("({after}"));
        if self.kind_of(&queue).await? != "stream" {
            return Ok(Vec::new());
        }
        let found = call(|| self.redis.client().xrange(&queue, &from, "+", Some(PAGE))).await?;
        Ok(answer::entries(found)?.into_iter().map(|(position, fields)| entry(position, fields.pairs()).0).collect())
    }

    /// Returns one page of the dead letters after a position.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn dead_letters(&self, partition: Partition, after: &str) -> Result<Vec<(String, Fields)>, Unavailable> {
        let (dead, from) = (key(partition, "dead"), format!("({after}"));
        let found = call(|| self.redis.client().xrange(&dead, &from, "+", Some(PAGE))).await?;
        Ok(answer::entries(found)?.into_iter().map(|(position, fields)| (position, pairs(fields))).collect())
    }

    /// Removes entries from the queue (`kind` is `queue`) or from the dead letters (`kind` is `dead`).
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn remove(&self, partition: Partition, kind: &str, positions: Vec<String>) -> Result<(), Unavailable> {
        if positions.is_empty() {
            return Ok(());
        }
        let stream = key(partition, kind);
        call(|| self.redis.client().xdel::<(), _, _>(&stream, positions.clone())).await
    }

    /// Adds a dead letter to the dead letters of the current release.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time, or if this node must not use this
    /// Redis.
    pub async fn add_dead_letter(&self, room: RoomName, fields: &Fields) -> Result<(), Unavailable> {
        let partition = Partition::of(room, self.redis.partitions());
        let dead = self.redis.keys()?.partition(partition, "dead");
        call(|| self.redis.client().xadd::<(), _, _, _, _>(&dead, false, None, "*", fields.clone())).await
    }

    /// Returns whether the earlier release marked a room as deleted.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn is_deleted(&self, partition: Partition, room: RoomName) -> Result<bool, Unavailable> {
        let state = self.field(partition, room, "state").await?;
        Ok(state.as_deref() == Some("deleted"))
    }

    /// Returns the row id of a room in the database. Returns `None` if the earlier release did not store the room.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn chatroom(&self, partition: Partition, room: RoomName) -> Result<Option<i64>, Unavailable> {
        Ok(self.field(partition, room, "id").await?.and_then(|id| id.parse().ok()))
    }

    /// Returns one page of a partition's rooms, and the cursor of the next page. The cursor is `None` after the last
    /// page.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn rooms(
        &self,
        partition: Partition,
        cursor: &str,
    ) -> Result<(Vec<RoomName>, Option<String>), Unavailable> {
        let scan = CustomCommand::new_static("ZSCAN", ClusterHash::FirstKey, false);
        let args = vec![key(partition, "idle"), cursor.to_owned(), "COUNT".to_owned(), PAGE.to_string()];
        let (next, found): (String, Vec<String>) =
            call(|| self.redis.client().custom(scan.clone(), args.clone())).await?;
        let rooms = found.iter().step_by(2).filter_map(|name| name.parse().ok()).collect();
        Ok((rooms, (next != "0").then_some(next)))
    }

    /// Removes all keys of a room.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn remove_room(&self, partition: Partition, room: RoomName) -> Result<(), Unavailable> {
        let keys: Vec<String> =
            ["room", "log", "ids", "seed"].iter().map(|kind| format!("{}:{room}", key(partition, kind))).collect();
        let client = self.redis.client();
        call(|| client.del::<(), _>(keys.clone())).await?;
        let idle = key(partition, "idle");
        call(|| client.zrem::<(), _, _>(&idle, room.as_str())).await
    }

    /// Returns whether a partition has no queue entries, no rooms and no dead letters.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn is_empty(&self, partition: Partition) -> Result<bool, Unavailable> {
        let (queue, idle, dead) = (key(partition, "queue"), key(partition, "idle"), key(partition, "dead"));
        let client = self.redis.client();
        let is_queue = self.kind_of(&queue).await? == "stream";
        let waiting: u64 = if is_queue { call(|| client.xlen(&queue)).await? } else { 0 };
        let rooms: u64 = call(|| client.zcard(&idle)).await?;
        let dead: u64 = call(|| client.xlen(&dead)).await?;
        Ok(waiting + rooms + dead == 0)
    }

    /// Returns whether the earlier release has ever used a partition.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn is_known(&self, partition: Partition) -> Result<bool, Unavailable> {
        let keys: Vec<String> = ["life", "queue", "idle", "dead"].iter().map(|kind| key(partition, kind)).collect();
        let queue = key(partition, "queue");
        let known: u64 = call(|| self.redis.client().exists(keys.clone())).await?;
        // This release writes the fence, so the fence must not count as a key of the earlier release.
        Ok(known > u64::from(self.kind_of(&queue).await? == "string"))
    }

    /// Removes the keys of an empty partition and writes the fence. A suspended process of an earlier release therefore
    /// cannot accept messages after it resumes.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn close(&self, partition: Partition) -> Result<(), Unavailable> {
        let keys: Vec<String> =
            ["queue", "dead", "idle", "life", "mark", "archiver"].iter().map(|kind| key(partition, kind)).collect();
        let client = self.redis.client();
        call(|| client.del::<(), _>(keys.clone())).await?;
        let (queue, fence) = (key(partition, "queue"), "taken over by a later release");
        call(|| client.set::<(), _, _>(&queue, fence, Some(Expiration::EX(FENCE_TTL)), None, false)).await
    }

    /// Returns the hosts with presence keys of the earlier release.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn hosts(&self) -> Result<Vec<HostUuid>, Unavailable> {
        let keys = self.scan("pt:{*}:presence").await?;
        let host = |key: String| key.strip_prefix("pt:{")?.strip_suffix("}:presence")?.parse().ok();
        Ok(keys.into_iter().filter_map(host).collect())
    }

    /// Removes the presence key of a host.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn remove_host(&self, host: HostUuid) -> Result<(), Unavailable> {
        let key = format!("pt:{{{host}}}:presence");
        call(|| self.redis.client().del::<(), _>(&key)).await
    }

    /// Removes the keys that belong to no partition and no host, such as leases and account changes.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if Redis returns an error or does not answer in time.
    pub async fn close_shared(&self) -> Result<(), Unavailable> {
        let client = self.redis.client();
        for key in ["pt:nodes", "pt:control", "pt:lease:leader"] {
            call(|| client.del::<(), _>(key)).await?;
        }
        for key in self.scan("pt:node:*").await? {
            call(|| client.del::<(), _>(&key)).await?;
        }
        Ok(())
    }

    async fn field(&self, partition: Partition, room: RoomName, field: &str) -> Result<Option<String>, Unavailable> {
        let key = format!("{}:{room}", key(partition, "room"));
        call(|| self.redis.client().hget(&key, field)).await
    }

    async fn kind_of(&self, key: &str) -> Result<String, Unavailable> {
        let kind = CustomCommand::new_static("TYPE", ClusterHash::FirstKey, false);
        call(|| self.redis.client().custom(kind.clone(), vec![key])).await
    }

    async fn scan(&self, pattern: &str) -> Result<Vec<String>, Unavailable> {
        let mut keys = Vec::new();
        for server in self.redis.client().active_connections() {
            let server = self.redis.client().with_cluster_node(server);
            let mut cursor = "0".to_owned();
            loop {
                let scan = CustomCommand::new_static("SCAN", ClusterHash::FirstKey, false);
                let count = PAGE.to_string();
                let args: Vec<String> = [&*cursor, "MATCH", pattern, "COUNT", &count].map(str::to_owned).into();
                let (next, found): (String, Vec<String>) = call(|| server.custom(scan.clone(), args.clone())).await?;
                keys.extend(found);
                cursor = next;
                if cursor == "0" {
                    break;
                }
            }
        }
        Ok(keys)
    }
}

fn key(partition: Partition, kind: &str) -> String {
    format!("pt:{{{}}}:{kind}", partition.0)
}

fn pairs(mut fields: Answer) -> Fields {
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        if let (Some(name), Some(value)) = (name.as_string(), value.into_bytes()) {
            pairs.push((name, value));
        }
    }
    pairs
}
