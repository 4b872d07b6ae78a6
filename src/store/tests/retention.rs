//! Tests that retention purges exactly the messages of rooms that were closed long ago.

use super::*;
use crate::domain::{RoomChange, RoomCounts};
use crate::store::{Appended, PurgedRoom};

on_every_database!(
    room_closed_long_ago_is_kept_without_its_messages,
    open_or_recently_closed_room_keeps_its_messages,
    concurrently_resumed_room_is_purged_completely_or_not_at_all,
    purged_messages_are_not_visible_while_their_rows_exist,
    purged_room_can_be_resumed_and_purged_again,
    rooms_are_purged_in_batches_longest_closed_first,
    room_purged_again_is_not_finished,
    purge_is_not_finished_while_rows_remain,
    room_deleted_during_a_purge_is_ignored,
);

/// Creates a room with messages 1 to `last`, closed at `closed_at`.
async fn a_closed_room(store: &Store, host: &Host, last: Seq, closed_at: DateTime<Utc>) -> Room {
    let room = a_room(store, host).await;
    let messages: Vec<_> = (1..=last).map(|seq| message(room.id, seq, &format!("text {seq}"))).collect();
    store.messages().archive(&messages, &[], &[]).await.unwrap();
    store.rooms().change(room.name, RoomChange::Close, closed_at).await.unwrap().unwrap().room
}

/// Deletes the remaining rows, as the leader's job does.
async fn delete_rows(store: &Store) {
    for room in store.retention().purged(100).await.unwrap() {
        while store.messages().delete_invisible(room.id, 2).await.unwrap() > 0 {}
        assert!(store.retention().finish(room).await.unwrap());
    }
}

async fn seqs(store: &Store, room: &Room) -> Vec<Seq> {
    store.messages().between(room.id, 0, None, 1_000).await.unwrap().iter().map(|message| message.seq).collect()
}

async fn room_closed_long_ago_is_kept_without_its_messages(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_closed_room(&store, &host, 5, later(10_000)).await;
    let room = Room { counts: RoomCounts { messages: 5, unread: 5, through: 5 }, ..room };
    assert_eq!(store.rooms().get(room.id).await.unwrap().as_ref(), Some(&room));
    assert_eq!(store.retention().purge(later(10_000), 10).await, Ok(0), "to the millisecond");
    assert_eq!(store.retention().count_rooms(later(10_001)).await, Ok(1));
    assert_eq!(store.retention().purge(later(10_001), 10).await, Ok(1));
    let purged = store.rooms().get(room.id).await.unwrap().unwrap();
    let expected = Room {
        latest_msg: None,
        latest_msg_at: None,
        purged_through: 5,
        counts: RoomCounts { messages: 0, unread: 0, through: 5 },
        ..room.clone()
    };
    assert_eq!(purged, expected);
    assert_eq!(store.retention().purge(later(99_999), 10).await, Ok(0), "no further messages are due");

    let left = PurgedRoom { id: room.id, name: room.name, through: 5 };
    assert_eq!(
        (store.retention().purged(10).await, store.retention().count_purged_messages().await),
        (Ok(vec![left]), Ok(5))
    );
    delete_rows(&store).await;
    assert_eq!(
        (store.retention().purged(10).await, store.retention().count_purged_messages().await),
        (Ok(Vec::new()), Ok(0))
    );
    assert_eq!(store.messages().newest_ids(room.id, 10).await.unwrap(), [], "the rows were deleted");
    assert_eq!(store.rooms().get(room.id).await.unwrap(), Some(expected));
}

async fn open_or_recently_closed_room_keeps_its_messages(store: Store, _url: String) {
    let host = a_host(&store).await;
    let open = a_room(&store, &host).await;
    store.messages().archive(&[message(open.id, 1, "hi")], &[], &[]).await.unwrap();
    let lately = a_closed_room(&store, &host, 1, later(20_000)).await;
    let resumed = a_closed_room(&store, &host, 1, later(5_000)).await;
    store.rooms().change(resumed.name, RoomChange::Resume, later(6_000)).await.unwrap();
    let empty = a_closed_room(&store, &host, 0, later(5_000)).await;
    assert_eq!(store.retention().purge(later(20_000), 10).await, Ok(0));
    for (room, count) in [(open, 1), (lately, 1), (resumed, 1), (empty, 0)] {
        assert_eq!(seqs(&store, &room).await.len(), count);
        assert_eq!(store.rooms().get(room.id).await.unwrap().unwrap().purged_through, 0);
    }
}

async fn concurrently_resumed_room_is_purged_completely_or_not_at_all(store: Store, _url: String) {
    let host = a_host(&store).await;
    let mut rooms = Vec::new();
    for _ in 0..30 {
        rooms.push(a_closed_room(&store, &host, 3, later(5_000)).await);
    }
    let purging = {
        let store = store.clone();
        tokio::spawn(async move { while store.retention().purge(later(6_000), 5).await.unwrap() > 0 {} })
    };
    let resuming: Vec<_> = rooms
        .iter()
        .map(|room| {
            let (store, name) = (store.clone(), room.name);
            tokio::spawn(async move { store.rooms().change(name, RoomChange::Resume, later(6_000)).await.unwrap() })
        })
        .collect();
    for resumed in resuming {
        resumed.await.unwrap();
    }
    purging.await.unwrap();
    delete_rows(&store).await;
    for room in rooms {
        let row = store.rooms().get(room.id).await.unwrap().unwrap();
        let (whole, taken) = ((0, Some("text 3".to_owned()), 3), (3, None, 0));
        let found = (row.purged_through, row.latest_msg, row.counts.messages);
        assert!(found == whole || found == taken, "{found:?}");
        assert_eq!(seqs(&store, &room).await.len() as u64, row.counts.messages);
    }
}

async fn purged_messages_are_not_visible_while_their_rows_exist(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_closed_room(&store, &host, 5, later(10_000)).await;
    store.retention().purge(later(10_001), 10).await.unwrap();
    store.rooms().change(room.name, RoomChange::Resume, later(20_000)).await.unwrap();
    assert_eq!(store.messages().newest_ids(room.id, 10).await.unwrap().len(), 5, "the rows exist");
    let id = |text: &str| text.parse().unwrap();

    assert!(seqs(&store, &room).await.is_empty());
    assert_eq!(store.messages().between(room.id, 2, Some(4), 10).await.unwrap(), []);
    assert_eq!(store.messages().before(room.id, Some(4), 10).await.unwrap(), []);
    assert_eq!(store.messages().page(room.id, None, 0, 10, usize::MAX).await.unwrap(), []);
    assert_eq!(store.messages().page(room.id, None, 2_000, 10, usize::MAX).await.unwrap(), []);
    assert_eq!(store.messages().by_id(room.id, Side::Guest, &id("id-3")).await.unwrap(), None);
    assert_eq!(store.messages().seq_of_datetime(room.id, "2023-03-23T08:15:77").await.unwrap(), None);
    assert_eq!(store.messages().seq_accepted_at(room.id, later(3_000)).await.unwrap(), None);
    for through in [None, Some(3), Some(5), Some(9)] {
        assert_eq!(store.rooms().count_messages(room.id, through).await.unwrap(), 0);
    }
    let row = store.rooms().get(room.id).await.unwrap().unwrap();
    assert_eq!(store.rooms().count_unread_above(&row, row.purged_through).await.unwrap(), 0);

    // The id of a purged message is not known, so the message is accepted as a new one.
    let again = store.messages().append(&[append(&room, "id-3")], later(30_000)).await.unwrap();
    assert!(matches!(again[0], Appended::Accepted { seq: 6, prev: 5, .. }), "{again:?}");
    // This view precedes the only remaining message. That message stays unread, and purged messages are not counted.
    store.rooms().mark_checked(room.id, 5, later(500)).await.unwrap();
    assert_eq!(
        store.rooms().get(room.id).await.unwrap().unwrap().counts,
        RoomCounts { messages: 1, unread: 1, through: 6 }
    );
    assert_eq!((seqs(&store, &room).await, store.rooms().count_messages(room.id, Some(5)).await), (vec![6], Ok(0)));
}

async fn purged_room_can_be_resumed_and_purged_again(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_closed_room(&store, &host, 3, later(5_000)).await;
    store.retention().purge(later(6_000), 10).await.unwrap();
    // Late messages up to `purged_through` are dropped. Those above it are visible.
    let late = [message(room.id, 2, "late"), message(room.id, 4, "new"), message(room.id, 5, "newer")];
    store.messages().archive(&late, &[], &[]).await.unwrap();
    let row = store.rooms().get(room.id).await.unwrap().unwrap();
    assert_eq!((row.counts.messages, row.counts.unread, row.latest_msg.as_deref()), (2, 2, Some("newer")));
    assert_eq!(seqs(&store, &room).await, [4, 5]);
    delete_rows(&store).await;
    assert_eq!(store.messages().newest_ids(room.id, 10).await.unwrap().len(), 2);
    // The room is still closed, and its closing time has not changed.
    assert_eq!(store.retention().purge(later(6_000), 10).await, Ok(1));
    assert_eq!((seqs(&store, &room).await, store.retention().count_purged_messages().await), (Vec::new(), Ok(2)));
    delete_rows(&store).await;
    assert_eq!(store.messages().newest_ids(room.id, 10).await.unwrap(), []);
}

async fn rooms_are_purged_in_batches_longest_closed_first(store: Store, _url: String) {
    let host = a_host(&store).await;
    let mut rooms = Vec::new();
    for closed_at in [3, 1, 2] {
        rooms.push(a_closed_room(&store, &host, 1, later(closed_at * 1_000)).await);
    }
    for (purged, expected) in [(1, [0, 1, 0]), (1, [0, 1, 1]), (1, [1, 1, 1]), (0, [1, 1, 1])] {
        assert_eq!(store.retention().purge(later(4_000), 1).await, Ok(purged));
        for (room, through) in rooms.iter().zip(expected) {
            assert_eq!(store.rooms().get(room.id).await.unwrap().unwrap().purged_through, through);
        }
    }
    assert_eq!(store.retention().purged(2).await.unwrap().len(), 2);
}

async fn room_purged_again_is_not_finished(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_closed_room(&store, &host, 2, later(5_000)).await;
    store.retention().purge(later(6_000), 10).await.unwrap();
    let early = store.retention().purged(1).await.unwrap()[0];
    store.messages().archive(&[message(room.id, 3, "late")], &[], &[]).await.unwrap();
    store.retention().purge(later(6_000), 10).await.unwrap();
    store.retention().finish(early).await.unwrap();
    assert_eq!(store.retention().purged(1).await.unwrap(), [PurgedRoom { through: 3, ..early }]);
}

async fn room_deleted_during_a_purge_is_ignored(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_closed_room(&store, &host, 2, later(5_000)).await;
    store.retention().purge(later(6_000), 10).await.unwrap();
    store.rooms().change(room.name, RoomChange::Delete, later(7_000)).await.unwrap();
    assert_eq!(
        (store.retention().purged(1).await, store.retention().count_purged_messages().await),
        (Ok(Vec::new()), Ok(0))
    );
    // When the event of the deletion is applied, this call deletes the rows.
    assert_eq!(store.messages().delete_invisible(room.id, 10).await.unwrap(), 2);
}

/// Simulates two concurrent purges. The first purge deletes the rows that the second one has selected.
async fn purge_is_not_finished_while_rows_remain(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_closed_room(&store, &host, 5, later(10_000)).await;
    store.retention().purge(later(10_001), 10).await.unwrap();
    let purged = store.retention().purged(10).await.unwrap().remove(0);
    assert_eq!(store.messages().delete_invisible(room.id, 2).await, Ok(2));
    assert_eq!(store.retention().finish(purged).await, Ok(false));
    assert_eq!(
        (store.retention().purged(10).await, store.retention().count_purged_messages().await),
        (Ok(vec![purged]), Ok(3))
    );
    delete_rows(&store).await;
    assert_eq!(
        (store.retention().purged(10).await, store.retention().count_purged_messages().await),
        (Ok(Vec::new()), Ok(0))
    );
}
