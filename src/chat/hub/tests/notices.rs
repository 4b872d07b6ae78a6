//! Tests for the delivery of notices and last frames to the right connections.

use super::*;

fn room() -> RoomName {
    RoomName::from_random([1; 16])
}

#[test]
fn a_relayed_notice_is_sent_only_to_connections_that_asked_for_such_frames() {
    let hub = Hub::new(Rng::from_seed(1));
    let host = || Identity::Host { host: HostId(1), sid: "a".into() };
    let connections = [
        hub.connection(Identity::Guest),
        hub.connection_with(Identity::Guest, true),
        hub.connection(host()),
        hub.connection_with(host(), true),
    ];
    let _guards = connections.each_ref().map(|connection| {
        connection.start_after(0);
        connection.caught_up(0, 0);
        hub.register(Place::Room(room()), connection.clone())
    });
    hub.notify(room(), b"{}");
    let received = connections.each_ref().map(|connection| {
        let mut frames = std::collections::VecDeque::new();
        connection.take(&mut frames, usize::MAX);
        frames.len()
    });
    assert_eq!(received, [0, 1, 0, 1]);
    connections[3].set_away(true);
    assert_eq!(hub.members(room()), MemberCounts { guests: 2, hosts: 1, away: 1 });
}

#[test]
fn guests_receive_a_last_status_before_the_close_and_hosts_do_not() {
    let hub = Hub::new(Rng::from_seed(1));
    let uuid = HostUuid::from_random([1; 16]);
    let connections =
        [hub.connection(Identity::Guest), hub.connection(Identity::Host { host: HostId(1), sid: "a".into() })];
    let _guards = connections.each_ref().map(|connection| hub.register(Place::Status(uuid), connection.clone()));
    hub.close_status(uuid, b"{}", Close::Unavailable);
    // A frame queued after the close is dropped.
    connections[0].push(frame::text(b"late"));
    let received = connections.each_ref().map(|connection| {
        let mut frames = std::collections::VecDeque::new();
        let end = connection.take(&mut frames, usize::MAX);
        assert_eq!(end, Some(Close::Unavailable));
        frames.into_iter().map(|framed| frame::payload_of(&framed).to_vec()).collect::<Vec<_>>()
    });
    assert_eq!(received, [vec![b"{}".to_vec()], vec![]]);
}
