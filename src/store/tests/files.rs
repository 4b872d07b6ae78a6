//! Tests with SQLite files that are deleted, replaced or changed while a node runs.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sea_orm::sqlx::{self, Connection as _, Executor as _};

use super::*;
use crate::domain::StoreCause;
use crate::store::tests::on_database;
use crate::store::{Appended, StoreError};

on_database!(
    sqlite, Sqlite:
    lost_file_stops_acknowledgements_and_is_not_recreated,
    lost_file_is_detected_within_a_second_without_any_operation,
    file_shortened_by_sqlite_is_not_lost,
    read_only_writer_connection_is_replaced,
    files_are_accessible_to_their_owner_only
);

fn path_of(url: &str) -> PathBuf {
    url.strip_prefix("sqlite://").unwrap().into()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    format!("{}{suffix}", path.display()).into()
}

async fn accepted(store: &Store, room: &Room, id: &str) -> Result<Vec<Appended>, StoreError> {
    store.messages().append(&[append(room, id)], noon()).await
}

async fn lost_file_stops_acknowledgements_and_is_not_recreated(_: Store, _: String) {
    type Mishap = fn(&Path);
    let mishaps: [(&str, Mishap); 8] = [
        ("database deleted", |path| std::fs::remove_file(path).unwrap()),
        ("log deleted", |path| std::fs::remove_file(beside(path, "-wal")).unwrap()),
        ("index deleted", |path| std::fs::remove_file(beside(path, "-shm")).unwrap()),
        ("folder moved", |path| {
            std::fs::rename(path.parent().unwrap(), path.parent().unwrap().join("../moved")).unwrap()
        }),
        ("database replaced by a copy", |path| {
            std::fs::copy(path, beside(path, ".copy")).unwrap();
            std::fs::rename(beside(path, ".copy"), path).unwrap();
        }),
        ("database emptied", |path| cut(path, 0)),
        ("database cut in half", |path| cut(path, std::fs::metadata(path).unwrap().len() / 2)),
        ("log emptied", |path| cut(&beside(path, "-wal"), 0)),
    ];
    for (name, mishap) in mishaps {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let path = folder.path().join("data/db.sqlite");
        let store = Store::connect(&format!("sqlite://{}", path.display())).await.unwrap();
        migration::SchemaState::up(store.connection(), None).await.unwrap();
        // This checkpoint moves the schema to the database file. Rows that are written later are in the WAL.
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
            .execute(store.connection().get_sqlite_connection_pool())
            .await
            .unwrap();
        let host = a_host(&store).await;
        let room = a_room(&store, &host).await;
        accepted(&store, &room, "before").await.unwrap();
        assert_eq!(store.probe().await, Ok(()));
        mishap(&path);
        let refused = accepted(&store, &room, "after").await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{name}: {refused:?}");
        assert_eq!(*store.condition().borrow(), Some(StoreCause::FilesLost), "{name}");
        assert!(store.hosts().get(host.id).await.is_err(), "{name}: it is not read either");
        assert_eq!(store.probe().await.map_err(|fault| fault.cause), Err(StoreCause::FilesLost), "{name}");
        if name.contains("deleted") || name.contains("moved") {
            let is_complete = ["", "-wal", "-shm"].iter().all(|suffix| beside(&path, suffix).exists());
            assert!(!is_complete, "{name}: a file was made anew");
        }
        store.close().await;
    }
}

fn cut(path: &Path, len: u64) {
    std::fs::File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

async fn lost_file_is_detected_within_a_second_without_any_operation(store: Store, url: String) {
    let stop = tokio_util::sync::CancellationToken::new();
    let monitor = tokio::spawn(store.clone().monitor(stop.clone()));
    a_host(&store).await;
    std::fs::remove_file(path_of(&url)).unwrap();
    let mut condition = store.condition();
    let lost = condition.wait_for(|fault| *fault == Some(StoreCause::FilesLost));
    assert!(tokio::time::timeout(Duration::from_secs(1), lost).await.is_ok());
    stop.cancel();
    monitor.await.unwrap();
}

async fn file_shortened_by_sqlite_is_not_lost(store: Store, url: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    for at in 0..50 {
        accepted(&store, &room, &format!("id-{at}")).await.unwrap();
    }
    let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
    for (at, statement) in ["PRAGMA wal_checkpoint(TRUNCATE)", "DELETE FROM chat_message", "VACUUM"].iter().enumerate()
    {
        other.execute(*statement).await.unwrap();
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").await.unwrap();
        accepted(&store, &room, &format!("after-{at}")).await.unwrap();
        assert_eq!(store.probe().await, Ok(()), "{statement}");
    }
    other.close().await.unwrap();
    accepted(&store, &room, "at-the-end").await.unwrap();
}

async fn read_only_writer_connection_is_replaced(store: Store, _: String) {
    let room = a_room(&store, &a_host(&store).await).await;
    let read_only = "PRAGMA query_only = ON";
    sqlx::query(read_only).execute(store.connection().get_sqlite_connection_pool()).await.unwrap();
    accepted(&store, &room, "on-a-new-connection").await.unwrap();
    assert_eq!(store.probe().await, Ok(()));
}

async fn files_are_accessible_to_their_owner_only(store: Store, url: String) {
    let path = path_of(&url);
    let files = ["", "-wal", "-shm"].map(|suffix| beside(&path, suffix));
    let modes =
        || files.iter().filter_map(|path| Some(std::fs::metadata(path).ok()?.mode() & 0o7777)).collect::<Vec<_>>();
    a_host(&store).await;
    assert_eq!(modes(), [0o600; 3]);
    store.close().await;
    // These files simulate a database with a WAL that an earlier release created.
    for path in &files {
        std::fs::File::options().create(true).append(true).open(path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    let store = Store::connect(&url).await.unwrap();
    assert_eq!(modes(), [0o600; 3]);
    store.close().await;
}
