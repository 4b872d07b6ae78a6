//! Connections and migrations.

use std::time::Duration;

use migration::{Migrator, MigratorTrait as _};
use sea_orm::ConnectionTrait as _;

use super::*;
use crate::store::{Dialect, StoreError};

on_both_dialects!(
    the_schema_goes_down_and_up_again,
    half_a_migration_is_taken_up_again,
    the_database_answers_a_ping,
    a_missing_schema_is_not_the_fault_of_the_data,
    instants_are_cut_to_milliseconds,
);

async fn the_schema_goes_down_and_up_again(store: Store, _url: String) {
    Migrator::down(store.connection(), None).await.unwrap();
    assert!(store.host_by_access_key("x").await.is_err());
    Migrator::up(store.connection(), None).await.unwrap();
    a_room(&store, &a_host(&store).await).await;
    assert!(Migrator::get_pending_migrations(store.connection()).await.unwrap().is_empty());
}

async fn half_a_migration_is_taken_up_again(store: Store, _url: String) {
    for lost in ["DROP TABLE chat_message", "DELETE FROM seaql_migrations"] {
        store.connection().execute_unprepared(lost).await.unwrap();
    }
    Migrator::up(store.connection(), None).await.unwrap();
    let room = a_room(&store, &a_host(&store).await).await;
    store.archive(&[message(room.id, 1, "hi")], &[]).await.unwrap();
}

async fn the_database_answers_a_ping(store: Store, url: String) {
    store.ping().await.unwrap();
    let second = Store::connect(&url).await.unwrap();
    let host = a_host(&store).await;
    assert_eq!(second.host(host.id).await.unwrap(), Some(host));
    second.close().await;
}

async fn a_missing_schema_is_not_the_fault_of_the_data(store: Store, _url: String) {
    Migrator::down(store.connection(), None).await.unwrap();
    let error = store.archive(&[message(ChatroomId(1), 1, "hi")], &[]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
}

async fn instants_are_cut_to_milliseconds(store: Store, _url: String) {
    let host = a_host(&store).await;
    let odd = noon() + TimeDelta::nanoseconds(999_999);
    let made = store.create_room(new_room(&host), odd).await.unwrap();
    assert_eq!(made.created_at, noon());
    assert_eq!(store.room(made.id).await.unwrap(), Some(made));
}

#[tokio::test]
async fn a_lazy_store_says_unavailable_until_its_server_is_there() {
    // Nothing listens on port 1.
    let store = Store::connect_lazy("mysql://root@127.0.0.1:1/pintalk").await.unwrap();
    assert_eq!(store.dialect(), Dialect::MySql);
    let asked = tokio::time::timeout(Duration::from_secs(15), store.ping()).await.unwrap();
    assert!(matches!(asked, Err(StoreError::Unavailable(_))), "{asked:?}");
}

#[tokio::test]
async fn a_wrong_url_is_refused_and_not_repeated() {
    for url in ["postgres://me:secret@h/db", "mysql://me:secret@h:x/db", "mysql://me:secret@h", "secret", ""] {
        let error = Store::connect_lazy(url).await.unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
