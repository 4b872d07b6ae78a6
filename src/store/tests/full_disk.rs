//! A disk that is full, as SQLite says it: what cannot be committed is refused, and nothing is believed to be.

use sea_orm::ConnectionTrait as _;

use super::*;
use crate::store::Appended;
use crate::store::tests::on_database;

on_database!(sqlite, Sqlite: what_a_full_disk_refused_is_refused_and_the_rest_is_committed);

async fn what_a_full_disk_refused_is_refused_and_the_rest_is_committed(store: Store, _: String) {
    let host = store.create_host(new_host("dev@shop.example"), noon()).await.unwrap();
    let room = a_room(&store, &host).await;
    let message = |at: usize| Append {
        room: room.name,
        side: Side::Guest,
        id: format!("id-{at}").parse().unwrap(),
        text: "가".repeat(2_000),
        datetime: "2026-11-25T10:30:00".parse().unwrap(),
    };
    store.connection().execute_unprepared("PRAGMA max_page_count = 80").await.unwrap();
    let mut accepted = 0;
    while store.append(&[message(accepted)], noon()).await.is_ok() {
        accepted += 1;
        assert!(accepted < 1_000, "the disk is never full");
    }
    // There is room again: the limit was this connection's.
    let room_again = async {
        loop {
            store.connection().execute_unprepared("PRAGMA max_page_count = 1000000").await.unwrap();
            if let Ok(answers) = store.append(&[message(9_999)], noon()).await {
                return answers;
            }
        }
    };
    let answers = tokio::time::timeout(std::time::Duration::from_secs(10), room_again).await.unwrap();
    let [Appended::Accepted { seq, .. }] = answers[..] else { panic!("{answers:?}") };
    assert_eq!(seq, accepted as u64 + 1);
    // Another connection sees what was committed, and only that.
    let stored = store.messages_between(room.id, 0, None, 2_000).await.unwrap();
    assert_eq!(stored.iter().map(|message| message.seq).collect::<Vec<_>>(), (1..=seq).collect::<Vec<_>>());
}
