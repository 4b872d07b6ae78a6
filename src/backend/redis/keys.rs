//! Names of the keys and channels of an installation.
//!
//! **Invariant:** every key and every channel starts with `pt:<installation id>:`. Pub/sub ignores database indexes, so
//! only this prefix separates two installations on one server. There are two exceptions. [`INSTALLATION`] stores the id
//! of the installation that owns this Redis. The keys of earlier releases start with `pt:` without an id. They are
//! defined in `broker::earlier` and `ownership`.

use crate::backend::broker::Partition;
use crate::domain::{HostUuid, InstallationId, RoomName};

/// Key that stores the id of the installation that owns this Redis.
pub(crate) const INSTALLATION: &str = "pt:installation";

/// Key names of one installation.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    id: InstallationId,
    nodes: String,
    control: String,
    status: String,
}

impl Keys {
    pub(crate) fn of(id: InstallationId) -> Self {
        let name = |kind: &str| format!("pt:{id}:{kind}");
        Self { id, nodes: name("nodes"), control: name("control"), status: name("status") }
    }

    pub(crate) fn id(&self) -> InstallationId {
        self.id
    }

    /// Returns the name of a key that belongs to no partition.
    pub(crate) fn shared(&self, kind: &str) -> String {
        format!("pt:{}:{kind}", self.id)
    }

    /// Returns the name of a key or channel of a partition. The hash tag keeps all keys of the partition in one slot of
    /// a Redis Cluster.
    pub(crate) fn partition(&self, partition: Partition, kind: &str) -> String {
        format!("pt:{}:{{{}}}:{kind}", self.id, partition.0)
    }

    pub(crate) fn room(&self, partition: Partition, kind: &str, room: RoomName) -> String {
        format!("pt:{}:{{{}}}:{kind}:{room}", self.id, partition.0)
    }

    /// Returns the key of the sorted set of node leases. The score of a lease is its deadline.
    pub(crate) fn nodes(&self) -> &str {
        &self.nodes
    }

    /// Returns the key of the stream of account changes. It is also the name of the channel that notifies nodes of new
    /// entries.
    pub(crate) fn control(&self) -> &str {
        &self.control
    }

    /// Returns the name of the channel for presence events.
    pub(crate) fn status(&self) -> &str {
        &self.status
    }

    pub(crate) fn presence(&self, host: HostUuid) -> String {
        format!("pt:{}:{{{host}}}:presence", self.id)
    }

    /// Returns the key of the set of hosts that have status sockets on a node. Each incarnation of the node has a
    /// separate set.
    pub(crate) fn hosts_of(&self, incarnation: &str) -> String {
        format!("pt:{}:node:{incarnation}:hosts", self.id)
    }

    /// Returns a pattern that matches every key returned by [`hosts_of`](Self::hosts_of). To parse a matching key, call
    /// [`incarnation_in`](Self::incarnation_in).
    pub(crate) fn hosts_pattern(&self) -> String {
        format!("pt:{}:node:*:hosts", self.id)
    }

    pub(crate) fn incarnation_in<'a>(&self, hosts: &'a str) -> Option<&'a str> {
        let rest = hosts.strip_prefix("pt:")?.strip_prefix(self.id.as_str())?;
        rest.strip_prefix(":node:")?.strip_suffix(":hosts")
    }
}
