//! Tests of the message counts stored in the room row.

use std::time::{Duration, Instant};

use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};

use super::*;
use crate::domain::RoomCounts;
use crate::store::RoomFilter;
use crate::store::entity::chatroom;

on_every_database!(
    every_written_message_is_counted_once,
    viewing_marks_seen_messages_as_read,
    messages_of_an_earlier_release_are_counted_on_demand,
    view_of_an_earlier_release_counts_by_its_time,
    page_is_located_by_number_and_across_gaps_by_skipping,
    large_rooms_and_long_lists_are_listed_quickly,
);

async fn counts(store: &Store, room: &Room) -> (u64, u64, Seq) {
    let RoomCounts { messages, unread, through } = store.rooms().get(room.id).await.unwrap().unwrap().counts;
    assert_eq!(store.rooms().count_messages(room.id, None).await.unwrap(), messages);
    (messages, unread, through)
}

async fn every_written_message_is_counted_once(store: Store, _url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    assert_eq!(counts(&store, &room).await, (0, 0, 0));
    let from_host = |seq| Message { side: Side::Host, ..message(room.id, seq, "hi") };
    let batch = [message(room.id, 5, "a"), from_host(6), message(room.id, 7, "b")];
    store.messages().archive(&batch, &[], &[]).await.unwrap();
    assert_eq!(counts(&store, &room).await, (3, 2, 7));
    store.messages().archive(&batch, &[], &[]).await.unwrap();
    assert_eq!(counts(&store, &room).await, (3, 2, 7));
    // The batch contains late messages and a message that is already stored.
    store
        .messages()
        .archive(&[message(room.id, 3, "late"), from_host(4), message(room.id, 5, "a")], &[], &[])
        .await
        .unwrap();
    assert_eq!(counts(&store, &room).await, (5, 3, 7));
    store.messages().append(&[append(&room, "x"), append(&room, "x"), append(&room, "y")], later(1)).await.unwrap();
    assert_eq!(counts(&store, &room).await, (7, 5, 9));
    for (through, count) in [(9, 7), (8, 6), (7, 5), (4, 2), (2, 0), (0, 0), (99, 7)] {
        assert_eq!(store.rooms().count_messages(room.id, Some(through)).await.unwrap(), count, "through {through}");
    }
    assert_eq!(store.rooms().count_messages(ChatroomId(99), None).await.unwrap(), 0);
}

async fn viewing_marks_seen_messages_as_read(store: Store, _url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    let batch: Vec<_> = (1..=4).map(|seq| message(room.id, seq, "hi")).collect();
    store.messages().archive(&batch, &[], &[]).await.unwrap();
    store.rooms().mark_checked(room.id, 2, later(2_500)).await.unwrap();
    assert_eq!(counts(&store, &room).await, (4, 2, 4));
    store.rooms().mark_checked(room.id, 1, later(1_500)).await.unwrap();
    assert_eq!(counts(&store, &room).await, (4, 2, 4), "an earlier view changes nothing");
    store.rooms().mark_checked(room.id, 5, later(4_000)).await.unwrap();
    assert_eq!(counts(&store, &room).await, (4, 0, 4));
    // The batch contains a message that the host saw before it was archived, and a new one. The clock that timestamps
    // messages is behind.
    let early = Message { accepted_at: later(1), ..message(room.id, 5, "hi") };
    store
        .messages()
        .archive(&[early.clone(), Message { seq: 6, id: "late".parse().unwrap(), ..early }], &[], &[])
        .await
        .unwrap();
    assert_eq!(counts(&store, &room).await, (6, 1, 6));
    store.rooms().mark_checked(ChatroomId(99), 1, later(1)).await.unwrap();
}

async fn messages_of_an_earlier_release_are_counted_on_demand(store: Store, _url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    store.rooms().mark_checked(room.id, 1, later(1_000)).await.unwrap();
    store
        .messages()
        .archive(&(1..=3).map(|seq| message(room.id, seq, "hi")).collect::<Vec<_>>(), &[], &[])
        .await
        .unwrap();
    let forget = || {
        chatroom::Entity::update_many()
            .col_expr(chatroom::Column::MessageCount, 0.into())
            .col_expr(chatroom::Column::UnreadCount, 0.into())
            .col_expr(chatroom::Column::CountedThrough, 0.into())
            .filter(chatroom::Column::Id.eq(room.id.0))
            .exec(store.connection())
    };
    forget().await.unwrap();
    assert_eq!(store.rooms().count_messages(room.id, None).await.unwrap(), 3);
    assert_eq!(store.rooms().count_messages(room.id, Some(2)).await.unwrap(), 2);
    let row = store.rooms().get(room.id).await.unwrap().unwrap();
    assert_eq!(store.rooms().count_unread_above(&row, 0).await.unwrap(), 2);
    store.messages().archive(&[message(room.id, 4, "hi")], &[], &[]).await.unwrap();
    assert_eq!(counts(&store, &room).await, (4, 3, 4));
    forget().await.unwrap();
    store.messages().append(&[append(&room, "x")], later(9_000)).await.unwrap();
    assert_eq!(counts(&store, &room).await, (5, 4, 5));
}

async fn view_of_an_earlier_release_counts_by_its_time(store: Store, _url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    store
        .messages()
        .archive(&(1..=3).map(|seq| message(room.id, seq, "hi")).collect::<Vec<_>>(), &[], &[])
        .await
        .unwrap();
    chatroom::Entity::update_many()
        .col_expr(chatroom::Column::LastCheckedAt, later(2_000).into())
        .col_expr(chatroom::Column::UnreadCount, 1.into())
        .filter(chatroom::Column::Id.eq(room.id.0))
        .exec(store.connection())
        .await
        .unwrap();
    let late = Message { accepted_at: later(1_999), ..message(room.id, 4, "hi") };
    store.messages().archive(&[late, message(room.id, 5, "hi")], &[], &[]).await.unwrap();
    assert_eq!(counts(&store, &room).await, (5, 2, 5));
    // A host who was not admitted has seen no further messages.
    store.rooms().mark_checked(room.id, 0, later(9_000)).await.unwrap();
    assert_eq!(counts(&store, &room).await, (5, 1, 5));
    assert_eq!(store.rooms().get(room.id).await.unwrap().unwrap().checked_seq, Some(4));
}

async fn page_is_located_by_number_and_across_gaps_by_skipping(store: Store, _url: String) {
    let host = a_host(&store).await;
    let (dense, skipped) = (a_room(&store, &host).await, a_room(&store, &host).await);
    let all = |room: &Room, skip: u64| {
        (1..=1_500).map(|seq| message(room.id, if seq > 700 { seq + skip } else { seq }, "hi")).collect::<Vec<_>>()
    };
    store.messages().archive(&all(&dense, 0), &[], &[]).await.unwrap();
    store.messages().archive(&all(&skipped, 10_000), &[], &[]).await.unwrap();
    for (room, all) in [(&dense, all(&dense, 0)), (&skipped, all(&skipped, 10_000))] {
        for offset in [0, 999, 1_000, 1_200, 1_495, 1_500, 9_999] {
            let expected: Vec<_> = all.iter().rev().skip(offset).take(10).map(|message| message.seq).collect();
            let page = store.messages().page(room.id, None, offset as u64, 10, usize::MAX).await.unwrap();
            assert_eq!(page.iter().map(|message| message.seq).collect::<Vec<_>>(), expected, "offset {offset}");
        }
        let through = all[1_400].seq;
        let page = store.messages().page(room.id, Some(through), 1_100, 2, usize::MAX).await.unwrap();
        assert_eq!(page, [all[300].clone(), all[299].clone()]);
    }
}

/// Tests that no rows are counted or skipped, because that would take many times as long. Only the fastest of several
/// runs is compared, so that other load on the machine has no effect.
async fn large_rooms_and_long_lists_are_listed_quickly(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_room(&store, &host).await;
    for _ in 1..999 {
        a_room(&store, &host).await;
    }
    for batch in (1..=100_000).collect::<Vec<Seq>>().chunks(5_000) {
        store
            .messages()
            .archive(&batch.iter().map(|seq| message(room.id, *seq, "hi")).collect::<Vec<_>>(), &[], &[])
            .await
            .unwrap();
    }
    // This room has a gap in its sequence numbers, as after a failover: above 60,000, sequence numbers differ from
    // positions.
    let skipped = a_room(&store, &host).await;
    for batch in (1..=100_000).collect::<Vec<Seq>>().chunks(5_000) {
        let numbered = |seq: &Seq| message(skipped.id, if *seq > 60_000 { seq + 10_000 } else { *seq }, "hi");
        store.messages().archive(&batch.iter().map(numbered).collect::<Vec<_>>(), &[], &[]).await.unwrap();
    }
    let mut fastest = [Duration::MAX; 6];
    for _ in 0..5 {
        let began = Instant::now();
        assert_eq!(store.rooms().count_messages(room.id, None).await.unwrap(), 100_000);
        let counted = Instant::now();
        assert_eq!(store.messages().page(room.id, None, 99_950, 50, usize::MAX).await.unwrap().len(), 50);
        let paged = Instant::now();
        let (count, rooms) = store.rooms().list(host.id, RoomFilter::default(), 0, 20).await.unwrap();
        assert_eq!((count, rooms[0].counts.unread), (1_000, 100_000));
        let listed = Instant::now();
        store
            .rooms()
            .list(host.id, RoomFilter { search: Some("고양이".into()), is_closed: Some(false) }, 980, 20)
            .await
            .unwrap();
        let searched = Instant::now();
        assert_eq!(store.messages().page(skipped.id, None, 50_000, 50, usize::MAX).await.unwrap()[0].seq, 50_000);
        let walked = Instant::now();
        assert_eq!(store.messages().seq_of_datetime(room.id, "2023-03-23T08:15:78").await.unwrap(), None);
        let found = walked.elapsed();
        assert_eq!(store.messages().seq_accepted_at(room.id, later(70_000_000)).await.unwrap(), Some(70_000));
        let spans = [counted - began, paged - counted, listed - paged, searched - listed, walked - searched, found];
        fastest.iter_mut().zip(spans).for_each(|(fastest, span)| *fastest = Ord::min(*fastest, span));
    }
    println!("{:?}: counted, paged, listed, searched, walked, found in {fastest:?}", store.dialect());
    let [counted, paged, listed, searched, walked, found] = fastest;
    for span in [counted, paged, listed, searched, found] {
        assert!(span < Duration::from_millis(20), "{fastest:?}");
    }
    assert!(walked < Duration::from_millis(200), "{walked:?}: the rows on the way are not read");
}
