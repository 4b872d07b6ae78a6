//! Tests of webhook events, their delivery and their records.

use serde_json::Value;

use super::*;
use crate::domain::{EventKind, EventKinds, HostId, RoomChange};
use crate::store::{DeliveryAttempt, DueWebhook, EventState, ExpiringRows, WebhookChange, WebhookEvent};

on_every_database!(
    each_event_is_recorded_once_with_its_content,
    host_without_subscription_has_no_events,
    every_way_to_close_a_room_records_one_event,
    repeated_room_creation_records_one_event,
    rolled_back_change_records_no_event,
    webhook_keeps_its_secret_until_rotation,
    lease_is_held_by_one_node_until_it_expires,
    one_of_two_concurrent_calls_creates_the_webhook,
    archiving_does_not_wait_for_changes_of_a_webhook,
    only_webhooks_with_due_events_are_due,
    delivered_event_stays_delivered_and_has_no_body,
    undelivered_event_fails_and_its_record_is_deleted,
    deleting_a_webhook_deletes_its_events,
    webhook_returning_410_is_disabled_unless_changed,
    failed_event_is_due_at_once_after_a_webhook_change,
    changed_webhook_applies_to_the_next_room,
);

fn change(url: &str, events: EventKinds) -> WebhookChange {
    WebhookChange { url: url.into(), events, is_enabled: true }
}

async fn hook(store: &Store, host: &Host, events: EventKinds) {
    let change = change("https://shop.example/hooks", events);
    store.webhooks().set(host.id, &change, "whsec_b25l", noon()).await.unwrap();
}

/// Returns all waiting events, regardless of their due time.
async fn due(store: &Store, host: HostId) -> Vec<WebhookEvent> {
    store.webhooks().due_events(host, later(1_000_000_000), 1_000).await.unwrap()
}

async fn ids(store: &Store, host: HostId) -> Vec<String> {
    due(store, host).await.into_iter().map(|event| event.event_id).collect()
}

fn attempt(seconds: i64, status: Option<u16>, problem: Option<&str>) -> DeliveryAttempt {
    DeliveryAttempt { at: later(seconds * 1_000), millis: 12, status, problem: problem.map(str::to_owned) }
}

async fn each_event_is_recorded_once_with_its_content(store: Store, _url: String) {
    let host = a_host(&store).await;
    hook(&store, &host, EventKinds::ALL).await;
    let room = a_room(&store, &host).await;
    let batch = [message(room.id, 1, "one 🙂"), Message { side: Side::Host, ..message(room.id, 2, "two") }];
    for _ in 0..2 {
        // The batch is archived again, as after a commit whose response was lost.
        store.messages().archive(&batch, &[], &[]).await.unwrap();
    }
    store.messages().append(&[append(&room, "a"), append(&room, "a")], later(3_000)).await.unwrap();
    store.messages().append(&[append(&room, "a")], later(4_000)).await.unwrap();
    let r = room.id.0;
    assert_eq!(
        ids(&store, host.id).await,
        [
            format!("evt_{r}_created"),
            format!("evt_{r}_message_1"),
            format!("evt_{r}_message_2"),
            format!("evt_{r}_message_3")
        ]
    );
    let bodies: Vec<Value> =
        due(&store, host.id).await.iter().map(|event| serde_json::from_str(&event.body).unwrap()).collect();
    assert_eq!(bodies[0]["data"]["room"]["guest"], "용감한 고양이");
    assert_eq!(bodies[1]["data"]["room"]["name"], room.name.as_str());
    assert_eq!(
        (&bodies[1]["data"]["message"]["message"], &bodies[1]["id"]),
        (&"one 🙂".into(), &format!("evt_{r}_message_1").into())
    );
    assert_eq!(bodies[1]["data"]["message"]["isHost"], false);
    assert_eq!(bodies[2]["data"]["message"]["isHost"], true);
    assert_eq!(bodies[3]["data"]["message"]["messageId"], "a");
}

async fn host_without_subscription_has_no_events(store: Store, _url: String) {
    let host = a_host(&store).await;
    let other = store.hosts().create(new_host("other@shop.example"), noon()).await.unwrap();
    hook(&store, &other, EventKinds::ALL).await;
    let off = WebhookChange { is_enabled: false, ..change("https://shop.example/", EventKinds::ALL) };
    let some = [EventKind::RoomClosed].into_iter().collect();
    for setting in [None, Some(off), Some(change("https://shop.example/", some))] {
        if let Some(setting) = setting {
            store.webhooks().set(host.id, &setting, "whsec_b25l", noon()).await.unwrap();
        }
        let room = a_room(&store, &host).await;
        store.messages().archive(&[message(room.id, 1, "hi")], &[], &[]).await.unwrap();
        store.messages().append(&[append(&room, "a")], later(3_000)).await.unwrap();
    }
    assert_eq!(ids(&store, host.id).await, [] as [&str; 0]);
    assert_eq!(ids(&store, other.id).await, [] as [&str; 0], "another's rooms");
}

async fn every_way_to_close_a_room_records_one_event(store: Store, _url: String) {
    let host = a_host(&store).await;
    hook(&store, &host, [EventKind::RoomClosed].into_iter().collect()).await;
    let rooms = [a_room(&store, &host).await, a_room(&store, &host).await, a_room(&store, &host).await];
    for name in [rooms[0].name; 2] {
        store.rooms().change(name, RoomChange::Close, later(1)).await.unwrap();
    }
    store.rooms().change(rooms[0].name, RoomChange::Resume, later(2)).await.unwrap();
    store.rooms().change(rooms[0].name, RoomChange::Close, later(3)).await.unwrap();
    for _ in 0..2 {
        store.rooms().close_idle(rooms[1].name, later(1), later(4)).await.unwrap();
    }
    store.rooms().change(rooms[2].name, RoomChange::Delete, later(5)).await.unwrap();
    // This room is already closed, so its deletion adds no event.
    store.rooms().change(rooms[1].name, RoomChange::Delete, later(6)).await.unwrap();
    let recorded: Vec<(i64, String)> = due(&store, host.id)
        .await
        .into_iter()
        .map(|event| {
            let body: Value = serde_json::from_str(&event.body).unwrap();
            (event.chatroom.0, body["data"]["reason"].as_str().unwrap().to_owned())
        })
        .collect();
    let [first, second, third] = rooms.map(|room| room.id.0);
    let expected = [(first, "host"), (first, "host"), (second, "idle"), (third, "deleted")];
    assert_eq!(recorded, expected.map(|(room, why)| (room, why.to_owned())));
    let ids = ids(&store, host.id).await;
    assert!(ids[0] != ids[1], "each time the room is closed is a separate event");
}

async fn repeated_room_creation_records_one_event(store: Store, _url: String) {
    let host = a_host(&store).await;
    hook(&store, &host, EventKinds::ALL).await;
    let new = || NewRoom { idempotency_key: Some("k".repeat(16)), ..new_room(&host) };
    let (one, two) = tokio::join!(store.rooms().create(new(), noon()), store.rooms().create(new(), noon()));
    assert_eq!(one.unwrap().id, two.unwrap().id);
    store.rooms().create(new(), noon()).await.unwrap();
    assert_eq!(ids(&store, host.id).await.len(), 1);
}

async fn rolled_back_change_records_no_event(store: Store, _url: String) {
    let host = a_host(&store).await;
    hook(&store, &host, EventKinds::ALL).await;
    let room = new_room(&host);
    store.rooms().create(room.clone(), noon()).await.unwrap();
    // The name is already in use, so no room is created and no event is recorded.
    assert!(store.rooms().create(room, noon()).await.is_err());
    assert_eq!(ids(&store, host.id).await.len(), 1);
    // The room of this message has no row, so no event is recorded.
    store.messages().archive(&[message(ChatroomId(999), 1, "hi")], &[], &[]).await.unwrap();
    assert_eq!(ids(&store, host.id).await.len(), 1);
}

async fn webhook_keeps_its_secret_until_rotation(store: Store, _url: String) {
    let host = a_host(&store).await;
    assert_eq!(store.webhooks().get(host.id).await.unwrap(), None);
    assert_eq!(store.webhooks().rotate_secret(host.id, "whsec_dHdv", None, noon()).await.unwrap(), None);
    let all = change("https://shop.example/a", EventKinds::ALL);
    let (made, is_new) = store.webhooks().set(host.id, &all, "whsec_b25l", noon()).await.unwrap();
    assert!(is_new && made.secret == "whsec_b25l" && made.is_enabled);
    let some = change("https://shop.example/b", [EventKind::RoomClosed].into_iter().collect());
    let (changed, is_new) = store.webhooks().set(host.id, &some, "whsec_dHdv", later(1)).await.unwrap();
    assert!(!is_new && changed.secret == "whsec_b25l" && changed.url == "https://shop.example/b");
    assert_eq!((changed.created_at, changed.updated_at), (noon(), later(1)));
    assert_eq!(store.webhooks().get(host.id).await.unwrap(), Some(changed));

    let rotated =
        store.webhooks().rotate_secret(host.id, "whsec_dHdv", Some(later(9)), later(2)).await.unwrap().unwrap();
    assert_eq!(rotated.secret, "whsec_dHdv");
    assert_eq!(rotated.old_secret, Some(("whsec_b25l".to_owned(), later(9))));
    assert_eq!(store.webhooks().get(host.id).await.unwrap(), Some(rotated));
    let revoked = store.webhooks().rotate_secret(host.id, "whsec_dGhy", None, later(3)).await.unwrap().unwrap();
    assert_eq!((revoked.secret.as_str(), &revoked.old_secret), ("whsec_dGhy", &None));
    assert!(!format!("{revoked:?}").contains("whsec_"));
}

async fn one_of_two_concurrent_calls_creates_the_webhook(store: Store, url: String) {
    let (host, other) = (a_host(&store).await, Store::connect(&url).await.unwrap());
    let change = change("https://shop.example/", EventKinds::ALL);
    let (one, two) = tokio::join!(
        store.webhooks().set(host.id, &change, "whsec_b25l", noon()),
        other.webhooks().set(host.id, &change, "whsec_dHdv", noon())
    );
    let ((one, is_first), (two, is_second)) = (one.unwrap(), two.unwrap());
    assert!(is_first != is_second && one.secret == two.secret);
    other.close().await;
}

async fn archiving_does_not_wait_for_changes_of_a_webhook(store: Store, url: String) {
    use sea_orm::ConnectionTrait as _;
    if store.dialect() == crate::store::Dialect::Sqlite {
        return; // SQLite has a single writer.
    }
    let host = a_host(&store).await;
    hook(&store, &host, EventKinds::ALL).await;
    let room = a_room(&store, &host).await;
    let other = Store::connect(&url).await.unwrap();
    let changing = other.begin().await.unwrap();
    changing.execute_unprepared("UPDATE webhook SET failed_turns = 9").await.unwrap();
    // If these calls needed the lock of the open transaction, they would wait for 3 s and then fail.
    store.messages().archive(&[message(room.id, 1, "hi")], &[], &[]).await.unwrap();
    store.messages().append(&[append(&room, "a")], later(3_000)).await.unwrap();
    changing.rollback().await.unwrap();
    assert_eq!(ids(&store, host.id).await.len(), 3);
    other.close().await;
}

async fn only_due(store: &Store, at: i64) -> DueWebhook {
    let due = store.webhooks().due(later(at)).await.unwrap();
    let [due] = due[..] else { panic!("{due:?}") };
    due
}

async fn lease_is_held_by_one_node_until_it_expires(store: Store, url: String) {
    let host = a_host(&store).await;
    hook(&store, &host, EventKinds::ALL).await;
    a_room(&store, &host).await;
    let other = Store::connect(&url).await.unwrap();
    let due = only_due(&store, 10).await;
    assert_eq!((due.host, due.since, due.next_turn_at), (host.id, noon(), noon()));
    let (first, second) = tokio::join!(
        store.webhooks().acquire_lease(&due, later(20_000)),
        other.webhooks().acquire_lease(&due, later(20_001))
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first.is_some() != second.is_some(), "one of two concurrent calls acquires the lease");
    let lease = first.or(second).unwrap();
    assert_eq!((lease.failed_turns, lease.webhook.secret.as_str()), (0, "whsec_b25l"));
    assert!(only_due(&store, 10).await.next_turn_at >= later(20_000), "the lease is held");

    let longer = store.webhooks().renew_lease(&lease, later(30_000)).await.unwrap().unwrap();
    assert_eq!(store.webhooks().renew_lease(&lease, later(40_000)).await.unwrap(), None, "the lease was renewed since");
    // The node has stalled, and another node has acquired the lease.
    let taken = other.webhooks().acquire_lease(&only_due(&store, 30_001).await, later(60_000)).await.unwrap().unwrap();
    assert_eq!(store.webhooks().renew_lease(&longer, later(70_000)).await.unwrap(), None);
    store.webhooks().release_lease(&longer, later(1), 7).await.unwrap();
    assert_eq!(only_due(&store, 30_001).await.next_turn_at, later(60_000), "the other node holds the lease");
    other.webhooks().release_lease(&taken, later(50_000), 3).await.unwrap();
    let again = only_due(&store, 50_000).await;
    assert_eq!(again.next_turn_at, later(50_000));
    assert_eq!(store.webhooks().acquire_lease(&again, later(90_000)).await.unwrap().unwrap().failed_turns, 3);
    // If the host changes the webhook, the lease becomes available at once.
    hook(&store, &host, EventKinds::ALL).await;
    let due = only_due(&store, 50_000).await;
    assert_eq!(due.next_turn_at, noon());
    assert_eq!(store.webhooks().acquire_lease(&due, later(90_000)).await.unwrap().unwrap().failed_turns, 0);
    other.close().await;
}

async fn only_webhooks_with_due_events_are_due(store: Store, _url: String) {
    let (host, other) = (a_host(&store).await, store.hosts().create(new_host("b@shop.example"), noon()).await.unwrap());
    hook(&store, &host, EventKinds::ALL).await;
    hook(&store, &other, EventKinds::ALL).await;
    a_room(&store, &host).await;
    assert_eq!(store.webhooks().due(later(-1)).await.unwrap(), []);
    assert_eq!(only_due(&store, 0).await.host, host.id);
    let event = due(&store, host.id).await.remove(0);
    let failed = attempt(1, Some(500), Some("answered 500"));
    store.webhooks().record_failure(event.id, &failed, Some(later(9_000))).await.unwrap();
    assert_eq!(store.webhooks().due(later(8_999)).await.unwrap(), []);
    assert_eq!(only_due(&store, 9_000).await.since, later(9_000));
    store.hosts().deactivate(host.id, crate::store::DeactivatedBy::Operator, later(2)).await.unwrap();
    assert_eq!(store.webhooks().due(later(9_000)).await.unwrap(), [], "the host is disabled");
    store.hosts().activate(host.id, later(3)).await.unwrap();
    only_due(&store, 9_000).await;
    let off = WebhookChange { is_enabled: false, ..change("https://shop.example/", EventKinds::ALL) };
    store.webhooks().set(host.id, &off, "", later(4)).await.unwrap();
    assert_eq!(store.webhooks().due(later(9_000)).await.unwrap(), []);
}

async fn delivered_event_stays_delivered_and_has_no_body(store: Store, _url: String) {
    let host = a_host(&store).await;
    hook(&store, &host, EventKinds::ALL).await;
    let room = a_room(&store, &host).await;
    let event = due(&store, host.id).await.remove(0);
    let failed = attempt(1, None, Some(&"no answer ".repeat(50)));
    store.webhooks().record_failure(event.id, &failed, Some(later(2_000))).await.unwrap();
    let again = due(&store, host.id).await.remove(0);
    assert_eq!((again.attempts, &again.body, again.ends_at), (1, &event.body, noon() + crate::store::TRIED_FOR));
    store.webhooks().record_delivery(event.id, &attempt(3, Some(204), None)).await.unwrap();
    // A stalled node reports an earlier failure late.
    store.webhooks().record_failure(event.id, &failed, None).await.unwrap();
    assert_eq!(ids(&store, host.id).await, [] as [&str; 0]);
    let [record] = &store.webhooks().recent_events(host.id, 10).await.unwrap()[..] else { panic!("one") };
    assert_eq!((record.state, record.attempts, record.status), (EventState::Delivered, 2, Some(204)));
    assert_eq!((record.tried_at, record.due_at, record.millis), (Some(later(3_000)), None, Some(12)));
    assert_eq!((record.kind.as_str(), record.chatroom, &record.problem), ("room.created", room.id, &None));
    let held = "SELECT COUNT(*) FROM webhook_event WHERE body <> ''";
    assert_eq!(number(&store, held).await, 0);
}

async fn changed_webhook_applies_to_the_next_room(store: Store, url: String) {
    let host = a_host(&store).await;
    let other_node = Store::connect(&url).await.unwrap();
    for node in [&store, &other_node] {
        a_room(node, &host).await;
    }
    hook(&store, &host, EventKinds::ALL).await;
    let created = a_room(&store, &host).await;
    assert_eq!(ids(&store, host.id).await, [format!("evt_{}_created", created.id.0)]);
    a_room(&other_node, &host).await;
    assert_eq!(ids(&store, host.id).await.len(), 1, "the other node has not been notified of the change");
    other_node.webhooks().forget_subscription(host.id);
    let created = a_room(&other_node, &host).await;
    assert_eq!(ids(&store, host.id).await.last(), Some(&format!("evt_{}_created", created.id.0)));
    other_node.close().await;
}

async fn number(store: &Store, query: &str) -> i64 {
    use sea_orm::{ConnectionTrait as _, Statement};
    let connection = store.connection();
    let statement = Statement::from_string(connection.get_database_backend(), query);
    connection.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

async fn undelivered_event_fails_and_its_record_is_deleted(store: Store, _url: String) {
    const DAY: i64 = 86_400_000;
    let host = a_host(&store).await;
    hook(&store, &host, EventKinds::ALL).await;
    for _ in 0..3 {
        a_room(&store, &host).await;
    }
    let first = due(&store, host.id).await.remove(0);
    store.webhooks().record_delivery(first.id, &attempt(1, Some(200), None)).await.unwrap();
    assert_eq!(store.webhooks().give_up_events(later(3 * DAY - 1), 10).await, Ok(0));
    assert_eq!(store.webhooks().count_events_to_give_up(later(3 * DAY)).await, Ok(2));
    for given_up in [1, 1, 0] {
        assert_eq!(store.webhooks().give_up_events(later(3 * DAY), 1).await, Ok(given_up));
    }
    assert_eq!(ids(&store, host.id).await, [] as [&str; 0]);
    let states: Vec<EventState> =
        store.webhooks().recent_events(host.id, 10).await.unwrap().iter().map(|event| event.state).collect();
    assert_eq!(states, [EventState::Failed, EventState::Failed, EventState::Delivered]);
    assert_eq!(number(&store, "SELECT COUNT(*) FROM webhook_event WHERE body <> ''").await, 0);
    // The record of a delivered event is kept for a day, and the record of a failed event for a week.
    assert_eq!(store.expired().delete(ExpiringRows::Event, later(DAY + 1_000), 10).await, Ok(1));
    assert_eq!(store.expired().delete(ExpiringRows::Event, later(10 * DAY - 1), 10).await, Ok(0));
    assert_eq!(store.expired().count(ExpiringRows::Event, later(10 * DAY)).await, Ok(2));
    assert_eq!(store.expired().delete(ExpiringRows::Event, later(10 * DAY), 10).await, Ok(2));
}

async fn deleting_a_webhook_deletes_its_events(store: Store, _url: String) {
    let (host, other) = (a_host(&store).await, store.hosts().create(new_host("b@shop.example"), noon()).await.unwrap());
    for host in [&host, &other] {
        hook(&store, host, EventKinds::ALL).await;
        a_room(&store, host).await;
    }
    assert_eq!(store.webhooks().delete(host.id).await, Ok(true));
    assert_eq!(store.webhooks().delete(host.id).await, Ok(false));
    assert_eq!(store.webhooks().recent_events(host.id, 10).await.unwrap(), []);
    assert_eq!(store.webhooks().recent_events(other.id, 10).await.unwrap().len(), 1);
    a_room(&store, &host).await;
    assert_eq!(store.webhooks().recent_events(host.id, 10).await.unwrap(), []);
}

async fn webhook_returning_410_is_disabled_unless_changed(store: Store, _url: String) {
    let host = a_host(&store).await;
    hook(&store, &host, EventKinds::ALL).await;
    let known = store.webhooks().get(host.id).await.unwrap().unwrap();
    let moved = change("https://shop.example/new", EventKinds::ALL);
    let (moved, _) = store.webhooks().set(host.id, &moved, "", later(1)).await.unwrap();
    store.webhooks().disable(&known, later(2)).await.unwrap();
    assert_eq!(store.webhooks().get(host.id).await.unwrap(), Some(moved.clone()));
    store.webhooks().disable(&moved, later(3)).await.unwrap();
    let off = store.webhooks().get(host.id).await.unwrap().unwrap();
    assert_eq!((off.is_enabled, off.gone_at), (false, Some(later(3))));
    let (on, _) = store.webhooks().set(host.id, &change(&off.url, EventKinds::ALL), "", later(4)).await.unwrap();
    assert_eq!((on.is_enabled, on.gone_at), (true, None));
}

async fn failed_event_is_due_at_once_after_a_webhook_change(store: Store, _url: String) {
    let host = a_host(&store).await;
    hook(&store, &host, EventKinds::ALL).await;
    a_room(&store, &host).await;
    let event = due(&store, host.id).await.remove(0);
    let failed = attempt(1, Some(500), Some("answered 500"));
    store.webhooks().record_failure(event.id, &failed, Some(later(21_600_000))).await.unwrap();
    assert_eq!(store.webhooks().due_events(host.id, later(5_000), 10).await, Ok(Vec::new()));
    let change = change("https://shop.example/new", EventKinds::ALL);
    store.webhooks().set(host.id, &change, "", later(5_000)).await.unwrap();
    let again = store.webhooks().due_events(host.id, later(5_000), 10).await.unwrap();
    assert_eq!(again.iter().map(|event| event.id).collect::<Vec<_>>(), [event.id]);
}
