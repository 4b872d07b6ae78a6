//! Tests of connections and migrations.

use std::time::Duration;

use migration::{Migrator, MigratorTrait as _, SchemaState};
use sea_orm::ConnectionTrait as _;

use super::*;
use crate::domain::RoomChange;
use crate::store::{Dialect, StoreError};

on_every_database!(
    schema_is_reverted_and_applied_again,
    interrupted_migration_is_continued,
    a_release_works_with_the_schema_of_the_next_one,
    the_database_answers_a_ping,
    missing_schema_is_not_a_data_error,
    instants_are_truncated_to_milliseconds,
    lock_wait_timeout_is_unavailable_and_changes_nothing,
);

async fn schema_is_reverted_and_applied_again(store: Store, _url: String) {
    Migrator::down(store.connection(), None).await.unwrap();
    assert!(store.hosts().by_access_key("x").await.is_err());
    Migrator::up(store.connection(), None).await.unwrap();
    a_room(&store, &a_host(&store).await).await;
    assert!(Migrator::get_pending_migrations(store.connection()).await.unwrap().is_empty());
}

async fn interrupted_migration_is_continued(store: Store, _url: String) {
    for lost in ["DROP TABLE chat_message", "DELETE FROM seaql_migrations"] {
        store.connection().execute_unprepared(lost).await.unwrap();
    }
    Migrator::up(store.connection(), None).await.unwrap();
    let room = a_room(&store, &a_host(&store).await).await;
    store.messages().archive(&[message(room.id, 1, "hi")], &[], &[]).await.unwrap();
}

async fn a_release_works_with_the_schema_of_the_next_one(store: Store, _url: String) {
    let connection = store.connection();
    let host = a_host(&store).await;
    let name = "m29991231_000001_of_the_next_release";
    for statement in [
        "ALTER TABLE user_config ADD COLUMN of_the_next_release VARCHAR(32)",
        "ALTER TABLE chatroom ADD COLUMN of_the_next_release VARCHAR(32)",
        "ALTER TABLE chat_message ADD COLUMN of_the_next_release VARCHAR(32) NOT NULL DEFAULT 'x'",
        &format!("INSERT INTO seaql_migrations (version, applied_at) VALUES ('{name}', 1)"),
    ] {
        connection.execute_unprepared(statement).await.unwrap();
    }
    let state = SchemaState::read(connection).await.unwrap();
    assert_eq!((state.pending(), state.foreign), (0, vec![name.to_owned()]));
    SchemaState::up(connection, None).await.unwrap();
    let refused = SchemaState::down(connection, 1).await.unwrap_err().to_string();
    assert!(refused.contains(name), "{refused}");

    let room = a_room(&store, &host).await;
    store.messages().archive(&[message(room.id, 1, "hi")], &[], &[]).await.unwrap();
    assert_eq!(store.messages().between(room.id, 0, None, 10).await.unwrap().len(), 1);
    assert_eq!(store.hosts().get(host.id).await.unwrap(), Some(host));

    // The schema belongs to an incompatible release: it lacks a change of this release and contains an unknown change.
    connection.execute_unprepared("DELETE FROM seaql_migrations WHERE version LIKE '%_webhooks'").await.unwrap();
    let refused = SchemaState::up(connection, None).await.unwrap_err().to_string();
    assert!(refused.contains("1 changes of this release are pending") && refused.contains(name), "{refused}");
}

async fn the_database_answers_a_ping(store: Store, url: String) {
    store.ping().await.unwrap();
    let second = Store::connect(&url).await.unwrap();
    let host = a_host(&store).await;
    assert_eq!(second.hosts().get(host.id).await.unwrap(), Some(host));
    second.close().await;
}

async fn missing_schema_is_not_a_data_error(store: Store, _url: String) {
    Migrator::down(store.connection(), None).await.unwrap();
    let error = store.messages().archive(&[message(ChatroomId(1), 1, "hi")], &[], &[]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
}

async fn instants_are_truncated_to_milliseconds(store: Store, _url: String) {
    let host = a_host(&store).await;
    let odd = noon() + TimeDelta::nanoseconds(999_999);
    let made = store.rooms().create(new_room(&host), odd).await.unwrap();
    assert_eq!(made.created_at, noon());
    assert_eq!(store.rooms().get(made.id).await.unwrap(), Some(made));
}

async fn lock_wait_timeout_is_unavailable_and_changes_nothing(store: Store, url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    let other = Store::connect(&url).await.unwrap();
    let holding = other.begin().await.unwrap();
    if store.dialect() == Dialect::MySql {
        // The session holds the lock without sending anything, for longer than the `wait_timeout` of the store's
        // sessions.
        holding.execute_unprepared("SET SESSION wait_timeout = 120").await.unwrap();
    }
    holding.execute_unprepared("UPDATE chatroom SET last_seq = 99").await.unwrap();

    let refused = store.rooms().change(room.name, RoomChange::Close, later(1)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    holding.rollback().await.unwrap();

    let closed = store.rooms().change(room.name, RoomChange::Close, later(2)).await.unwrap().unwrap();
    assert_eq!(closed.event.unwrap().created_at, later(2), "the operation that timed out had no effect");
    let resumed = other.rooms().change(room.name, RoomChange::Resume, later(3)).await.unwrap().unwrap();
    assert_eq!((resumed.room.last_seq, resumed.room.state_version), (0, 2));
    other.close().await;
}

#[tokio::test]
async fn lazy_store_is_unavailable_until_its_server_is_reachable() {
    // No process listens on port 1.
    let store = Store::connect_lazy("mysql://root@127.0.0.1:1/pintalk").await.unwrap();
    assert_eq!(store.dialect(), Dialect::MySql);
    let asked = tokio::time::timeout(Duration::from_secs(15), store.ping()).await.unwrap();
    assert!(matches!(asked, Err(StoreError::Unavailable(_))), "{asked:?}");
}

#[tokio::test]
async fn invalid_url_is_rejected_and_not_quoted() {
    for url in ["postgres://me:secret@h/db", "mysql://me:secret@h:x/db", "mysql://me:secret@h", "secret", ""] {
        let error = Store::connect_lazy(url).await.unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
