//! Tests with processes that migrate the schema concurrently.

use std::time::Duration;

use migration::{Migrator, MigratorTrait as _, SchemaState};
use pintalk_kit::database_server::Root;
use sea_orm::ConnectionTrait as _;

use super::*;
use crate::store::{Dialect, is_temporary};

on_every_database!(
    concurrent_migrations_of_an_empty_database_all_succeed,
    an_error_of_a_migration_is_an_error_and_releases_the_lock,
    waiting_process_continues_when_the_lock_holder_is_killed,
);

async fn concurrent_migrations_of_an_empty_database_all_succeed(store: Store, url: String) {
    for _ in 0..3 {
        Migrator::down(store.connection(), None).await.unwrap();
        store.connection().execute_unprepared("DROP TABLE seaql_migrations").await.unwrap();
        let mut processes = tokio::task::JoinSet::new();
        for at in 0..5 {
            let url = url.clone();
            processes.spawn(async move {
                let store = Store::connect(&url).await.unwrap();
                // One process applies the changes in two steps.
                let steps = (at == 0).then_some(2);
                let outcome = SchemaState::up(store.connection(), steps).await;
                store.close().await;
                outcome
            });
        }
        while let Some(outcome) = processes.join_next().await {
            outcome.unwrap().unwrap();
        }
        assert_eq!(SchemaState::read(store.connection()).await.unwrap().pending(), 0);
    }
    a_room(&store, &a_host(&store).await).await;
}

async fn an_error_of_a_migration_is_an_error_and_releases_the_lock(store: Store, url: String) {
    Migrator::down(store.connection(), Some(1)).await.unwrap();
    let newest = SchemaState::read(store.connection()).await.unwrap().changes.pop().unwrap().0;
    // The table of applied migrations has another shape, so inserting a row into it fails.
    let taken = "CREATE TABLE taken (id INT PRIMARY KEY)";
    store.connection().execute_unprepared(taken).await.unwrap();
    store.connection().execute_unprepared("ALTER TABLE seaql_migrations RENAME TO moved").await.unwrap();
    store.connection().execute_unprepared("CREATE TABLE seaql_migrations (version INT PRIMARY KEY)").await.unwrap();
    let refused = SchemaState::up(store.connection(), None).await.unwrap_err();
    assert!(!is_temporary(&refused), "{refused}");
    store.connection().execute_unprepared("DROP TABLE seaql_migrations").await.unwrap();
    store.connection().execute_unprepared("ALTER TABLE moved RENAME TO seaql_migrations").await.unwrap();
    let other = Store::connect(&url).await.unwrap();
    let up = tokio::time::timeout(Duration::from_secs(10), SchemaState::up(other.connection(), None));
    up.await.expect("the lock was released").unwrap();
    assert_eq!(SchemaState::read(other.connection()).await.unwrap().changes.pop(), Some((newest, true)));
    other.close().await;
}

async fn waiting_process_continues_when_the_lock_holder_is_killed(store: Store, url: String) {
    Migrator::down(store.connection(), None).await.unwrap();
    let holder = Store::connect(&url).await.unwrap();
    let held = holder.begin().await.unwrap();
    if store.dialect() == Dialect::MySql {
        held.execute_unprepared("DO GET_LOCK(CONCAT('pintalk.schema.', LEFT(SHA2(DATABASE(), 256), 32)), 0)")
            .await
            .unwrap();
    }
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { SchemaState::up(store.connection(), None).await }
    });
    let is_early = tokio::time::timeout(Duration::from_millis(500), async {
        while !waiting.is_finished() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(is_early.await.is_err(), "the process does not wait");
    if store.dialect() == Dialect::MySql {
        let (server, database) = url.rsplit_once('/').unwrap();
        let mut root = Root::connect(server).await;
        let lock = format!("IS_USED_LOCK(CONCAT('pintalk.schema.', LEFT(SHA2('{database}', 256), 32)))");
        let id: Option<i64> =
            sea_orm::sqlx::query_scalar(sea_orm::sqlx::AssertSqlSafe(format!("SELECT CAST({lock} AS SIGNED)")))
                .fetch_one(&mut root.0)
                .await
                .unwrap();
        root.run(&format!("KILL {}", id.expect("the lock is held"))).await;
    }
    drop(held);
    waiting.await.unwrap().unwrap();
    assert_eq!(SchemaState::read(store.connection()).await.unwrap().pending(), 0);
    holder.close().await;
}
