//! Tests of registration and closes.

use super::*;

mod notices;

fn room() -> RoomName {
    RoomName::from_random([1; 16])
}

#[test]
fn a_late_disconnect_does_not_evict_the_new_connection() {
    let hub = Hub::new(Rng::from_seed(1));
    let old = hub.register(Place::Room(room()), hub.connection(Identity::Guest));
    let _new = hub.register(Place::Room(room()), hub.connection(Identity::Guest));
    drop(old);
    assert_eq!(hub.members(room()), MemberCounts { guests: 1, hosts: 0, away: 0 });
}

#[test]
fn an_empty_room_is_removed() {
    let hub = Hub::new(Rng::from_seed(1));
    drop(hub.register(Place::Room(room()), hub.connection(Identity::Guest)));
    assert!(hub.rooms.is_empty());
}

#[test]
fn only_the_hosts_own_status_sockets_count_as_theirs() {
    let hub = Hub::new(Rng::from_seed(1));
    let place = Place::Status(HostUuid::from_random([1; 16]));
    let _watching = hub.register(place, hub.connection(Identity::Guest));
    assert!(!hub.has_status_socket(HostId(1)));
    let own = hub.register(place, hub.connection(Identity::Host { host: HostId(1), sid: "a".into() }));
    assert!(hub.has_status_socket(HostId(1)) && !hub.has_status_socket(HostId(2)));
    drop(own);
    assert!(hub.host_statuses.is_empty());
}

#[test]
fn an_ended_login_closes_only_its_own_sockets() {
    let hub = Hub::new(Rng::from_seed(1));
    let host = |sid: &str| hub.connection(Identity::Host { host: HostId(1), sid: sid.into() });
    let (closed, other) = (host("a"), host("b"));
    let _guards = [hub.register(Place::Room(room()), closed.clone()), hub.register(Place::Room(room()), other.clone())];
    hub.close_login("a");
    assert!(closed.is_closing() && !other.is_closing());
    hub.close_host(HostId(1));
    assert!(other.is_closing());
}
