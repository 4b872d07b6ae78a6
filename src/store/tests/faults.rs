//! Tests with database servers that are read-only, deny privileges, hold locks or do not respond.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use migration::{Migrator, MigratorTrait as _};
use pintalk_kit::database::Database;
use pintalk_kit::database_server::{OwnServer, Root};
use pintalk_kit::switch_proxy::SwitchProxy;

use super::*;
use crate::domain::StoreCause;
use crate::store::{RoomFilter, StoreError};

/// Generates one test per function and kind of server.
macro_rules! on_servers {
    ($($name:ident),* $(,)?) => {
        mod mysql { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(pintalk_kit::database::Database::MySql).await; })* }
        mod mariadb { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(pintalk_kit::database::Database::MariaDb).await; })* }
    };
}

on_servers!(
    read_only_server_is_detected_and_writes_succeed_once_it_is_writable,
    new_primary_behind_the_same_name_is_used_without_a_failed_call,
    probe_detects_revoked_and_granted_privileges,
    reads_succeed_while_writers_wait_for_locked_tables,
    unresponsive_connections_are_replaced,
    killed_sessions_fail_no_later_call,
    cancelled_calls_release_their_connections,
);

/// Time within which recovery must be detected.
const RECOVERED: Duration = Duration::from_secs(5);

fn address_of(server: &str) -> SocketAddr {
    server.rsplit('@').next().unwrap().parse().unwrap()
}

async fn open(user: &str, address: SocketAddr, name: &str) -> Store {
    let store = Store::connect(&format!("mysql://{user}:p@{address}/{name}")).await.unwrap();
    Migrator::up(store.connection(), None).await.unwrap();
    store
}

/// Creates rooms concurrently and returns the number of failed calls.
async fn failed_of(store: &Store, host: &Host, calls: usize) -> usize {
    let calls = (0..calls).map(|_| store.rooms().create(new_room(host), noon()));
    futures_util::future::join_all(calls).await.iter().filter(|room| room.is_err()).count()
}

async fn recovered(store: &Store) -> Duration {
    let began = Instant::now();
    let mut condition = store.condition();
    let healthy = condition.wait_for(Option::is_none);
    tokio::time::timeout(RECOVERED, healthy).await.expect("recovery is detected").unwrap();
    began.elapsed()
}

async fn read_only_server_is_detected_and_writes_succeed_once_it_is_writable(of: Database) {
    let own = OwnServer::start(of).await;
    let mut root = Root::connect(&own.url()).await;
    let (name, user) = root.create_database().await;
    let store = open(&user, own.address, &name).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let monitor = tokio::spawn(store.clone().monitor(stop.clone()));
    let host = a_host(&store).await;
    assert_eq!(failed_of(&store, &host, 20).await, 0);
    for round in 0..3 {
        root.run("SET GLOBAL read_only = 1").await;
        // The probe detects the fault without an operation.
        let mut condition = store.condition();
        let noticed = condition.wait_for(|fault| *fault == Some(StoreCause::ReadOnly));
        tokio::time::timeout(RECOVERED, noticed).await.expect("the probe detects the fault").unwrap();
        assert_eq!(failed_of(&store, &host, 20).await, 20, "round {round}");
        assert_eq!(store.hosts().get(host.id).await.unwrap().map(|host| host.id), Some(host.id), "reads go on");
        root.run("SET GLOBAL read_only = 0").await;
        assert_eq!(failed_of(&store, &host, 50).await, 0, "round {round}");
        recovered(&store).await;
    }
    // An operation reports the fault at once, before the next probe.
    root.run("SET GLOBAL read_only = 1").await;
    assert!(store.rooms().create(new_room(&host), noon()).await.is_err());
    assert_eq!(*store.condition().borrow(), Some(StoreCause::ReadOnly));
    root.run("SET GLOBAL read_only = 0").await;
    recovered(&store).await;
    stop.cancel();
    monitor.await.unwrap();
    store.close().await;
}

async fn new_primary_behind_the_same_name_is_used_without_a_failed_call(of: Database) {
    let (own, shared) = (OwnServer::start(of).await, of.server());
    let (mut old, mut new) = (Root::connect(&own.url()).await, Root::connect(&shared).await);
    let (name, user) = old.create_database().await;
    new.create_database_of(&name, &user).await;
    let proxy = SwitchProxy::before(address_of(&shared)).await;
    let on_new = open(&user, proxy.address, &name).await;
    let host = a_host(&on_new).await;
    proxy.lead_to(own.address);
    let store = open(&user, proxy.address, &name).await;
    // Creates the same host on the second server, as replication would.
    let same = store.hosts().create(new_host("host@shop.example"), noon()).await.unwrap();
    assert_eq!(same.id, host.id);
    assert_eq!(failed_of(&store, &host, 30).await, 0);
    proxy.lead_to(address_of(&shared));
    old.run("SET GLOBAL read_only = 1").await;
    assert_eq!(failed_of(&store, &host, 30).await, 0);
    let created = on_new.rooms().list(host.id, RoomFilter::default(), 0, 100).await.unwrap();
    assert_eq!(created.0, 30, "all connections are to the new primary");
    // Reads use the new server as well, which has all 30 rooms.
    let there = store.rooms().list(host.id, RoomFilter::default(), 0, 100).await.unwrap();
    assert_eq!(there.0, 30);
    store.close().await;
    on_new.close().await;
    new.drop_database(&(name, user)).await;
}

async fn probe_detects_revoked_and_granted_privileges(of: Database) {
    let server = of.server();
    let mut root = Root::connect(&server).await;
    let database = root.create_database().await;
    let (name, user) = &database;
    let store = open(user, address_of(&server), name).await;
    let host = a_host(&store).await;
    for right in ["INSERT", "UPDATE", "DELETE"] {
        assert_eq!(store.probe().await, Ok(()), "{right}");
        root.run(&format!("REVOKE {right} ON {name}.* FROM {user}@'%'")).await;
        // The sessions are closed, because a session keeps its privileges on a database until it selects the database
        // again.
        root.kill_sessions_of(user).await;
        assert_eq!(store.probe().await.map_err(|fault| fault.cause.is_denial()), Err(true), "{right}");
        root.run(&format!("GRANT {right} ON {name}.* TO {user}@'%'")).await;
        assert_eq!(failed_of(&store, &host, 10).await, 0, "{right}");
    }
    store.close().await;
    root.drop_database(&database).await;
}

async fn reads_succeed_while_writers_wait_for_locked_tables(of: Database) {
    let server = of.server();
    let mut root = Root::connect(&server).await;
    let database = root.create_database().await;
    let (name, user) = &database;
    let store = open(user, address_of(&server), name).await;
    let host = a_host(&store).await;
    let room = a_room(&store, &host).await;
    root.run(&format!("LOCK TABLES {name}.chat_message READ, {name}.chatroom READ")).await;
    let mut writers = tokio::task::JoinSet::new();
    for seq in 1..=40 {
        let (store, host, room) = (store.clone(), host.clone(), room.clone());
        writers.spawn(async move {
            let began = Instant::now();
            let failed = if seq % 2 == 0 {
                store.rooms().create(new_room(&host), noon()).await.err()
            } else {
                store.messages().archive(&[message(room.id, seq, "hi")], &[], &[]).await.err()
            };
            (failed, began.elapsed())
        });
    }
    // Writes wait for the lock, and reads do not.
    let mut waits = 0;
    while !writers.is_empty() {
        let began = Instant::now();
        assert_eq!(store.rooms().get(room.id).await.unwrap().map(|room| room.id), Some(room.id));
        assert!(store.messages().before(room.id, None, 50).await.unwrap().is_empty());
        assert!(began.elapsed() < Duration::from_secs(1), "a read took {:?}", began.elapsed());
        waits += usize::from(writers.len() == 40);
        while let Some(done) = writers.try_join_next() {
            let (failed, took) = done.unwrap();
            assert!(matches!(failed, Some(StoreError::Unavailable(_))), "{failed:?}");
            assert!(took < Duration::from_secs(12), "a writer took {took:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(waits > 10, "reads were tried while all writers waited");
    assert!(store.probe().await.is_err());
    root.run("UNLOCK TABLES").await;
    assert_eq!(store.probe().await, Ok(()));
    assert_eq!(failed_of(&store, &host, 20).await, 0);
    store.close().await;
    root.drop_database(&database).await;
}

async fn unresponsive_connections_are_replaced(of: Database) {
    let server = of.server();
    let mut root = Root::connect(&server).await;
    let database = root.create_database().await;
    let (name, user) = &database;
    let proxy = SwitchProxy::before(address_of(&server)).await;
    let store = open(user, proxy.address, name).await;
    let host = a_host(&store).await;
    assert_eq!(failed_of(&store, &host, 20).await, 0);
    let frozen = proxy.freeze();
    assert!(frozen > 5, "only {frozen} connections");
    let began = Instant::now();
    assert_eq!(failed_of(&store, &host, 20).await, 0);
    for _ in 0..20 {
        store.hosts().get(host.id).await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
    store.close().await;
    root.drop_database(&database).await;
}

async fn killed_sessions_fail_no_later_call(of: Database) {
    let server = of.server();
    let mut root = Root::connect(&server).await;
    let database = root.create_database().await;
    let (name, user) = &database;
    let store = open(user, address_of(&server), name).await;
    let host = a_host(&store).await;
    assert_eq!(failed_of(&store, &host, 20).await, 0);
    assert!(root.kill_sessions_of(user).await > 5);
    assert_eq!(failed_of(&store, &host, 20).await, 0);
    store.hosts().get(host.id).await.unwrap();
    store.close().await;
    root.drop_database(&database).await;
}

async fn cancelled_calls_release_their_connections(of: Database) {
    let server = of.server();
    let mut root = Root::connect(&server).await;
    let database = root.create_database().await;
    let (name, user) = &database;
    let proxy = SwitchProxy::before(address_of(&server)).await;
    let store = open(user, proxy.address, name).await;
    let host = a_host(&store).await;
    assert_eq!(failed_of(&store, &host, 20).await, 0);
    root.run(&format!("LOCK TABLES {name}.chatroom READ")).await;
    // There are more calls than connections, and each call is cancelled while its statement waits. Then the server
    // stops responding.
    for _ in 0..3 {
        let waiting = tokio::time::timeout(Duration::from_millis(300), failed_of(&store, &host, 30)).await;
        assert!(waiting.is_err());
    }
    proxy.freeze();
    root.run("UNLOCK TABLES").await;
    let began = Instant::now();
    assert_eq!(failed_of(&store, &host, 30).await, 0);
    assert!(began.elapsed() < RECOVERED, "it took {:?}", began.elapsed());
    store.close().await;
    root.drop_database(&database).await;
}
