//! Tests of archiving, appending, reading and purging messages.

use std::time::Instant;

use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};

use super::*;
use crate::domain::{RoomChange, RoomKey, RoomName, RoomState};
use crate::store::entity::chatroom;
use crate::store::{Appended, ArchivedRoom, BatchRoom, Dialect, StoreError};

on_every_database!(
    invalid_time_of_an_earlier_release_is_replaced_on_reading,
    archiving_is_idempotent,
    batch_updates_each_room_to_its_newest_message,
    older_message_never_decreases_the_values_of_a_room,
    messages_of_a_deleted_room_are_dropped,
    row_with_another_name_is_not_written_or_read,
    a_number_with_another_message_is_a_conflict,
    concurrent_batches_of_the_same_rooms_are_all_stored,
    archiver_writes_thousands_of_rows_per_second,
    appended_messages_are_numbered_in_order,
    repeated_append_of_an_id_returns_known,
    closed_or_deleted_room_rejects_messages,
    concurrent_appends_leave_no_gap,
    messages_are_read_forwards_backwards_and_by_page,
    purged_messages_are_hidden_and_deleted_in_batches,
    message_is_found_by_wall_clock_and_by_acceptance_time,
    only_a_permanently_rejected_row_is_a_data_error,
);

async fn all(store: &Store, room: ChatroomId) -> Vec<Message> {
    store.messages().between(room, 0, None, 1_000).await.unwrap()
}

fn of_batch(room: &Room, life: &str) -> BatchRoom {
    BatchRoom { key: key_of(room), life: life.to_owned() }
}

fn key_of(room: &Room) -> RoomKey {
    RoomKey { name: room.name, chatroom: room.id }
}

async fn row_with_another_name_is_not_written_or_read(store: Store, _url: String) {
    let host = a_host(&store).await;
    let owner = a_room(&store, &host).await;
    store
        .messages()
        .archive(&[message(owner.id, 1, "of the owner")], &[of_batch(&owner, "life-1")], &[])
        .await
        .unwrap();
    // Simulates a restore of the database: the id of a room in the broker belongs to another room in the database.
    let lost = RoomKey { name: RoomName::from_random([7; 16]), chatroom: owner.id };
    let of_lost = BatchRoom { key: lost, life: "life-1".to_owned() };
    let archived = store.messages().archive(&[message(owner.id, 2, "private")], &[of_lost], &[]).await.unwrap();
    assert!(!archived.rooms[0].exists);
    assert_eq!(all(&store, owner.id).await.len(), 1);
    assert_eq!(store.messages().between(lost, 0, None, 10).await.unwrap(), []);
    assert_eq!(store.messages().before(lost, None, 10).await.unwrap(), []);
    assert_eq!(store.messages().page(lost, None, 0, 10, usize::MAX).await.unwrap(), []);
    assert_eq!(store.rooms().count_messages(lost, None).await.unwrap(), 0);
    assert_eq!(store.messages().seq_of_datetime(lost, "2023-03-23T08:15:77").await.unwrap(), None);
    assert_eq!(store.messages().seq_accepted_at(lost, later(0)).await.unwrap(), None);
    assert_eq!(store.messages().between(key_of(&owner), 0, None, 10).await.unwrap().len(), 1);
    // Changes for the lost room do not affect the owner's row either.
    assert!(!store.contacts().set(lost, "guest@mail.example", "en", later(1)).await.unwrap());
    store.rooms().mark_checked(lost, 9, later(9_000)).await.unwrap();
    store.contacts().mark_seen(lost, 9, later(9_000)).await.unwrap();
    let row = store.rooms().get(owner.id).await.unwrap().unwrap();
    assert_eq!((row.last_checked_at, row.has_contact), (None, false));
}

async fn archiving_is_idempotent(store: Store, _url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    let batch: Vec<_> = (1..=3).map(|seq| message(room.id, seq, "안녕 🙂")).collect();
    let rooms = [of_batch(&room, "life-2")];
    let first = store.messages().archive(&batch, &rooms, &[]).await.unwrap();
    assert_eq!(
        first.rooms,
        [ArchivedRoom { chatroom: room.id, exists: true, state: RoomState::Open, state_version: 0, stored: 0 }]
    );
    let after = store.rooms().get(room.id).await.unwrap();
    for again in [&batch[..], &batch[..1], &batch[1..]] {
        let archived = store.messages().archive(again, &rooms, &[]).await.unwrap();
        let had = ArchivedRoom { stored: 3, ..first.rooms[0] };
        assert_eq!((archived.rooms, archived.conflicts), (vec![had], Vec::new()));
    }
    assert_eq!(store.rooms().get(room.id).await.unwrap(), after);
    assert_eq!(all(&store, room.id).await, batch);
    assert_eq!(store.messages().archive(&[] as &[Message; 0], &[], &[]).await.unwrap().rooms, []);
}

async fn batch_updates_each_room_to_its_newest_message(store: Store, _url: String) {
    let host = a_host(&store).await;
    let (one, other, still) = (a_room(&store, &host).await, a_room(&store, &host).await, a_room(&store, &host).await);
    store.rooms().change(other.name, RoomChange::Close, later(1)).await.unwrap();
    let batch = [message(other.id, 1, "c"), message(one.id, 1, "a"), message(one.id, 2, "b")];
    let archived = store.messages().archive(&batch, &[of_batch(&one, "life-2")], &[]).await.unwrap();
    assert_eq!(archived.rooms.iter().map(|room| room.chatroom).collect::<Vec<_>>(), [one.id, other.id]);
    assert_eq!((archived.rooms[1].state, archived.rooms[1].state_version), (RoomState::Closed, 1));
    let after = store.rooms().get(one.id).await.unwrap().unwrap();
    assert_eq!(
        (after.last_seq, after.latest_msg.as_deref(), after.last_epoch.as_deref()),
        (2, Some("b"), Some("life-2"))
    );
    assert_eq!((after.latest_msg_at, after.updated_at), (Some(later(2_000)), later(2_000)));
    let after = store.rooms().get(other.id).await.unwrap().unwrap();
    assert_eq!((after.last_seq, after.latest_msg.as_deref(), after.last_epoch), (1, Some("c"), None));
    assert_eq!(store.rooms().get(still.id).await.unwrap(), Some(still));
}

async fn older_message_never_decreases_the_values_of_a_room(store: Store, _url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    store.messages().archive(&[message(room.id, 5, "five")], &[of_batch(&room, "life-2")], &[]).await.unwrap();
    let after = store.rooms().get(room.id).await.unwrap();
    store.messages().archive(&[message(room.id, 3, "three")], &[of_batch(&room, "life-1")], &[]).await.unwrap();
    let now = store.rooms().get(room.id).await.unwrap();
    assert_eq!(now.map(|room| Room { counts: after.as_ref().unwrap().counts, ..room }), after);
    assert_eq!(all(&store, room.id).await.iter().map(|message| message.seq).collect::<Vec<_>>(), [3, 5]);

    store.rooms().change(after.unwrap().name, RoomChange::Close, later(9_000)).await.unwrap();
    store.messages().archive(&[message(room.id, 6, "six")], &[], &[]).await.unwrap();
    let after = store.rooms().get(room.id).await.unwrap().unwrap();
    assert_eq!((after.last_seq, after.updated_at, after.latest_msg_at), (6, later(9_000), Some(later(6_000))));
}

async fn messages_of_a_deleted_room_are_dropped(store: Store, _url: String) {
    let host = a_host(&store).await;
    let (kept, left) = (a_room(&store, &host).await, a_room(&store, &host).await);
    store.rooms().change(left.name, RoomChange::Delete, later(1)).await.unwrap();
    let archived =
        store.messages().archive(&[message(left.id, 1, "lost"), message(kept.id, 1, "kept")], &[], &[]).await.unwrap();
    assert_eq!(
        archived.rooms[1],
        ArchivedRoom { chatroom: left.id, exists: false, state: RoomState::Deleted, state_version: 0, stored: 0 }
    );
    assert!(archived.conflicts.is_empty());
    assert_eq!(all(&store, kept.id).await.len(), 1);
    assert_eq!(store.messages().delete_invisible(left.id, 10).await.unwrap(), 0, "no part of the batch was written");
    assert!(!store.messages().archive(&[message(left.id, 1, "lost")], &[], &[]).await.unwrap().rooms[0].exists);
}

async fn a_number_with_another_message_is_a_conflict(store: Store, _url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    store.messages().archive(&[message(room.id, 1, "first")], &[], &[]).await.unwrap();
    let other = Message { id: "another".parse().unwrap(), ..message(room.id, 1, "second") };
    let in_batch = Message { id: "twice".parse().unwrap(), ..message(room.id, 2, "twice") };
    let archived = store.messages().archive(&[other, message(room.id, 2, "two"), in_batch], &[], &[]).await.unwrap();
    let mut conflicts = archived.conflicts;
    conflicts.sort_unstable();
    assert_eq!(conflicts, [(room.id, 1), (room.id, 2)]);
    let texts: Vec<_> = all(&store, room.id).await.into_iter().map(|message| message.text).collect();
    assert_eq!(texts, ["first", "two"]);
}

async fn concurrent_batches_of_the_same_rooms_are_all_stored(store: Store, _url: String) {
    let host = a_host(&store).await;
    let mut rooms = Vec::new();
    for _ in 0..8 {
        rooms.push(a_room(&store, &host).await.id);
    }
    let archivers: Vec<_> = (0..6u64)
        .map(|archiver| {
            let (store, mut rooms) = (store.clone(), rooms.clone());
            // Each archiver writes the rooms in a different order.
            rooms.rotate_left(usize::try_from(archiver).unwrap());
            tokio::spawn(async move {
                for round in 0..5 {
                    let seq = round * 6 + archiver + 1;
                    let batch: Vec<_> = rooms.iter().map(|room| message(*room, seq, "hi")).collect();
                    store.messages().archive(&batch, &[], &[]).await.unwrap();
                }
            })
        })
        .collect();
    for archiver in archivers {
        archiver.await.unwrap();
    }
    for room in rooms {
        assert_eq!(store.rooms().count_messages(room, None).await.unwrap(), 30);
        assert_eq!(store.rooms().get(room).await.unwrap().unwrap().last_seq, 30);
    }
}

/// The required rate is far below that of an idle machine, so that the test also passes on a busy machine. Inserting
/// each row with its own statement would be too slow.
async fn archiver_writes_thousands_of_rows_per_second(store: Store, _url: String) {
    let host = a_host(&store).await;
    let mut rooms = Vec::new();
    for _ in 0..250 {
        rooms.push(a_room(&store, &host).await.id);
    }
    let text = "안녕하세요, 문의드립니다. ".repeat(3);
    let start = Instant::now();
    for round in 0..8 {
        let batch: Vec<_> =
            rooms.iter().flat_map(|room| [1, 2].map(|seq| message(*room, round * 2 + seq, &text))).collect();
        store.messages().archive(&batch, &[], &[]).await.unwrap();
    }
    let rate = 4_000.0 / start.elapsed().as_secs_f64();
    println!("{:?}: {rate:.0} rows/s, batches of 500 over 250 rooms", store.dialect());
    assert!(rate > 1_000.0, "{rate:.0} rows/s");
}

async fn appended_messages_are_numbered_in_order(store: Store, _url: String) {
    let host = a_host(&store).await;
    let (one, other) = (a_room(&store, &host).await, a_room(&store, &host).await);
    let batch = [append(&one, "a"), append(&other, "a"), append(&one, "b")];
    let accepted = |room: &Room, prev, seq| Appended::Accepted { chatroom: room.id, host: host.id, prev, seq };
    assert_eq!(
        store.messages().append(&batch, later(1)).await.unwrap(),
        [accepted(&one, 0, 1), accepted(&other, 0, 1), accepted(&one, 1, 2)]
    );
    assert_eq!(store.messages().append(&[append(&one, "c")], later(2)).await.unwrap(), [accepted(&one, 2, 3)]);
    let after = store.rooms().get(one.id).await.unwrap().unwrap();
    assert_eq!((after.last_seq, after.latest_msg.as_deref()), (3, Some("text of c 🙂")));
    assert_eq!((after.latest_msg_at, after.updated_at), (Some(later(2)), later(2)));
    assert_eq!(store.messages().append(&[], later(2)).await.unwrap(), []);
}

async fn repeated_append_of_an_id_returns_known(store: Store, _url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    let from_host = Append { side: Side::Host, ..append(&room, "a") };
    let batch = [append(&room, "a"), append(&room, "a"), from_host.clone(), append(&room, "A")];
    let answers = store.messages().append(&batch, later(1)).await.unwrap();
    assert!(matches!(answers[0], Appended::Accepted { seq: 1, .. }));
    assert!(matches!(&answers[1], Appended::Known { message } if message.seq == 1), "twice in one batch");
    assert!(matches!(answers[2], Appended::Accepted { seq: 2, .. }), "ids of the two sides are independent");
    assert!(matches!(answers[3], Appended::Accepted { seq: 3, .. }), "ids are case-sensitive");

    let repeated = Append { text: "changed".to_owned(), ..append(&room, "a") };
    let answers = store.messages().append(&[repeated, from_host], later(2)).await.unwrap();
    let stored = all(&store, room.id).await;
    for (answer, original) in answers.iter().zip(&stored) {
        assert_eq!(*answer, Appended::Known { message: original.clone() });
    }
    assert_eq!((stored.len(), stored[0].text.as_str(), stored[0].accepted_at), (3, "text of a 🙂", later(1)));
}

async fn closed_or_deleted_room_rejects_messages(store: Store, _url: String) {
    let host = a_host(&store).await;
    let (open, closed, left) = (a_room(&store, &host).await, a_room(&store, &host).await, a_room(&store, &host).await);
    store.rooms().change(closed.name, RoomChange::Close, later(1)).await.unwrap();
    store.rooms().change(left.name, RoomChange::Delete, later(1)).await.unwrap();
    let batch = [append(&closed, "a"), append(&left, "a"), append(&open, "a")];
    let answers = store.messages().append(&batch, later(2)).await.unwrap();
    assert_eq!(answers[..2], [Appended::Closed, Appended::Deleted]);
    assert!(matches!(answers[2], Appended::Accepted { seq: 1, .. }), "other rooms still accept messages");
    store.rooms().change(closed.name, RoomChange::Resume, later(3)).await.unwrap();
    assert!(matches!(
        store.messages().append(&batch[..1], later(4)).await.unwrap()[0],
        Appended::Accepted { seq: 1, .. }
    ));
}

async fn concurrent_appends_leave_no_gap(store: Store, url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    // The second store acts as another process: the single writer connection of the first store does not serialise its
    // writes.
    let second = Store::connect(&url).await.unwrap();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (store, room) = (if writer % 2 == 0 { store.clone() } else { second.clone() }, room.clone());
            tokio::spawn(async move {
                for round in 0..5 {
                    let batch: Vec<_> = (0..4).map(|n| append(&room, &format!("{writer}-{round}-{n}"))).collect();
                    for answer in store.messages().append(&batch, later(1)).await.unwrap() {
                        assert!(matches!(answer, Appended::Accepted { prev, seq, .. } if seq == prev + 1));
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let seqs: Vec<_> = all(&store, room.id).await.iter().map(|message| message.seq).collect();
    assert_eq!(seqs, (1..=160).collect::<Vec<_>>());
    second.close().await;
}

async fn messages_are_read_forwards_backwards_and_by_page(store: Store, _url: String) {
    let host = a_host(&store).await;
    let (room, other) = (a_room(&store, &host).await, a_room(&store, &host).await);
    let batch: Vec<_> = (1..=9).map(|seq| message(room.id, seq, "hi")).collect();
    store.messages().archive(&batch, &[], &[]).await.unwrap();
    store.messages().archive(&[message(other.id, 1, "elsewhere")], &[], &[]).await.unwrap();
    let seqs = |messages: Vec<Message>| messages.into_iter().map(|message| message.seq).collect::<Vec<_>>();
    assert_eq!(all(&store, room.id).await, batch);
    assert_eq!(seqs(store.messages().between(room.id, 3, Some(5), 10).await.unwrap()), [4, 5]);
    assert_eq!(seqs(store.messages().between(room.id, 3, None, 2).await.unwrap()), [4, 5]);
    assert_eq!(seqs(store.messages().before(room.id, None, 3).await.unwrap()), [9, 8, 7]);
    assert_eq!(seqs(store.messages().before(room.id, Some(3), 5).await.unwrap()), [2, 1]);
    assert_eq!(seqs(store.messages().page(room.id, None, 2, 3, usize::MAX).await.unwrap()), [7, 6, 5]);
    assert_eq!(store.rooms().count_messages(room.id, None).await.unwrap(), 9);
    let ids = store.messages().newest_ids(room.id, 2).await.unwrap();
    assert_eq!(ids, [(Side::Guest, batch[8].id.clone(), 9), (Side::Guest, batch[7].id.clone(), 8)]);
    assert_eq!(store.messages().by_id(room.id, Side::Guest, &batch[4].id).await.unwrap().as_ref(), Some(&batch[4]));
    assert_eq!(store.messages().by_id(room.id, Side::Host, &batch[4].id).await.unwrap(), None);
    assert_eq!(store.messages().between(room.id, u64::MAX, None, 2).await.unwrap(), []);
}

async fn purged_messages_are_hidden_and_deleted_in_batches(store: Store, _url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    let batch: Vec<_> = (1..=5).map(|seq| message(room.id, seq, "hi")).collect();
    store.messages().archive(&batch[..3], &[], &[]).await.unwrap();
    assert_eq!(store.messages().delete_invisible(room.id, 10).await.unwrap(), 0, "visible messages are never deleted");
    // These updates purge the messages as retention does.
    chatroom::Entity::update_many()
        .col_expr(chatroom::Column::PurgedThrough, Expr::col(chatroom::Column::LastSeq))
        .col_expr(chatroom::Column::MessageCount, Expr::value(0))
        .col_expr(chatroom::Column::UnreadCount, Expr::value(0))
        .filter(chatroom::Column::Id.eq(room.id.0))
        .exec(store.connection())
        .await
        .unwrap();
    store.messages().archive(&batch[3..], &[], &[]).await.unwrap();
    assert_eq!(all(&store, room.id).await, batch[3..]);
    assert_eq!(store.messages().before(room.id, Some(5), 9).await.unwrap(), batch[3..4]);
    assert_eq!(store.rooms().count_messages(room.id, None).await.unwrap(), 2);
    assert_eq!(store.messages().delete_invisible(room.id, 2).await.unwrap(), 2);
    assert_eq!(store.messages().delete_invisible(room.id, 2).await.unwrap(), 1);
    store.messages().archive(&batch, &[], &[]).await.unwrap();
    assert_eq!(
        store.messages().delete_invisible(room.id, 2).await.unwrap(),
        0,
        "a late archiver does not restore purged messages"
    );
    assert_eq!(all(&store, room.id).await, batch[3..]);
}

async fn message_is_found_by_wall_clock_and_by_acceptance_time(store: Store, _url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    let at = |seq, datetime: &str| Message { datetime: datetime.parse().unwrap(), ..message(room.id, seq, "hi") };
    let batch = [
        at(1, "2023-03-23T08:15:06.999"),
        at(2, "2023-03-23T08:15:07.123456"),
        at(3, "2023-03-23T08:15:07"),
        at(4, "2023-03-23T08:15:77"),
    ];
    store.messages().archive(&batch, &[], &[]).await.unwrap();
    for (shown, seq) in
        [("2023-03-23T08:15:07", Some(2)), ("2023-03-23T08:15:77", Some(4)), ("2024-03-23T08:15:07", None)]
    {
        assert_eq!(store.messages().seq_of_datetime(room.id, shown).await.unwrap(), seq, "{shown}");
    }
    assert_eq!(store.messages().seq_of_datetime(room.id, "%").await.unwrap(), None);
    for (instant, seq) in [(0, Some(1)), (2_000, Some(2)), (2_001, Some(3)), (4_001, None)] {
        assert_eq!(store.messages().seq_accepted_at(room.id, later(instant)).await.unwrap(), seq, "{instant}");
    }
}

async fn only_a_permanently_rejected_row_is_a_data_error(store: Store, _url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    let batch = [message(room.id, 1, "good"), message(room.id, 2, &"가".repeat(40_000))];
    let archived = store.messages().archive(&batch, &[], &[]).await;
    match store.dialect() {
        Dialect::MySql => {
            assert!(matches!(archived, Err(StoreError::Data(_))), "{archived:?}");
            assert_eq!(all(&store, room.id).await, [], "nothing of the batch was written");
            assert_eq!(store.rooms().get(room.id).await.unwrap(), Some(room));
        }
        // SQLite does not limit the size of the column and accepts the message.
        Dialect::Sqlite => assert_eq!(all(&store, room.id).await, batch),
    }
}

async fn invalid_time_of_an_earlier_release_is_replaced_on_reading(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_room(&store, &host).await;
    let mut odd = message(room.id, 1, "hi");
    odd.datetime = "2023-03-23T08:15:77".parse().unwrap();
    store.messages().archive(&[odd.clone()], &[], &[]).await.unwrap();
    let store = store.with_wire("-03:00".parse().unwrap());
    let read = store.messages().between(room.id, 0, None, 9).await.unwrap().remove(0);
    // At this offset, the wall-clock time of 03:40:01.178 UTC is 00:40:01.178.
    assert_eq!(read.datetime.as_str(), "2023-03-21T00:40:01.178");
    assert_eq!(Message { datetime: odd.datetime.clone(), ..read.clone() }, odd, "nothing else changes");
    let again =
        store.messages().append(&[Append { id: odd.id.clone(), ..append(&room, "x") }], later(9_000)).await.unwrap();
    assert_eq!(again, [Appended::Known { message: read }]);
    // A client that shows the replaced time requests the messages before that time.
    let shown = store.wire().instant(&"2023-03-21T00:40:01".parse().unwrap()).unwrap();
    assert_eq!(store.messages().seq_accepted_at(room.id, shown).await.unwrap(), Some(1));
}
