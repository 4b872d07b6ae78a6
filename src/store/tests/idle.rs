//! Tests of the selection of idle rooms and of rooms without messages.

use super::*;
use crate::domain::{RoomChange, RoomState};

on_every_database!(
    a_room_is_idle_after_its_last_message_or_change,
    an_idle_room_is_closed_like_any_other_and_only_while_it_is_idle,
    all_idle_rooms_are_listed_page_by_page,
    a_room_is_empty_until_its_first_message_and_only_then_deleted,
    all_empty_rooms_are_listed_page_by_page_from_the_index,
);

async fn idle(store: &Store, since: i64) -> Vec<ChatroomId> {
    let rooms = store.rooms().idle(later(since), None, 100).await.unwrap();
    assert_eq!(store.rooms().count_idle(later(since)).await.unwrap(), rooms.len() as u64);
    rooms.into_iter().map(|room| room.id).collect()
}

async fn a_room_is_idle_after_its_last_message_or_change(store: Store, _url: String) {
    let host = a_host(&store).await;
    let (new, written) = (a_room(&store, &host).await, a_room(&store, &host).await);
    let (resumed, closed) = (a_room(&store, &host).await, a_room(&store, &host).await);
    store.messages().archive(&[message(written.id, 5, "hi")], &[], &[]).await.unwrap();
    store.rooms().change(resumed.name, RoomChange::Close, later(1_000)).await.unwrap();
    store.rooms().change(resumed.name, RoomChange::Resume, later(8_000)).await.unwrap();
    store.rooms().change(closed.name, RoomChange::Close, later(1_000)).await.unwrap();
    // Viewing and pinning do not count as activity.
    store.rooms().mark_checked(new.id, 0, later(9_000)).await.unwrap();
    store.rooms().pin(new.id, true, later(9_000)).await.unwrap();
    assert_eq!(idle(&store, 0).await, []);
    assert_eq!(idle(&store, 1).await, [new.id]);
    assert_eq!(idle(&store, 5_001).await, [new.id, written.id]);
    assert_eq!(idle(&store, 8_001).await, [new.id, written.id, resumed.id]);
}

async fn an_idle_room_is_closed_like_any_other_and_only_while_it_is_idle(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_room(&store, &host).await;
    store.rooms().pin(room.id, true, later(1)).await.unwrap();
    store.messages().append(&[append(&room, "a")], later(5_000)).await.unwrap();
    assert_eq!(store.rooms().close_idle(room.name, later(5_000), later(9_000)).await.unwrap(), None, "it was moved");
    let event = store.rooms().close_idle(room.name, later(5_001), later(9_000)).await.unwrap().unwrap();
    assert_eq!((event.change, event.version, event.created_at), (RoomChange::Close, 1, later(9_000)));
    let row = store.rooms().get(room.id).await.unwrap().unwrap();
    assert_eq!((row.state(), row.closed_at, row.is_fixed), (RoomState::Closed, Some(later(9_000)), false));
    assert_eq!(store.rooms().pending_events(later(9_001), 10).await.unwrap(), [event]);
    assert_eq!(store.rooms().close_idle(room.name, later(9_999), later(9_999)).await.unwrap(), None, "once");
    assert_eq!(store.rooms().close_idle(random_name(), later(9_999), later(9_999)).await.unwrap(), None);
}

async fn all_idle_rooms_are_listed_page_by_page(store: Store, _url: String) {
    let host = a_host(&store).await;
    let mut ids = Vec::new();
    for at in [2, 1, 1, 1, 3] {
        ids.push(store.rooms().create(new_room(&host), later(at)).await.unwrap().id);
    }
    let mut walked = Vec::new();
    let mut last: Option<Room> = None;
    loop {
        let rooms = store.rooms().idle(later(9), last.as_ref(), 2).await.unwrap();
        let Some(end) = rooms.last() else { break };
        last = Some(end.clone());
        walked.extend(rooms.iter().map(|room| room.id));
    }
    assert_eq!(walked, [ids[1], ids[2], ids[3], ids[0], ids[4]]);
}

async fn empty(store: &Store, since: i64) -> Vec<ChatroomId> {
    let rooms = store.rooms().empty(later(since), None, 100).await.unwrap();
    assert_eq!(store.rooms().count_empty(later(since)).await.unwrap(), rooms.len() as u64);
    rooms.into_iter().map(|room| room.id).collect()
}

async fn a_room_is_empty_until_its_first_message_and_only_then_deleted(store: Store, _url: String) {
    let host = a_host(&store).await;
    let (new, written) = (a_room(&store, &host).await, a_room(&store, &host).await);
    let (resumed, closed) = (a_room(&store, &host).await, a_room(&store, &host).await);
    assert_eq!(empty(&store, 0).await, []);
    assert_eq!(empty(&store, 1).await, [new.id, written.id, resumed.id, closed.id]);
    store.messages().archive(&[message(written.id, 1, "hi")], &[], &[]).await.unwrap();
    store.rooms().change(resumed.name, RoomChange::Close, later(1_000)).await.unwrap();
    store.rooms().change(resumed.name, RoomChange::Resume, later(8_000)).await.unwrap();
    store.rooms().change(closed.name, RoomChange::Close, later(8_000)).await.unwrap();
    assert_eq!(empty(&store, 5_000).await, [new.id, closed.id], "a room is kept if its guest returned");
    assert_eq!(empty(&store, 9_000).await, [new.id, resumed.id, closed.id]);
    // The room was empty when it was selected, and has received its first message since then.
    store.messages().append(&[append(&new, "a")], later(9_000)).await.unwrap();
    assert_eq!(store.rooms().delete_empty(new.name, later(9_000)).await.unwrap(), None);
    // A room whose messages were purged by retention is not empty either.
    store.rooms().change(written.name, RoomChange::Close, later(1)).await.unwrap();
    assert_eq!(store.retention().purge(later(9_000), 9).await.unwrap(), 1);
    assert_eq!(store.rooms().delete_empty(written.name, later(9_000)).await.unwrap(), None);
    let event = store.rooms().delete_empty(closed.name, later(9_000)).await.unwrap().unwrap();
    assert_eq!((event.change, event.version, event.chatroom), (RoomChange::Delete, 2, closed.id));
    assert_eq!(store.rooms().get(closed.id).await.unwrap(), None);
    assert_eq!(store.rooms().delete_empty(closed.name, later(9_000)).await.unwrap(), None, "once");
    assert_eq!(empty(&store, 9_000).await, [resumed.id]);
}

async fn all_empty_rooms_are_listed_page_by_page_from_the_index(store: Store, _url: String) {
    let host = a_host(&store).await;
    let mut ids = Vec::new();
    for at in [2, 1, 1, 1, 3] {
        ids.push(store.rooms().create(new_room(&host), later(at)).await.unwrap().id);
    }
    let (mut walked, mut last) = (Vec::new(), None::<Room>);
    loop {
        let rooms = store.rooms().empty(later(9), last.as_ref(), 2).await.unwrap();
        let Some(end) = rooms.last() else { break };
        last = Some(end.clone());
        walked.extend(rooms.iter().map(|room| room.id));
    }
    assert_eq!(walked, [ids[1], ids[2], ids[3], ids[0], ids[4]]);
}
