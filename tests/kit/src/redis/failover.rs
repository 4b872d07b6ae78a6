//! Failover of a master, and migration of slots between the masters of a Cluster.

use super::server::Server;
use super::{Kind, MASTERS, SERVICE, SLOTS, Servers};

impl Servers {
    /// Kills the master that serves a slot and promotes one of its replicas. Behind Sentinels, there is only one
    /// master.
    pub fn fail_over(&mut self, slot: u16) {
        let dead = self.owner(slot);
        self.servers[dead].end();
        let (survivor, order) = match self.kind {
            Kind::Cluster => (&self.servers[MASTERS + dead], "CLUSTER FAILOVER TAKEOVER".to_owned()),
            Kind::Sentinel => (&self.sentinels[0], format!("SENTINEL FAILOVER {SERVICE}")),
            _ => panic!("{:?} has no replica to promote", self.kind),
        };
        survivor.repeat_until_ok(&order);
    }

    /// Begins to migrate a slot of a Cluster to another master. The keys of the slot are not migrated yet.
    pub fn begin_moving(&self, slot: u16) {
        let (from, to) = self.way_of(slot);
        to.repeat_until_ok(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", from.id()));
        from.repeat_until_ok(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", to.id()));
    }

    /// Migrates one key of a slot whose migration has begun.
    pub fn move_key(&self, slot: u16, key: &str) {
        let (from, to) = self.way_of(slot);
        from.repeat_until_ok(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", to.port));
    }

    /// Completes the migration of a slot.
    pub fn end_moving(&self, slot: u16) {
        let (from, to) = self.way_of(slot);
        for server in [to, from] {
            server.repeat_until_ok(&format!("CLUSTER SETSLOT {slot} NODE {}", to.id()));
        }
    }

    fn way_of(&self, slot: u16) -> (&Server, &Server) {
        let from = self.owner(slot);
        (&self.servers[from], &self.servers[(from + 1) % MASTERS])
    }

    /// Returns the index of the server that served a slot when the deployment started.
    fn owner(&self, slot: u16) -> usize {
        let masters = self.masters().len();
        (0..masters).find(|at| usize::from(slot) < SLOTS * (at + 1) / masters).expect("a master")
    }
}
