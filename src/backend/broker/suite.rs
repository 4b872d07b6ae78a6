//! Tests of the broker's guarantees, run on every driver. [`cluster`] contains tests that need several nodes.

mod cluster;
mod failover;
mod keys;
mod lists;
mod queue;
mod seeding;

use super::testing::{Fixture, SinkCall, frame_of, guest, key_of, numbers, submission};
use super::*;
use crate::domain::Control;
use crate::domain::{RoomChange, RoomName, RoomState, Side};

/// Generates one test per function and Redis deployment. Each test runs the function on that deployment.
macro_rules! on_a_cluster {
    ($($name:ident),* $(,)?) => {
        $crate::backend::redis::testing::on_every_redis!($crate::backend::broker::testing::Fixture::on: $($name),*);
    };
}
use on_a_cluster;

macro_rules! embedded {
    ($module:ident, $database:ident: $($name:ident),*) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::Fixture::embedded(crate::store::testing::Database::$database, super::$name).await;
            })*
        }
    };
}

/// Generates one test per function and driver. Each test runs the function on that driver.
macro_rules! on_every_driver {
    ($($name:ident),* $(,)?) => {
        embedded!(embedded_on_sqlite, Sqlite: $($name),*);
        embedded!(embedded_on_mysql, MySql: $($name),*);
        embedded!(embedded_on_mariadb, MariaDb: $($name),*);
        on_a_cluster!($($name),*);
    };
}

on_every_driver!(
    each_message_of_a_batch_has_a_result_of_its_own,
    publications_arrive_in_order_with_the_exact_frame,
    an_id_is_one_message_within_its_room_and_side,
    an_id_is_known_after_a_restart,
    numbers_of_concurrent_callers_leave_no_hole,
    a_received_publication_can_be_read,
    a_closed_room_rejects_messages_and_keeps_its_numbers_when_resumed,
    a_deleted_room_stays_deleted,
    an_old_change_does_nothing,
    a_repeated_change_has_no_effect,
    notices_are_relayed_and_not_stored,
    account_changes_arrive,
    a_node_counts_its_members,
    an_unknown_room_has_no_status,
);

async fn each_message_of_a_batch_has_a_result_of_its_own(fixture: Fixture) {
    let node = fixture.node().await;
    let one = node.room().await;
    let other = node.room_beside(&one).await;
    let closed = node.room_beside(&one).await;
    node.rooms.change(closed.name, RoomChange::Close).await.unwrap();
    let batch = [
        guest(&one, "a"),
        guest(&other, "a"),
        guest(&closed, "a"),
        guest(&one, "b"),
        guest(&one, "a"),
        guest(&other, "b"),
    ];
    let known = Outcome::Known { seq: 1, frame: Some(frame_of(&batch[0], 1)) };
    assert_eq!(
        node.accept(&batch).await,
        [
            Outcome::Accepted(1),
            Outcome::Accepted(1),
            Outcome::Closed,
            Outcome::Accepted(2),
            known,
            Outcome::Accepted(2)
        ]
    );
}

async fn publications_arrive_in_order_with_the_exact_frame(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    let all: Vec<Submission> = (1..=150).map(|id| guest(&room, &format!("id-{id}"))).collect();
    for batch in all.chunks(40) {
        node.accept(batch).await;
    }
    let calls = node.sink.publications(room.name, 150).await;
    let expected: Vec<_> = (1..).zip(&all).map(|(seq, sent)| (seq - 1, seq, frame_of(sent, seq))).collect();
    assert_eq!(calls, expected);
}

async fn an_id_is_one_message_within_its_room_and_side(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    let other = node.room_beside(&room).await;
    let host = submission(&room, Side::Host, "same", "from the host", "2023-03-23T08:15:07");
    let (first, changed) = (guest(&room, "same"), submission(&room, Side::Guest, "same", "!", "2023-03-23T08:15:07"));
    let outcomes = node.accept(&[first.clone(), host, guest(&other, "same")]).await;
    assert_eq!(outcomes, [Outcome::Accepted(1), Outcome::Accepted(2), Outcome::Accepted(1)]);
    // A submission with a known id returns the frame that was accepted first, even if its own text is different.
    let original = Outcome::Known { seq: 1, frame: Some(frame_of(&first, 1)) };
    assert_eq!(node.accept(&[changed, first.clone()]).await, [original.clone(), original]);
    // The known message is not published again, so the next publication is the next message.
    node.submit_ids(&room, [3]).await;
    let calls: Vec<_> = node.sink.publications(room.name, 3).await.iter().map(|calls| calls.1).collect();
    assert_eq!(calls, [1, 2, 3]);
}

async fn an_id_is_known_after_a_restart(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.submit_ids(&room, 1..=3).await;
    let restarted = fixture.node().await;
    let known = Outcome::Known { seq: 2, frame: Some(frame_of(&guest(&room, "id-2"), 2)) };
    assert_eq!(restarted.accept(&[guest(&room, "id-2"), guest(&room, "id-4")]).await, [known, Outcome::Accepted(4)]);
}

async fn numbers_of_concurrent_callers_leave_no_hole(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    let callers = (0..5_u64).map(|caller| {
        let (node, room) = (node.clone(), room.clone());
        tokio::spawn(async move {
            let mut numbers = Vec::new();
            for call in 0..4 {
                let first = caller * 100 + call * 10;
                numbers.push(node.submit_ids(&room, first..first + 5).await);
            }
            numbers
        })
    });
    let mut all = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        let calls = caller.await.unwrap();
        // A batch is atomic, so its sequence numbers are consecutive. The numbers of a later call are higher.
        assert!(calls.iter().all(|numbers| numbers.windows(2).all(|pair| pair[1] == pair[0] + 1)), "{calls:?}");
        assert!(calls.is_sorted(), "{calls:?}");
        all.extend(calls.into_iter().flatten());
    }
    all.sort_unstable();
    assert_eq!(all, (1..=100).collect::<Vec<_>>());
    let calls = node.sink.publications(room.name, 100).await;
    assert_eq!(calls.iter().map(|calls| (calls.0, calls.1)).collect::<Vec<_>>(), (0..100).zip(1..).collect::<Vec<_>>());
}

async fn a_received_publication_can_be_read(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    for seq in 1..=20 {
        let ((), numbers) = tokio::join!(
            async {
                let calls = node.sink.publications(room.name, seq).await;
                let read = node.history.after(key_of(&room), seq - 1).await.unwrap().entries;
                assert_eq!((read[0].seq, &read[0].frame), (seq, &calls.last().unwrap().2));
            },
            node.submit_ids(&room, [seq])
        );
        assert_eq!(numbers, [seq]);
    }
}

async fn a_closed_room_rejects_messages_and_keeps_its_numbers_when_resumed(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.submit_ids(&room, 1..=2).await;
    node.rooms.change(room.name, RoomChange::Close).await.unwrap();
    // A client treats `Closed` as the notice that the room is closed. `Closed` therefore takes precedence over `Known`.
    assert_eq!(node.accept(&[guest(&room, "id-1"), guest(&room, "id-3")]).await, [Outcome::Closed, Outcome::Closed]);
    assert_eq!(node.backend.states.status(&[room.name]).await.unwrap()[0].as_ref().unwrap().state, RoomState::Closed);

    node.rooms.change(room.name, RoomChange::Resume).await.unwrap();
    let outcomes = node.accept(&[guest(&room, "id-1"), guest(&room, "id-3")]).await;
    assert!(matches!(outcomes[0], Outcome::Known { seq: 1, .. }), "{outcomes:?}");
    assert_eq!(outcomes[1], Outcome::Accepted(3));
    node.sink.publications(room.name, 3).await;
    let changes = node.sink.changes();
    assert_eq!(
        changes.iter().map(|change| (change.change, change.version)).collect::<Vec<_>>(),
        [(RoomChange::Close, 1), (RoomChange::Resume, 2)]
    );
    let notice = std::str::from_utf8(&changes[0].notice).unwrap();
    assert!(notice.contains(r#""message":"closed""#), "{notice}");
}

async fn a_deleted_room_stays_deleted(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    let other = node.room_beside(&room).await;
    node.submit_ids(&room, 1..=2).await;
    node.rooms.change(room.name, RoomChange::Delete).await.unwrap();
    let outcomes = node.accept(&[guest(&room, "id-1"), guest(&other, "id-1"), guest(&room, "id-3")]).await;
    assert_eq!(outcomes, [Outcome::Deleted, Outcome::Accepted(1), Outcome::Deleted]);
    node.sink.publications(other.name, 1).await;
    assert_eq!(node.sink.changes().iter().map(|change| change.change).collect::<Vec<_>>(), [RoomChange::Delete]);
    assert!(node.history.after(key_of(&room), 0).await.unwrap().entries.is_empty());
    assert!(node.newest(&room).await.is_empty());
}

async fn an_old_change_does_nothing(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    for change in [RoomChange::Close, RoomChange::Resume, RoomChange::Close, RoomChange::Resume] {
        node.rooms.change(room.name, change).await.unwrap();
    }
    node.submit_ids(&room, [1]).await;
    node.sink.publications(room.name, 1).await;
    node.sink.clear();
    for version in [1, 3] {
        let change = Change { room: room.name, change: RoomChange::Close, version, notice: "{}".into() };
        node.backend.states.apply(change).await.unwrap();
    }
    node.submit_ids(&room, [2]).await;
    node.sink.publications(room.name, 2).await;
    assert_eq!(node.sink.changes(), []);
    let status = node.backend.states.status(&[room.name]).await.unwrap().remove(0).unwrap();
    assert_eq!((status.state, status.version, status.seq), (RoomState::Open, 4, 2));
}

async fn a_repeated_change_has_no_effect(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.rooms.change(room.name, RoomChange::Close).await.unwrap();
    let change = Change { room: room.name, change: RoomChange::Close, version: 1, notice: "{}".into() };
    node.backend.states.apply(change).await.unwrap();
    let status = node.backend.states.status(&[room.name]).await.unwrap().remove(0).unwrap();
    assert_eq!((status.state, status.version), (RoomState::Closed, 1));
    node.rooms.change(room.name, RoomChange::Resume).await.unwrap();
    assert_eq!(node.submit_ids(&room, [1]).await, [1]);
}

async fn notices_are_relayed_and_not_stored(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    for (from, frame) in [(Side::Guest, "{\"typing\":1}"), (Side::Host, "{}")] {
        node.backend.bus.notify(room.name, from, frame.into()).await.unwrap();
    }
    let calls = node.sink.until("two notices", |calls| calls.len() == 2).await;
    let notice = |from, frame: &'static str| SinkCall::Notice {
        room: room.name,
        from,
        frame: bytes::Bytes::from_static(frame.as_bytes()),
    };
    assert_eq!(calls, [notice(Side::Guest, "{\"typing\":1}"), notice(Side::Host, "{}")]);
    assert!(node.history.after(key_of(&room), 0).await.unwrap().entries.is_empty());
    assert_eq!(node.submit_ids(&room, [1]).await, [1]);
}

async fn account_changes_arrive(fixture: Fixture) {
    let node = fixture.node().await;
    let all = [
        Control::LoginEnded { sid: "sid".into() },
        Control::HostDisabled { host: fixture.host.id },
        Control::ConfigChanged { host: fixture.host.id },
    ];
    for control in all.clone() {
        node.backend.bus.publish_control(control).await.unwrap();
    }
    let calls = node.sink.until("three account changes", |calls| calls.len() == 3).await;
    assert_eq!(calls, all.map(SinkCall::Control));
}

async fn a_node_counts_its_members(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    let status = node.backend.states.set_members(room.name, 2, 1).await.unwrap().unwrap();
    assert_eq!((status.chatroom, status.host, status.guests, status.hosts), (room.id, fixture.host.id, 2, 1));
    node.submit_ids(&room, [1]).await;
    // The numbers are absolute, so setting the same numbers again changes nothing.
    for (guests, hosts) in [(1, 1), (1, 1), (0, 0), (3, 0)] {
        let told = node.backend.states.set_members(room.name, guests, hosts).await.unwrap();
        let asked = node.backend.states.status(&[room.name]).await.unwrap().remove(0);
        assert_eq!(told, asked);
        let status = asked.unwrap();
        assert_eq!((status.guests, status.hosts, status.seq, status.state), (guests, hosts, 1, RoomState::Open));
    }
}

async fn an_unknown_room_has_no_status(fixture: Fixture) {
    let node = fixture.node().await;
    let room = node.room().await;
    let unknown = RoomName::from_random([9; 16]);
    let statuses = node.backend.states.status(&[unknown, room.name]).await.unwrap();
    assert_eq!(statuses.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
    assert_eq!(node.backend.states.set_members(unknown, 1, 0).await.unwrap(), None);
}
