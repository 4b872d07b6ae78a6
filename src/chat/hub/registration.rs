//! Guard of a connection's registration.

use std::sync::Arc;

use dashmap::DashMap;

use super::{Connection, Hub, Identity, Place};

/// Keeps a connection registered until this guard is dropped.
#[derive(Debug)]
pub struct Registration {
    hub: Arc<Hub>,
    place: Place,
    connection: Arc<Connection>,
}

impl Registration {
    pub(super) fn new(hub: Arc<Hub>, place: Place, connection: Arc<Connection>) -> Self {
        Self { hub, place, connection }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        match &self.place {
            Place::Room(room) => remove(&self.hub.rooms, room, &self.connection),
            Place::Status(host) => {
                remove(&self.hub.statuses, host, &self.connection);
                if let Identity::Host { host, .. } = self.connection.identity() {
                    remove(&self.hub.host_statuses, host, &self.connection);
                }
            }
        }
    }
}

/// Removes a connection by its id, so that other connections at the same place remain registered.
fn remove<K: std::hash::Hash + Eq>(map: &DashMap<K, Vec<Arc<Connection>>>, key: &K, connection: &Connection) {
    if let Some(mut members) = map.get_mut(key) {
        members.retain(|member| member.id() != connection.id());
        members.shrink_to_fit();
    }
    map.remove_if(key, |_, members| members.is_empty());
}
