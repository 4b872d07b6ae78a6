//! Tests of the data for room lists in a cluster: connections, and messages that are missing from the database.

use super::*;
use crate::backend::broker::testing::Node;
use crate::backend::broker::{MemberCounts, TailQuery};

on_a_cluster!(
    a_host_that_is_away_is_counted_and_not_present,
    rooms_of_a_host_with_unarchived_messages_are_listed_until_sql_is_up_to_date,
    a_long_tail_is_counted_in_steps,
    an_impossible_time_in_a_log_of_an_earlier_release_is_replaced_on_reading,
);

async fn a_host_that_is_away_is_counted_and_not_present(fixture: Fixture) {
    let (one, other) = (fixture.node().await, fixture.node().await);
    let room = one.room().await;
    let counts = |guests, hosts, away| MemberCounts { guests, hosts, away };
    let shown = async |node: &Node| {
        let status = node.backend.states.status(&[room.name]).await.unwrap().remove(0).unwrap();
        (status.guests, status.hosts, status.away)
    };
    one.backend.states.set_counts(room.name, counts(1, 1, 0)).await.unwrap();
    other.backend.states.set_counts(room.name, counts(0, 0, 2)).await.unwrap();
    assert_eq!(shown(&one).await, (1, 1, 2));
    let queue = one.cluster().archive.clone();
    let unattended = async || {
        let entries = queue.read(one.backend.log.partition_of(room.name), 10).await.unwrap();
        entries.last().unwrap().unattended
    };
    one.submit_ids(&room, [1]).await;
    assert!(!unattended().await, "a host is present");
    one.backend.states.set_counts(room.name, counts(1, 0, 1)).await.unwrap();
    assert_eq!(shown(&other).await, (1, 0, 3));
    one.submit_ids(&room, [2]).await;
    assert!(unattended().await, "all are away");
    assert!(!one.backend.states.delete_if_empty(room.name, 1).await.unwrap());
    for node in [&one, &other] {
        node.backend.states.set_counts(room.name, counts(0, 0, 0)).await.unwrap();
    }
    assert_eq!(shown(&one).await, (0, 0, 0));
}

async fn rooms_of_a_host_with_unarchived_messages_are_listed_until_sql_is_up_to_date(fixture: Fixture) {
    let node = fixture.node().await;
    let (room, other) = (node.room().await, node.room().await);
    let host = room.host;
    let ahead = async || {
        let mut names = node.cluster().recent.unarchived_rooms(host, 100).await.unwrap();
        names.sort_unstable();
        names
    };
    assert_eq!(ahead().await, []);
    node.submit_ids(&room, 1..=3).await;
    node.submit_ids(&other, 1..=1).await;
    let mut both = [room.name, other.name];
    both.sort_unstable();
    assert_eq!(ahead().await, both);
    assert_eq!(node.cluster().recent.unarchived_rooms(crate::domain::HostId(host.0 + 1), 100).await.unwrap(), []);
    let query = |after, seen| TailQuery { room: room.name, after, through: 3, seen, seen_at: None };
    let tail = async |query| node.cluster().recent.tails(&[query]).await.unwrap().remove(0).unwrap();
    let newest = tail(query(0, 0)).await;
    assert_eq!((newest.unread, newest.newest.frame), (3, frame_of(&guest(&room, "id-3"), 3)));
    assert_eq!(tail(query(1, 0)).await.unread, 2);
    assert_eq!(tail(query(1, 2)).await.unread, 1);
    assert_eq!(tail(query(0, 9)).await.unread, 0);
    let later = Some(newest.newest.accepted_at);
    assert_eq!(tail(TailQuery { seen_at: later, ..query(0, 0) }).await.unread, 0);
    node.accept(&[submission(&room, Side::Host, "mine", "answer", "2023-03-23T08:15:07")]).await;
    assert_eq!(tail(TailQuery { through: 4, ..query(0, 0) }).await.unread, 3, "the host's own are not unread");
    node.archive_through(&fixture.store, &room, 3).await;
    assert_eq!(ahead().await, both, "one message is not in SQL");
    node.archive_through(&fixture.store, &room, 4).await;
    assert_eq!(ahead().await, [other.name]);
    node.submit_ids(&room, 5..=5).await;
    assert_eq!(ahead().await, both);
    node.rooms.change(room.name, RoomChange::Delete).await.unwrap();
    assert_eq!(ahead().await, [other.name]);
    assert_eq!(node.cluster().recent.tails(&[query(0, 0)]).await.unwrap(), [None]);
}

async fn a_long_tail_is_counted_in_steps(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.submit_ids(&room, 1..=1_203).await;
    let query = TailQuery { room: room.name, after: 1, through: 1_203, seen: 0, seen_at: None };
    assert_eq!(node.cluster().recent.tails(&[query]).await.unwrap()[0].as_ref().unwrap().unread, 1_202);
}

async fn an_impossible_time_in_a_log_of_an_earlier_release_is_replaced_on_reading(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    let odd = submission(&room, Side::Guest, "odd", "hi", "2023-13-41T08:15:77");
    node.accept(std::slice::from_ref(&odd)).await;
    let read = node.cluster().recent.log_after(room.name, 0, 10).await.unwrap();
    let wire = crate::domain::WireOffset::default();
    let datetime = wire.repaired(odd.datetime.clone(), read[0].accepted_at);
    assert!(datetime.is_valid());
    let wanted = frame_of(&submission(&room, Side::Guest, "odd", "hi", datetime.as_str()), 1);
    assert_eq!(read[0].frame, wanted);
    assert_eq!(node.newest(&room).await[0].frame, wanted);
    let (_, messages) = node.rooms.messages(&room, 0, 10).await.unwrap();
    assert_eq!(messages[0].datetime, datetime);
    let query = TailQuery { room: room.name, after: 0, through: 1, seen: 0, seen_at: None };
    assert_eq!(node.cluster().recent.tails(&[query]).await.unwrap()[0].as_ref().unwrap().newest.frame, wanted);
    // The second submission returns `Known` without a frame, so the frame must be read from the log.
    assert_eq!(node.accept(&[odd]).await, [Outcome::Known { seq: 1, frame: None }]);
    assert_eq!(node.rooms.original(room.name, 1).await.unwrap(), Some(wanted.clone()));
    node.archive_through(&fixture.store, &room, 1).await;
    let stored = fixture.store.messages().before(room.id, None, 1).await.unwrap();
    assert_eq!(crate::protocol::chat::message_frame(&stored[0]), wanted);
}
