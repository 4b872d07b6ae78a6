//! Tests with SQLite on a full disk: rejected messages are not stored, and accepted messages are stored.

use std::time::Duration;

use sea_orm::ConnectionTrait as _;

use super::*;
use crate::domain::StoreCause;
use crate::store::Appended;
use crate::store::tests::on_database;

on_database!(
    sqlite, Sqlite:
    writes_rejected_by_a_full_disk_are_not_stored_and_all_others_are,
    full_disk_is_detected_at_once_and_its_end_within_five_seconds
);

async fn full_disk_is_detected_at_once_and_its_end_within_five_seconds(store: Store, _: String) {
    let host = store.hosts().create(new_host("dev@shop.example"), noon()).await.unwrap();
    let room = a_room(&store, &host).await;
    let limit = async || {
        store.connection().execute_unprepared("PRAGMA max_page_count = 60").await.unwrap();
    };
    limit().await;
    let mut at = 0;
    loop {
        let text = "가".repeat(2_000);
        at += 1;
        if store.messages().append(&[Append { text, ..append(&room, &format!("id-{at}")) }], noon()).await.is_err() {
            break;
        }
        assert_eq!(*store.condition().borrow(), None);
    }
    assert_eq!(*store.condition().borrow(), Some(StoreCause::Full));
    // The limit is set in each round, because a rejected write closes its connection and a new connection has no limit.
    for _ in 0..3 {
        limit().await;
        assert_eq!(store.probe().await.map_err(|fault| fault.cause), Err(StoreCause::Full));
    }
    let stop = tokio_util::sync::CancellationToken::new();
    let monitor = tokio::spawn(store.clone().monitor(stop.clone()));
    let mut condition = store.condition();
    let ended = tokio::time::timeout(Duration::from_secs(5), condition.wait_for(Option::is_none)).await.is_ok();
    assert!(ended, "the disk has free space again");
    store.messages().append(&[append(&room, "after")], noon()).await.unwrap();
    stop.cancel();
    monitor.await.unwrap();
}

async fn writes_rejected_by_a_full_disk_are_not_stored_and_all_others_are(store: Store, _: String) {
    let host = store.hosts().create(new_host("dev@shop.example"), noon()).await.unwrap();
    let room = a_room(&store, &host).await;
    let message = |at: usize| Append {
        room: room.name,
        side: Side::Guest,
        id: format!("id-{at}").parse().unwrap(),
        text: "가".repeat(2_000),
        datetime: "2026-11-25T10:30:00".parse().unwrap(),
        unattended: false,
    };
    let limit = async |pages: u32| {
        let pragma = format!("PRAGMA max_page_count = {pages}");
        store.connection().execute_unprepared(&pragma).await.unwrap();
    };
    let (mut at, mut accepted, mut refused) = (0, Vec::new(), 0);
    let mut append = async |count: usize, refused: &mut usize| {
        let batch: Vec<Append> = (at..at + count).map(message).collect();
        at += count;
        match store.messages().append(&batch, noon()).await {
            Ok(answers) => accepted.extend(answers),
            Err(_) => *refused += 1,
        }
    };
    // The disk becomes full repeatedly, in the middle and at the end of a batch. In between, the disk has free space.
    for round in 0..6 {
        limit(60).await;
        while refused <= 2 * round {
            append(1, &mut refused).await;
        }
        limit(60).await;
        append(64, &mut refused).await;
        limit(1_000_000).await;
        for _ in 0..3 {
            append(1, &mut refused).await;
        }
    }
    let numbers: Vec<Seq> = accepted
        .iter()
        .map(|answer| match answer {
            Appended::Accepted { seq, .. } => *seq,
            other => panic!("{other:?}"),
        })
        .collect();
    // Another connection sees exactly the accepted messages.
    let stored = store.messages().between(room.id, 0, None, 5_000).await.unwrap();
    assert_eq!(stored.iter().map(|message| message.seq).collect::<Vec<_>>(), numbers);
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}
