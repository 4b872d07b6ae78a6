//! Tests of room creation, lists, pins and state changes.

use sea_orm::{ConnectionTrait as _, DbBackend, QuerySelect as _, QueryTrait as _, Statement};

use super::*;
use crate::domain::{RoomChange, RoomState};
use crate::store::rooms::list::ListFilter;
use crate::store::{PinOutcome, RoomFilter, StoreError};

on_every_database!(
    a_new_room_is_found_by_row_and_name,
    a_name_is_taken_once,
    ten_calls_with_one_key_open_one_room,
    idempotency_keys_of_different_hosts_are_independent,
    list_shows_pinned_rooms_first_then_the_last_updated,
    the_list_is_searched_by_a_part_of_the_nickname,
    list_of_any_length_is_counted_searched_and_paged,
    of_ten_concurrent_pins_five_succeed,
    a_closed_room_cannot_be_pinned_and_closing_unpins,
    a_change_of_state_raises_the_version_and_leaves_an_event,
    deleted_room_has_no_row_and_its_event_remains,
    concurrent_closes_make_one_event,
    viewing_changes_only_last_checked,
);

async fn a_new_room_is_found_by_row_and_name(store: Store, _url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    assert_eq!((room.last_seq, room.last_epoch.as_deref(), room.state()), (0, Some("life-1"), RoomState::Open));
    assert_eq!(store.rooms().get(room.id).await.unwrap().as_ref(), Some(&room));
    assert_eq!(store.rooms().by_name(room.name).await.unwrap().as_ref(), Some(&room));
    assert_eq!(store.rooms().by_name(random_name()).await.unwrap(), None);
    let swapped: String = room.name.as_str().chars().map(swap_case).collect();
    assert_eq!(store.rooms().by_name(swapped.parse().unwrap()).await.unwrap(), None, "names are case-sensitive");
}

fn swap_case(letter: char) -> char {
    if letter.is_ascii_lowercase() { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() }
}

async fn a_name_is_taken_once(store: Store, _url: String) {
    let host = a_host(&store).await;
    let first = new_room(&host);
    store.rooms().create(first.clone(), noon()).await.unwrap();
    assert_eq!(store.rooms().create(first, noon()).await, Err(StoreError::Conflict));
}

async fn ten_calls_with_one_key_open_one_room(store: Store, _url: String) {
    let host = a_host(&store).await;
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let new = NewRoom { idempotency_key: Some("0123456789abcdef".to_owned()), ..new_room(&host) };
            let store = store.clone();
            tokio::spawn(async move { store.rooms().create(new, noon()).await.unwrap() })
        })
        .collect();
    let mut rooms = Vec::new();
    for call in calls {
        rooms.push(call.await.unwrap());
    }
    assert!(rooms.iter().all(|room| *room == rooms[0]));
    assert_eq!(store.rooms().list(host.id, RoomFilter::default(), 0, 20).await.unwrap().0, 1);
}

async fn idempotency_keys_of_different_hosts_are_independent(store: Store, _url: String) {
    let (one, other) = (a_host(&store).await, store.hosts().create(new_host("b@b.example"), noon()).await.unwrap());
    let with_key = |host: &Host, key: &str| NewRoom { idempotency_key: Some(key.to_owned()), ..new_room(host) };
    let first = store.rooms().create(with_key(&one, "0123456789abcdef"), noon()).await.unwrap();
    for new in [with_key(&other, "0123456789abcdef"), with_key(&one, "0123456789ABCDEF")] {
        assert_ne!(store.rooms().create(new, noon()).await.unwrap().id, first.id);
    }
}

async fn listed(store: &Store, host: &Host, filter: RoomFilter) -> Vec<ChatroomId> {
    let (count, rooms) = store.rooms().list(host.id, filter, 0, 20).await.unwrap();
    assert_eq!(count, rooms.len() as u64);
    rooms.into_iter().map(|room| room.id).collect()
}

async fn list_shows_pinned_rooms_first_then_the_last_updated(store: Store, _url: String) {
    let host = a_host(&store).await;
    let stranger = store.hosts().create(new_host("b@b.example"), noon()).await.unwrap();
    a_room(&store, &stranger).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(a_room(&store, &host).await.id);
    }
    store.rooms().pin(ids[2], true, later(1)).await.unwrap();
    store.rooms().pin(ids[1], true, later(2)).await.unwrap();
    store.messages().archive(&[message(ids[0], 1, "hi")], &[], &[]).await.unwrap();
    store.messages().archive(&[message(ids[2], 2, "hi")], &[], &[]).await.unwrap();
    let wanted = [ids[1], ids[2], ids[0], ids[4], ids[3]];
    assert_eq!(listed(&store, &host, RoomFilter::default()).await, wanted);

    let (count, page) = store.rooms().list(host.id, RoomFilter::default(), 2, 2).await.unwrap();
    assert_eq!((count, page.iter().map(|room| room.id).collect::<Vec<_>>()), (5, wanted[2..4].to_vec()));
    assert_eq!(store.rooms().list(host.id, RoomFilter::default(), 5, 20).await.unwrap(), (5, Vec::new()));
}

async fn the_list_is_searched_by_a_part_of_the_nickname(store: Store, _url: String) {
    let host = a_host(&store).await;
    let named = |guest: &str| NewRoom { guest: guest.to_owned(), ..new_room(&host) };
    let cat = store.rooms().create(named("용감한 고양이"), noon()).await.unwrap();
    let odd = store.rooms().create(named("100% _under! \\ it's"), noon()).await.unwrap();
    let closed = store.rooms().create(named("느긋한 고양이"), noon()).await.unwrap();
    store.rooms().change(closed.name, RoomChange::Close, later(1)).await.unwrap();
    let search = |part: &str, is_closed| RoomFilter { search: Some(part.to_owned()), is_closed };
    assert_eq!(listed(&store, &host, search("고양이", None)).await, [closed.id, cat.id]);
    assert_eq!(listed(&store, &host, search("고양이", Some(true))).await, [closed.id]);
    assert_eq!(listed(&store, &host, search("고양이", Some(false))).await, [cat.id]);
    for part in ["%", "_", "!", "\\", "'", "% _UNDER!"] {
        assert_eq!(listed(&store, &host, search(part, None)).await, [odd.id], "{part}");
    }
    // SQLite ends a pattern at a NUL, and MySQL's collation ignores some characters.
    for part in ["\0", "\0고양이", "고양이\0", "%\0", "\u{1}", "\u{7f}", "\u{85}", "\u{ad}", "\u{200b}", "\u{feff}"]
    {
        assert!(listed(&store, &host, search(part, None)).await.is_empty(), "{part:?}");
    }
    assert_eq!(listed(&store, &host, search("", None)).await.len(), 3);
    assert!(listed(&store, &host, search("호랑이", None)).await.is_empty());
}

/// Creates 12,000 rooms of a host. Every sixth guest is a cat, and one guest is a tiger.
async fn many_rooms(store: &Store, host: &Host) -> Vec<ChatroomId> {
    let tiger =
        store.rooms().create(NewRoom { guest: "드문 호랑이".to_owned(), ..new_room(host) }, later(1)).await.unwrap();
    let digits = "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL \
        SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
    let number = "(12000 - (1000 * a.d + 100 * b.d + 10 * c.d + e.d) - 10000 * f.d)";
    let insert = format!(
        "INSERT INTO chatroom (host_id, guest, name, created_at, updated_at) \
         SELECT host_id, CASE WHEN {number} % 6 = 0 THEN '용감한 고양이' ELSE '느긋한 곰' END, \
         CONCAT('AAAAAAAAAAAAAAAAA', 20000 + {number}), created_at, updated_at \
         FROM chatroom, {digits} a, {digits} b, {digits} c, {digits} e, {digits} f \
         WHERE chatroom.id = {} AND f.d < 2 AND {number} > 1 ORDER BY {number}",
        tiger.id.0
    );
    store.connection().execute_unprepared(&insert).await.unwrap();
    // Rooms updated at the same time are listed by the guest's name, then by descending id: bears are between cats and
    // tigers.
    let ids = ListFilter::of(host.id, &RoomFilter::default()).ids();
    let ids: Vec<i64> = ids.into_tuple().all(store.connection()).await.unwrap();
    ids.into_iter().map(ChatroomId).collect()
}

async fn list_of_any_length_is_counted_searched_and_paged(store: Store, _url: String) {
    let host = a_host(&store).await;
    let all = many_rooms(&store, &host).await;
    assert_eq!(all.len(), 12_000);
    let page = async |filter: RoomFilter, offset, limit| {
        let (count, rooms) = store.rooms().list(host.id, filter, offset, limit).await.unwrap();
        (count, rooms.into_iter().map(|room| room.id).collect::<Vec<_>>())
    };
    for offset in [0, 6_000, 11_990, 12_000] {
        let at = offset as usize;
        let wanted = all[at..(at + 20).min(all.len())].to_vec();
        assert_eq!(page(RoomFilter::default(), offset, 20).await, (12_000, wanted));
    }
    let search = |part: &str| RoomFilter { search: Some(part.to_owned()), is_closed: Some(false) };
    let (cats, first) = page(search("고양이"), 0, 20).await;
    assert_eq!((cats, first.len()), (2_000, 20));
    let (bears, last) = page(search("느긋"), 9_990, 20).await;
    assert_eq!((bears, last.len()), (9_999, 9));
    assert_eq!(page(search("호랑"), 0, 20).await.0, 1);
    assert_eq!(page(search("여우"), 0, 20).await, (0, Vec::new()));
    // Rooms that the caller lists separately are counted but omitted from the page.
    let (count, rooms) = store.rooms().list_except(host.id, RoomFilter::default(), &all[1..3], 0, 2).await.unwrap();
    assert_eq!((count, rooms.iter().map(|room| room.id).collect::<Vec<_>>()), (12_000, vec![all[0], all[3]]));
}

#[tokio::test]
async fn the_list_is_read_from_its_index_alone_and_in_its_order() {
    crate::store::testing::on_fresh(crate::store::Dialect::Sqlite, |store, _| async move {
        let plan = async |statement: String| {
            let statement = Statement::from_string(DbBackend::Sqlite, format!("EXPLAIN QUERY PLAN {statement}"));
            let rows = store.connection().query_all_raw(statement).await.unwrap();
            rows.iter().map(|row| row.try_get::<String>("", "detail").unwrap()).collect::<Vec<_>>().join("; ")
        };
        for is_closed in [None, Some(false), Some(true)] {
            for search in [None, Some("고양이".to_owned())] {
                let listed = ListFilter::of(crate::domain::HostId(1), &RoomFilter { search, is_closed });
                let read = plan(listed.ids().limit(20).build(DbBackend::Sqlite).to_string()).await;
                // Rooms with the same update time may be sorted. The whole list must not be sorted.
                let is_sorted = read.contains("TEMP B-TREE FOR ORDER BY");
                assert!(read.contains("COVERING INDEX chatroom_listed") && !is_sorted, "{read}");
            }
        }
        let empty =
            "SELECT * FROM chatroom WHERE is_empty = TRUE AND created_at < '2023' ORDER BY created_at, id LIMIT 100";
        let read = plan(empty.to_owned()).await;
        assert!(read.contains("INDEX chatroom_empty") && !read.contains("TEMP B-TREE"), "{read}");
    })
    .await;
}

async fn of_ten_concurrent_pins_five_succeed(store: Store, _url: String) {
    let host = a_host(&store).await;
    let mut pins = Vec::new();
    for _ in 0..10 {
        let (store, room) = (store.clone(), a_room(&store, &host).await);
        pins.push(tokio::spawn(async move { store.rooms().pin(room.id, true, later(1)).await.unwrap() }));
    }
    let (mut done, mut too_many) = (Vec::new(), 0);
    for pin in pins {
        match pin.await.unwrap() {
            PinOutcome::Done(room) => done.push(room),
            PinOutcome::TooMany => too_many += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((done.len(), too_many), (5, 5));
    let again = store.rooms().pin(done[0].id, true, later(9)).await.unwrap();
    assert_eq!(again, PinOutcome::Done(done[0].clone()), "pinning again keeps the time of the first pin");
    let PinOutcome::Done(unpinned) = store.rooms().pin(done[0].id, false, later(2)).await.unwrap() else { panic!() };
    assert_eq!((unpinned.is_fixed, unpinned.fixed_at, unpinned.updated_at), (false, None, noon()));
    assert_eq!(store.rooms().get(unpinned.id).await.unwrap(), Some(unpinned));
}

async fn a_closed_room_cannot_be_pinned_and_closing_unpins(store: Store, _url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    store.rooms().pin(room.id, true, later(1)).await.unwrap();
    let closed = store.rooms().change(room.name, RoomChange::Close, later(2)).await.unwrap().unwrap().room;
    assert_eq!((closed.is_fixed, closed.fixed_at), (false, None));
    assert_eq!(store.rooms().pin(room.id, true, later(3)).await.unwrap(), PinOutcome::Closed);
    assert_eq!(store.rooms().pin(ChatroomId(999), true, later(3)).await.unwrap(), PinOutcome::Gone);
}

async fn a_change_of_state_raises_the_version_and_leaves_an_event(store: Store, _url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    let mut expected = Vec::new();
    for (version, change) in [(1, RoomChange::Close), (2, RoomChange::Resume), (3, RoomChange::Close)] {
        let at = later(i64::try_from(version).unwrap());
        let changed = store.rooms().change(room.name, change, at).await.unwrap().unwrap();
        assert_eq!((changed.room.state(), changed.room.state_version), (change.state(), version));
        assert_eq!((changed.room.closed_at, changed.room.updated_at), (changed.room.is_closed.then_some(at), at));
        assert_eq!(store.rooms().get(room.id).await.unwrap(), Some(changed.room));
        let event = changed.event.unwrap();
        assert_eq!((event.version, event.change, event.room, event.created_at), (version, change, room.name, at));
        expected.push(event);

        let again = store.rooms().change(room.name, change, later(50)).await.unwrap().unwrap();
        assert_eq!((again.event, again.room.state_version, again.room.updated_at), (None, version, at));
    }
    assert_eq!(store.rooms().pending_events(later(3), 10).await.unwrap(), expected[..2]);
    assert_eq!(store.rooms().pending_events(later(4), 1).await.unwrap(), expected[..1]);
    for _ in 0..2 {
        store.rooms().finish_event(expected[0].id).await.unwrap();
    }
    assert_eq!(store.rooms().pending_events(later(4), 10).await.unwrap(), expected[1..]);
}

async fn deleted_room_has_no_row_and_its_event_remains(store: Store, _url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    store.messages().archive(&[message(room.id, 1, "hi"), message(room.id, 2, "ho")], &[], &[]).await.unwrap();
    let deleted = store.rooms().change(room.name, RoomChange::Delete, later(1)).await.unwrap().unwrap();
    assert_eq!((deleted.room.id, deleted.room.last_seq), (room.id, 2));
    assert_eq!(deleted.event.unwrap().version, 1);
    assert_eq!(store.rooms().get(room.id).await.unwrap(), None);
    assert_eq!(store.rooms().change(room.name, RoomChange::Delete, later(1)).await.unwrap(), None);
    assert_eq!(store.rooms().pending_events(later(2), 10).await.unwrap()[0].change, RoomChange::Delete);
    assert!(
        store.messages().before(room.id, None, 10).await.unwrap().is_empty(),
        "messages are hidden before their rows are deleted"
    );
    assert_eq!(store.messages().delete_invisible(room.id, 1).await.unwrap(), 1);
    assert_eq!(store.messages().delete_invisible(room.id, 10).await.unwrap(), 1);
    assert_eq!(store.messages().delete_invisible(room.id, 10).await.unwrap(), 0);
}

async fn concurrent_closes_make_one_event(store: Store, _url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    let closes: Vec<_> = (0..8)
        .map(|_| {
            let (store, name) = (store.clone(), room.name);
            tokio::spawn(async move { store.rooms().change(name, RoomChange::Close, later(1)).await.unwrap().unwrap() })
        })
        .collect();
    let mut events = 0;
    for close in closes {
        let changed = close.await.unwrap();
        assert_eq!(changed.room.state_version, 1);
        events += usize::from(changed.event.is_some());
    }
    assert_eq!(events, 1);
}

async fn viewing_changes_only_last_checked(store: Store, _url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    for (at, expected) in [(5, 5), (3, 5), (7, 7)] {
        store.rooms().mark_checked(room.id, 0, later(at)).await.unwrap();
        let checked = store.rooms().get(room.id).await.unwrap().unwrap();
        assert_eq!(checked, Room { last_checked_at: Some(later(expected)), checked_seq: Some(0), ..room.clone() });
    }
}
