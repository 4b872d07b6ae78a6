//! Checks that every message is read once and in order, whether it is in the log, the database or both.

use crate::backend::redis::testing::PT;
use futures_util::TryStreamExt as _;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::backend::broker::testing::{Fixture, Node, frame_of, guest, key_of, numbers, submission};
use crate::backend::broker::{Outcome, Submission};
use crate::domain::WallClock;
use crate::domain::{Room, Side};
use crate::store::Dialect;

/// Generates one test per function and broker driver.
macro_rules! on_every_driver {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::Fixture::embedded(super::Dialect::Sqlite, |fixture| super::$name(fixture, false)).await;
            })*
        }
        mod cluster_before_the_archiver {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::Fixture::cluster(super::Dialect::Sqlite, |fixture| super::$name(fixture, false)).await;
            })*
        }
        mod cluster_after_the_archiver {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::Fixture::cluster(super::Dialect::MySql, |fixture| super::$name(fixture, true)).await;
            })*
        }
    };
}

on_every_driver!(
    a_room_is_read_forwards_backwards_and_by_offset,
    an_empty_room_has_no_messages,
    steps_toward_the_present_fit_into_a_frame,
    pages_are_bounded_by_bytes_and_lose_nothing,
    a_wall_clock_selects_the_message_shown_first,
    a_join_frame_is_built_once_until_a_newer_message,
    a_conversation_deleted_while_it_is_read_fails,
);

async fn a_conversation_deleted_while_it_is_read_fails(fixture: Fixture, archived: bool) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.submit_ids(&room, 1..=5).await;
    archive(&fixture, &node, &room, 5, archived).await;
    let mut parts = Box::pin(node.history.whole(key_of(&room)));
    parts.try_next().await.unwrap();
    node.rooms.change(room.name, crate::domain::RoomChange::Delete).await.unwrap();
    assert!(parts.try_collect::<Vec<_>>().await.is_err());
}

async fn a_join_frame_is_built_once_until_a_newer_message(fixture: Fixture, archived: bool) {
    let node = fixture.node().await;
    let room = node.room().await;
    let key = key_of(&room);
    let none = node.history.join_frame(key, 0, None).await.unwrap();
    assert!(none.framed.is_none() && node.history.cached_join_frame(room.name).await.is_none(), "nothing is not kept");
    node.submit_ids(&room, 1..=60).await;
    archive(&fixture, &node, &room, 60, archived).await;
    let first = node.history.join_frame(key, 60, None).await.unwrap();
    assert_eq!((first.first, first.newest), (11, 60));
    assert!(Arc::ptr_eq(&first, &node.history.cached_join_frame(room.name).await.unwrap()));
    node.submit_ids(&room, [61]).await;
    let second = node.history.join_frame(key, 61, None).await.unwrap();
    assert_eq!((second.first, second.newest), (12, 61));
    assert!(Arc::ptr_eq(&second, &node.history.cached_join_frame(room.name).await.unwrap()));
}

/// Reads all messages after a sequence number step by step.
async fn all_after(node: &Node, room: &Room, after: Seq) -> Vec<Seq> {
    let (mut at, mut read) = (after, Vec::new());
    loop {
        let step = node.history.after(key_of(room), at).await.unwrap();
        for entry in &step.entries {
            assert_eq!(entry.frame, frame_of(&guest(room, &format!("id-{}", entry.seq)), entry.seq));
        }
        read.extend(numbers(&step.entries));
        at = read.last().copied().unwrap_or(after);
        if !step.more {
            return read;
        }
    }
}

/// Checks every read operation on a room with the messages `1..=count`.
async fn check(node: &Node, room: &Room, count: Seq, at: Seq) {
    assert_eq!(all_after(node, room, 0).await, (1..=count).collect::<Vec<_>>(), "all after 0");
    assert_eq!(all_after(node, room, at).await, (at + 1..=count).collect::<Vec<_>>(), "all after {at}");
    let whole: Vec<Vec<_>> = node.history.whole(key_of(room)).try_collect().await.unwrap();
    let whole: Vec<_> = whole.into_iter().flatten().map(|message| message.seq).collect();
    assert_eq!(whole, (1..=count).collect::<Vec<_>>(), "the whole");
    let page = PAGE as u64;
    let newest = numbers(&node.newest(room).await);
    assert_eq!(newest, (count.saturating_sub(page) + 1..=count).collect::<Vec<_>>(), "the newest");
    for before in [at, at + 1, count + 1, 1, 0] {
        let below = before.min(count + 1);
        let expected: Vec<_> = (below.saturating_sub(page).max(1)..below).rev().collect();
        let page = numbers(&node.history.before(key_of(room), before).await.unwrap());
        assert_eq!(page, expected, "before {before}");
    }
    for (offset, limit) in [(0, 20), (at, 20), (count.saturating_sub(3), 20), (count, 20), (0, 1_000)] {
        let (total, page) = node.history.by_offset(key_of(room), offset, limit).await.unwrap();
        let expected: Vec<_> = (1..=count).rev().skip(offset as usize).take(limit as usize).collect();
        let page: Vec<_> = page.iter().map(|message| message.seq).collect();
        assert_eq!((total, page), (count, expected), "offset {offset}, limit {limit}");
    }
}

async fn archive(fixture: &Fixture, node: &Node, room: &Room, through: Seq, archived: bool) {
    if archived {
        node.archive_through(&fixture.store, room, through).await;
    }
}

async fn a_room_is_read_forwards_backwards_and_by_offset(fixture: Fixture, archived: bool) {
    let node = fixture.node().await;
    let room = node.room().await;
    node.submit_ids(&room, 1..=300).await;
    archive(&fixture, &node, &room, 300, archived).await;
    for at in [0, 49, 50, 127, 128, 299, 300] {
        check(&node, &room, 300, at).await;
    }
}

async fn an_empty_room_has_no_messages(fixture: Fixture, _: bool) {
    let node = fixture.node().await;
    for room in [node.room().await, node.unseeded_room().await] {
        check(&node, &room, 0, 0).await;
        assert!(node.history.after(key_of(&room), 7).await.unwrap().entries.is_empty());
    }
}

async fn steps_toward_the_present_fit_into_a_frame(fixture: Fixture, archived: bool) {
    let node = fixture.node().await;
    let room = node.room().await;
    let long =
        |id: u64| submission(&room, Side::Guest, &format!("id-{id}"), &"한".repeat(2_000), "2023-03-23T08:15:07.123");
    let all: Vec<Submission> = (1..=60).map(long).collect();
    for batch in all.chunks(20) {
        node.accept(batch).await;
    }
    archive(&fixture, &node, &room, 60, archived).await;
    let (mut at, mut steps) = (0, 0);
    loop {
        let step = node.history.after(key_of(&room), at).await.unwrap();
        let frames = step.entries.iter().map(|entry| &*entry.frame);
        let size = crate::protocol::chat::history_frame(frames, step.more).len();
        assert!(size <= 128 * 1024, "{size}");
        for entry in &step.entries {
            assert_eq!(entry.seq, at + 1);
            at = entry.seq;
        }
        steps += 1;
        if !step.more {
            break;
        }
    }
    assert_eq!((at, steps), (60, 3));
}

async fn pages_are_bounded_by_bytes_and_lose_nothing(fixture: Fixture, archived: bool) {
    let node = fixture.node().await;
    let room = node.room().await;
    let key = key_of(&room);
    // Each message has 30 KB. Without the limit in bytes, a page of [`PAGE`] messages would have 1.5 MB.
    let long =
        |id: u64| submission(&room, Side::Guest, &format!("id-{id}"), &"x".repeat(30_000), "2023-03-23T08:15:07");
    for id in 1..=80 {
        node.accept(&[long(id)]).await;
    }
    archive(&fixture, &node, &room, 80, archived).await;
    let of_frame = |entries: &[LogEntry]| entries.iter().map(|entry| entry.frame.len()).sum::<usize>() <= 240 * 1024;
    let newest = node.newest(&room).await;
    assert!(of_frame(&newest) && numbers(&newest) == (73..=80).collect::<Vec<_>>(), "{:?}", numbers(&newest));
    let (mut before, mut read) = (81, Vec::new());
    while before > 1 {
        let page = node.history.before(key, before).await.unwrap();
        assert!(of_frame(&page));
        read.extend(numbers(&page));
        before = page.last().unwrap().seq;
    }
    assert_eq!(read, (1..=80).rev().collect::<Vec<_>>());
    let (mut offset, mut read) = (0, Vec::new());
    while offset < 80 {
        let (count, page) = node.history.by_offset(key, offset, 1_000).await.unwrap();
        assert_eq!(count, 80);
        assert!(page.iter().map(|message| message.text.len()).sum::<usize>() <= 1024 * 1024);
        offset += page.len() as u64;
        read.extend(page.iter().map(|message| message.seq));
    }
    assert_eq!(read, (1..=80).rev().collect::<Vec<_>>());
    let whole: Vec<Vec<_>> = node.history.whole(key).try_collect().await.unwrap();
    assert_eq!(
        whole.into_iter().flatten().map(|message| message.seq).collect::<Vec<_>>(),
        (1..=80).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_sql_is_unavailable_a_page_ends_where_the_log_does() {
    Fixture::cluster(Dialect::Sqlite, |fixture| async move {
        let node = fixture.node().await;
        let room = node.room().await;
        let key = key_of(&room);
        node.submit_ids(&room, 1..=200).await;
        node.archive_through(&fixture.store, &room, 100).await;
        let log = format!("{PT}{{{}}}:log:{}", node.backend.log.partition_of(room.name).0, room.name);
        let _: u64 = node.redis().raw("XTRIM", &[&log, "MINID", "91-0"]).await;
        // The database has no tables, so every query fails.
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/db.sqlite", folder.path().display());
        let history = History::new(&node.backend, crate::store::Store::connect_lazy(&url).await.unwrap());
        let before = |seq| {
            let history = &history;
            async move { history.before(key, seq).await.map(|page| numbers(&page)) }
        };
        assert_eq!(before(201).await.unwrap(), (151..=200).rev().collect::<Vec<_>>());
        assert_eq!(before(101).await.unwrap(), (91..=100).rev().collect::<Vec<_>>());
        assert!(before(91).await.is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_only_the_log_has_are_found_by_their_wall_clock() {
    Fixture::cluster(Dialect::Sqlite, |fixture| async move {
        let node = fixture.node().await;
        let room = node.room().await;
        let key = key_of(&room);
        for seq in 1..=1_000_u64 {
            let clock = format!("2023-03-23T08:{:02}:{:02}", seq / 60, seq % 60);
            node.accept(&[submission(&room, Side::Guest, &format!("id-{seq}"), "hi", &clock)]).await;
        }
        node.archive_through(&fixture.store, &room, 100).await;
        for seq in [1_u64, 99, 100, 101, 116, 117, 356, 357, 999, 1_000] {
            let shown: WallClock = format!("2023-03-23T08:{:02}:{:02}", seq / 60, seq % 60).parse().unwrap();
            assert_eq!(node.history.find(key, &shown, None, None).await.unwrap(), Some(seq));
        }
        let (count, page) = node.history.by_offset(key, 890, 20).await.unwrap();
        let read: Vec<_> = page.iter().map(|message| message.seq).collect();
        assert_eq!((count, read), (1_000, (91..=110).rev().collect()));
    })
    .await;
}

async fn a_wall_clock_selects_the_message_shown_first(fixture: Fixture, archived: bool) {
    let node = fixture.node().await;
    let room = node.room().await;
    let clocks = ["2023-03-23T08:15:07.9", "2023-03-23T08:15:08", "2023-03-23T08:15:07.123", "2023-03-23T08:15:09"];
    for (seq, clock) in (1..).zip(clocks) {
        let message = submission(&room, Side::Guest, &format!("id-{seq}"), "hi", clock);
        assert_eq!(node.accept(&[message]).await, [Outcome::Accepted(seq)]);
    }
    archive(&fixture, &node, &room, 4, archived).await;
    let shown = |clock: &str| clock.parse::<WallClock>().unwrap();
    let find = |clock: &str, oldest, instant| {
        let (node, room, clock) = (&node, key_of(&room), shown(clock));
        async move { node.history.find(room, &clock, oldest, instant).await.unwrap() }
    };
    // `find` returns the oldest message sent to this socket if it has the wall-clock time. Otherwise it returns the
    // oldest message with that time.
    assert_eq!(find("2023-03-23T08:15:07", Some(3), None).await, Some(3));
    assert_eq!(find("2023-03-23T08:15:07", Some(4), None).await, Some(1));
    assert_eq!(find("2023-03-23T08:15:07", None, None).await, Some(1));
    assert_eq!(find("2023-03-23T08:15:09", Some(1), None).await, Some(4));
    // No message has the wall-clock time, so `find` uses the time of acceptance.
    let second = node.history.after(key_of(&room), 1).await.unwrap().entries[0].accepted_at;
    let found = find("2020-01-01T00:00:00", Some(4), Some(second)).await.unwrap();
    assert!(found <= 2, "{found}");
    assert_eq!(find("2020-01-01T00:00:00", None, Some(room.created_at - chrono::TimeDelta::days(1))).await, Some(1));
    assert_eq!(find("2040-01-01T00:00:00", None, Some(second + chrono::TimeDelta::days(1))).await, None);
    assert_eq!(find("2040-01-01T00:00:00", None, None).await, None);
}

/// Distribution of the messages of a room over the database and the log, as fractions. The first `archived` of `count`
/// messages are in the database. The first `trimmed` of the archived messages, and those at `holes`, are missing from
/// the log.
#[derive(Clone, Debug)]
struct Split {
    count: Seq,
    archived: f64,
    trimmed: f64,
    holes: Vec<f64>,
    at: f64,
}

fn splits() -> impl Strategy<Value = Split> {
    let share = || prop_oneof![Just(0.0), Just(1.0), 0.0..1.0];
    (1..220_u64, share(), share(), proptest::collection::vec(0.0..1.0, 0..4), share())
        .prop_map(|(count, archived, trimmed, holes, at)| Split { count, archived, trimmed, holes, at })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_is_read_once_in_order_from_either_store() {
    Fixture::cluster(Dialect::Sqlite, |fixture| async move {
        let node = fixture.node().await;
        let handle = tokio::runtime::Handle::current();
        let cases = tokio::task::spawn_blocking(move || {
            let config = Config { cases: 40, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
            TestRunner::new(config).run(&splits(), |split| {
                handle.block_on(a_split_room_is_whole(&fixture, &node, split));
                Ok(())
            })
        });
        cases.await.unwrap().unwrap();
    })
    .await;
}

async fn a_split_room_is_whole(fixture: &Fixture, node: &Node, split: Split) {
    let room = node.room().await;
    let of = |share: f64, whole: Seq| (share * whole as f64) as Seq;
    node.submit_ids(&room, 1..=split.count).await;
    let archived = of(split.archived, split.count);
    if archived > 0 {
        node.archive_through(&fixture.store, &room, archived).await;
    }
    // Only messages that are in the database are missing from the log: they were trimmed, or they belong to an earlier
    // epoch of Redis.
    let log = format!("{PT}{{{}}}:log:{}", node.backend.log.partition_of(room.name).0, room.name);
    let trimmed = of(split.trimmed, archived);
    let _: u64 = node.redis().raw("XTRIM", &[&log, "MINID", &format!("{}-0", trimmed + 1)]).await;
    let holes = split.holes.iter().map(|hole| of(*hole, archived)).filter(|hole| *hole > 0 && *hole < split.count);
    for hole in holes {
        let _: u64 = node.redis().raw("XDEL", &[&log, &format!("{hole}-0")]).await;
    }
    check(node, &room, split.count, of(split.at, split.count)).await;
}
