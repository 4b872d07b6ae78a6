//! Tests of the recovery of restored stores, with a real Redis and real databases.

use sea_orm::ConnectionTrait as _;

use super::*;
use crate::backend::broker::Outcome;
use crate::backend::broker::testing::{Fixture, Node, WAIT_LIMIT, guest, key_of, numbers, until};
use crate::backend::redis::testing::{INSTALLED, PT};
use crate::backend::shutdown::Shutdown;
use crate::chat::archive::Archive;
use crate::domain::Rng;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::domain::{RoomChange, RoomState};
use crate::store::{InstallationMode, NewRoom};

/// Generates one test per function and database system.
macro_rules! on_every_database {
    ($($name:ident),* $(,)?) => {
        on_database!(mysql, MySql: $($name),*);
        on_database!(mariadb, MariaDb: $($name),*);
    };
}
macro_rules! on_database {
    ($module:ident, $database:ident: $($name:ident),*) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::Fixture::cluster(crate::store::testing::Database::$database, super::$name).await;
            })*
        }
    };
}

on_every_database!(
    consistent_stores_need_no_recovery,
    messages_that_sql_lost_are_archived_again,
    a_room_that_sql_lost_becomes_dead_letters_and_no_other_rooms_messages,
    a_restored_redis_takes_the_state_from_sql,
    an_interrupted_recovery_is_repeated,
    the_first_node_of_a_cluster_compares_the_stores,
    a_number_that_was_assigned_twice_starts_a_recovery,
    a_retired_redis_accepts_nothing_and_begins_another_epoch,
    a_node_on_another_database_stops_using_redis,
);

/// Node with its archivers and its recoverer.
struct Cluster {
    fixture: Fixture,
    node: Node,
    recoverer: Recoverer,
    shutdown: Shutdown,
}

impl Cluster {
    async fn on(fixture: Fixture) -> Self {
        let id = INSTALLED.parse().unwrap();
        fixture.store.installation().ensure(id, InstallationMode::Cluster, SystemClock.now()).await.unwrap();
        let node = fixture.node().await;
        let recoverer = Recoverer::new(id, fixture.store.clone(), &node.backend).unwrap();
        let shutdown = Shutdown::new();
        let mut cluster = Self { fixture, node, recoverer, shutdown };
        cluster.start_archive();
        cluster
    }

    fn start_archive(&mut self) {
        self.shutdown = Shutdown::new();
        let queue = self.node.cluster().archive.clone();
        Archive::start(&queue, self.node.backend.log.partitions(), &self.fixture.store, &self.shutdown);
    }

    async fn stop_archive(&self) {
        tokio::time::timeout(WAIT_LIMIT, self.shutdown.finish()).await.expect("the archivers end");
    }

    async fn tick(&mut self) -> Option<Recovered> {
        self.recoverer.tick(true).await.unwrap()
    }

    async fn sql(&self, statement: String) {
        self.fixture.store.connection().execute_unprepared(&statement).await.unwrap();
    }

    async fn archived(&self, room: &Room, through: Seq) {
        until("it is archived", || async {
            let status = self.node.backend.states.status(&[room.name]).await.unwrap().remove(0);
            status.is_some_and(|status| status.archived >= through)
        })
        .await;
    }

    async fn stored(&self, room: &Room) -> Vec<Seq> {
        let messages = self.fixture.store.messages().between(key_of(room), 0, None, 10_000).await.unwrap();
        messages.iter().map(|message| message.seq).collect()
    }

    /// Restores the database to the state after message `through` of a room was archived, with the generation
    /// `generation`.
    async fn restore_sql(&self, room: &Room, through: Seq, generation: u64) {
        let id = room.id.0;
        self.sql(format!("DELETE FROM chat_message WHERE chatroom_id = {id} AND seq > {through}")).await;
        self.sql(format!(
            "UPDATE chatroom SET last_seq = {through}, message_count = {through}, counted_through = {through} WHERE id = {id}"
        ))
        .await;
        self.sql(format!("UPDATE installation SET generation = {generation}")).await;
    }

    async fn dead_letters(&self) -> Vec<String> {
        let dead = format!("{PT}{{0}}:dead");
        let letters: Vec<(String, std::collections::BTreeMap<String, String>)> =
            self.node.redis().raw("XRANGE", &[&dead, "-", "+"]).await;
        letters.into_iter().map(|(_, mut fields)| fields.remove("f").unwrap()).collect()
    }
}

async fn consistent_stores_need_no_recovery(fixture: Fixture) {
    let mut cluster = Cluster::on(fixture).await;
    let room = cluster.node.room().await;
    for at in 1..=3 {
        assert_eq!(cluster.tick().await, None);
        assert_eq!(cluster.node.submit_ids(&room, [at]).await, [at]);
        // This is the call of a node that is not the leader.
        cluster.recoverer.tick(false).await.unwrap();
    }
    let row = cluster.fixture.store.installation().get().await.unwrap().unwrap();
    assert_eq!(row.generation, 3);
    assert_eq!(cluster.recoverer.cluster.recovery.generation().await.unwrap(), Some(3));
    // A crash of the leader between its two writes does not cause a recovery.
    cluster.fixture.store.installation().raise_generation(4).await.unwrap();
    assert_eq!(cluster.tick().await, None);
    // An empty Redis has no generation. Its rooms are seeded again.
    let _: i64 = cluster.node.redis().raw("DEL", &[&format!("{PT}generation")]).await;
    cluster.recoverer.tick(false).await.unwrap();
    assert_eq!(cluster.tick().await, None);
}

async fn messages_that_sql_lost_are_archived_again(fixture: Fixture) {
    let mut cluster = Cluster::on(fixture).await;
    let room = cluster.node.room().await;
    cluster.tick().await;
    cluster.node.submit_ids(&room, 1..=10).await;
    cluster.archived(&room, 10).await;
    cluster.restore_sql(&room, 4, 0).await;
    // A message that is archived before the restore is detected leaves a gap in the database.
    assert_eq!(cluster.node.submit_ids(&room, [11]).await, [11]);
    cluster.archived(&room, 11).await;
    assert_eq!(cluster.stored(&room).await, [1, 2, 3, 4, 11]);
    let recovered = cluster.tick().await.unwrap();
    assert_eq!((recovered.archived_again, recovered.lost_rooms, recovered.dead_letters), (6, 0, 0));
    let next = cluster.node.submit_ids(&room, [12]).await[0];
    assert!(next > 10_000, "{next}");
    let whole: Vec<Seq> = (1..=11).chain([next]).collect();
    assert_eq!(numbers(&cluster.node.history.after(key_of(&room), 0).await.unwrap().entries), whole);
    until("sql has all of it again", || async { cluster.stored(&room).await == whole }).await;
    let count = cluster.fixture.store.rooms().count_messages(room.id, None).await.unwrap();
    assert_eq!(count, 12);
    assert_eq!(cluster.tick().await, None, "it is recovered once");
    assert!(cluster.dead_letters().await.is_empty());
}

async fn a_room_that_sql_lost_becomes_dead_letters_and_no_other_rooms_messages(fixture: Fixture) {
    let mut cluster = Cluster::on(fixture).await;
    let (lost, kept) = (cluster.node.room().await, cluster.node.room().await);
    cluster.tick().await;
    cluster.node.submit_ids(&lost, 1..=3).await;
    cluster.node.submit_ids(&kept, 1..=3).await;
    cluster.archived(&lost, 3).await;
    cluster.archived(&kept, 3).await;
    // The database is restored to a state before the room was created. Then another guest creates a room, which
    // receives the id of the lost room.
    cluster.sql(format!("DELETE FROM chat_message WHERE chatroom_id = {}", lost.id.0)).await;
    cluster.sql(format!("DELETE FROM chatroom WHERE id = {}", lost.id.0)).await;
    let name = RoomName::from_random(Rng::from_entropy().bytes());
    let host = cluster.fixture.host.id;
    let new = NewRoom { host, guest: "다른 손님".into(), name, idempotency_key: None, life: None };
    let other = cluster.fixture.store.rooms().create(new, SystemClock.now()).await.unwrap();
    cluster.sql(format!("UPDATE chatroom SET id = {} WHERE id = {}", lost.id.0, other.id.0)).await;
    let other = cluster.fixture.store.rooms().get(lost.id).await.unwrap().unwrap();
    assert_eq!((other.id, other.name), (lost.id, name));

    // The guest of the lost room continues to send messages while the other room is in use.
    let submitted = [guest(&lost, "private")];
    assert_eq!(cluster.node.accept(&submitted).await, [Outcome::Accepted(4)]);
    cluster.node.seed(other.name).await;
    cluster.node.submit_ids(&other, 1..=2).await;
    until("the lost room is deleted", || async {
        cluster.node.accept(&[guest(&lost, "after")]).await == [Outcome::Deleted]
    })
    .await;
    cluster.archived(&other, 2).await;
    let dead = cluster.dead_letters().await;
    assert_eq!(dead.len(), 4 + dead.iter().filter(|frame| frame.contains("after")).count(), "{dead:?}");
    assert!(dead.iter().any(|frame| frame.contains("private")), "{dead:?}");
    assert_eq!(cluster.stored(&other).await.len(), 2);
    for step in [
        cluster.node.history.after(key_of(&other), 0).await.unwrap().entries,
        cluster.node.newest(&other).await,
        cluster.node.history.before(key_of(&other), u64::MAX).await.unwrap(),
    ] {
        assert_eq!(step.len(), 2);
        assert!(step.iter().all(|entry| !entry.frame.windows(7).any(|part| part == b"private")));
    }
    // A reader that uses the lost room's name and its old id receives no messages of the other room.
    assert!(cluster.node.history.before(key_of(&lost), u64::MAX).await.unwrap().is_empty());
    assert_eq!(cluster.stored(&kept).await, [1, 2, 3]);
    assert_eq!(cluster.node.submit_ids(&kept, [4]).await, [4]);
}

async fn a_restored_redis_takes_the_state_from_sql(fixture: Fixture) {
    let mut cluster = Cluster::on(fixture).await;
    let (closed, left, open) = (cluster.node.room().await, cluster.node.room().await, cluster.node.room().await);
    for room in [&closed, &left, &open] {
        cluster.node.submit_ids(room, 1..=2).await;
        cluster.archived(room, 2).await;
    }
    cluster.tick().await;
    let keys = cluster.node.redis().keys_with("").await;
    let mut snapshot = Vec::new();
    for key in keys {
        snapshot.push((cluster.node.redis().raw::<bytes::Bytes>("DUMP", &[&key]).await, key));
    }
    cluster.node.rooms.change(closed.name, RoomChange::Close).await.unwrap();
    cluster.node.rooms.change(left.name, RoomChange::Delete).await.unwrap();
    cluster.node.submit_ids(&open, 3..=4).await;
    cluster.archived(&open, 4).await;
    for _ in 0..2 {
        cluster.recoverer.tick(false).await.unwrap();
        cluster.tick().await;
    }
    cluster.stop_archive().await;
    let _: Vec<String> = cluster.node.redis().everywhere("FLUSHALL", &[]).await;
    for (value, key) in snapshot {
        cluster.node.redis().restore(&key, value).await;
    }
    let recovered = cluster.tick().await.unwrap();
    assert_eq!((recovered.rooms, recovered.dead_letters), (3, 0));
    cluster.start_archive();
    let status = |room: &Room| {
        let (states, name) = (cluster.node.backend.states.clone(), room.name);
        async move { states.status(&[name]).await.unwrap().remove(0).unwrap() }
    };
    assert_eq!(status(&closed).await.state, RoomState::Closed);
    assert_eq!(status(&left).await.state, RoomState::Deleted);
    assert_eq!(status(&open).await.seq, 4, "numbers that SQL has are never assigned again");
    let next = cluster.node.submit_ids(&open, [5]).await[0];
    assert!(next > 10_000, "{next}");
    cluster.archived(&open, next).await;
    assert_eq!(cluster.stored(&open).await, [1, 2, 3, 4, next]);
    assert!(cluster.dead_letters().await.is_empty());
}

async fn an_interrupted_recovery_is_repeated(fixture: Fixture) {
    let mut cluster = Cluster::on(fixture).await;
    let room = cluster.node.room().await;
    cluster.tick().await;
    cluster.node.submit_ids(&room, 1..=5).await;
    cluster.archived(&room, 5).await;
    cluster.stop_archive().await;
    cluster.restore_sql(&room, 2, 0).await;
    // The recovery runs without its last step, the increment of the generation.
    assert_eq!(cluster.recoverer.recover(WentBack::Sql).await.unwrap().archived_again, 3);
    assert_eq!(cluster.tick().await.unwrap().archived_again, 0, "what is queued is not queued twice");
    cluster.start_archive();
    cluster.archived(&room, 5).await;
    assert_eq!(cluster.stored(&room).await, [1, 2, 3, 4, 5]);
    assert_eq!(cluster.tick().await, None);
}

async fn the_first_node_of_a_cluster_compares_the_stores(fixture: Fixture) {
    let mut cluster = Cluster::on(fixture).await;
    let (back, lost) = (cluster.node.room().await, cluster.node.room().await);
    cluster.tick().await;
    cluster.node.submit_ids(&back, 1..=5).await;
    cluster.node.submit_ids(&lost, 1..=5).await;
    cluster.archived(&lost, 5).await;
    cluster.archived(&back, 5).await;
    let key = format!("{PT}{{0}}:room:{}", back.name);
    let before: bytes::Bytes = cluster.node.redis().raw("DUMP", &[&key]).await;
    cluster.node.submit_ids(&back, 6..=10).await;
    cluster.archived(&back, 10).await;
    cluster.stop_archive().await;
    assert_eq!(cluster.recoverer.compare().await.unwrap(), Recovered { rooms: 2, ..Recovered::default() });
    // No node is running that could compare the generations. Both stores have the same generation.
    cluster.node.redis().restore(&key, before).await;
    cluster.restore_sql(&lost, 2, 1).await;
    let compared = cluster.recoverer.compare().await.unwrap();
    assert_eq!((compared.behind, compared.archived_again, compared.dead_letters), (1, 3, 0));
    cluster.start_archive();
    let first = cluster.fixture.node().await;
    assert!(first.submit_ids(&back, [11]).await[0] > 10_000);
    until("sql has all of it again", || async { cluster.stored(&lost).await == [1, 2, 3, 4, 5] }).await;
}

async fn a_number_that_was_assigned_twice_starts_a_recovery(fixture: Fixture) {
    let mut cluster = Cluster::on(fixture).await;
    let room = cluster.node.room().await;
    cluster.node.submit_ids(&room, 1..=3).await;
    cluster.archived(&room, 3).await;
    cluster.tick().await;
    let key = format!("{PT}{{0}}:room:{}", room.name);
    cluster.node.redis().raw::<i64>("HSET", &[&key, "seq", "1", "archived", "1"]).await;
    cluster.node.redis().raw::<u64>("DEL", &[&format!("{PT}{{0}}:log:{}", room.name)]).await;
    assert_eq!(cluster.node.submit_ids(&room, [4]).await, [2]);
    until("it is a dead letter", || async { cluster.dead_letters().await.len() == 1 }).await;
    assert_eq!(cluster.tick().await.unwrap().rooms, 1);
    assert!(cluster.node.submit_ids(&room, [5]).await[0] > 10_000);
    assert_eq!(cluster.stored(&room).await.len(), 3);
}

async fn a_retired_redis_accepts_nothing_and_begins_another_epoch(fixture: Fixture) {
    let cluster = Cluster::on(fixture).await;
    let room = cluster.node.room().await;
    assert_eq!(cluster.node.submit_ids(&room, [1]).await, [1]);
    cluster.archived(&room, 1).await;
    cluster.node.redis().retire().await.unwrap();
    let partition = cluster.node.backend.log.partition_of(room.name);
    for _ in 0..2 {
        assert!(cluster.node.backend.log.accept(partition, &[&guest(&room, "a")]).await.is_err());
    }
    assert!(cluster.node.redis().is_retired().await.unwrap());
    cluster.node.redis().adopt().await.unwrap();
    assert_eq!(cluster.node.redis().verify().await, Ok(crate::backend::redis::Owner::Ours));
    assert!(cluster.node.submit_ids(&room, [2]).await[0] > 10_000);
}

async fn a_node_on_another_database_stops_using_redis(fixture: Fixture) {
    let mut cluster = Cluster::on(fixture).await;
    let room = cluster.node.room().await;
    cluster.tick().await;
    cluster.sql("UPDATE installation SET generation = 0".to_owned()).await;
    // This node is not the leader, so it waits for [`GRACE`] before it stops using the broker.
    cluster.recoverer.tick(false).await.unwrap();
    assert_eq!(cluster.node.redis().suspension(), None);
    cluster.recoverer.behind_since = Instant::now().checked_sub(GRACE * 2);
    cluster.recoverer.tick(false).await.unwrap();
    assert!(cluster.node.redis().suspension().is_some());
    let partition = cluster.node.backend.log.partition_of(room.name);
    assert!(cluster.node.backend.log.accept(partition, &[&guest(&room, "a")]).await.is_err());
    cluster.sql("UPDATE installation SET generation = 9".to_owned()).await;
    cluster.recoverer.tick(false).await.unwrap();
    assert_eq!(cluster.node.submit_ids(&room, [1]).await, [1]);
    cluster.sql("UPDATE installation SET mode = 'single'".to_owned()).await;
    cluster.recoverer.tick(true).await.unwrap();
    assert!(cluster.node.redis().suspension().is_some(), "a single node serves the database");
    cluster.sql("UPDATE installation SET mode = 'cluster'".to_owned()).await;
    cluster.recoverer.tick(true).await.unwrap();
    assert_eq!(cluster.node.redis().suspension(), None);
    cluster.sql("UPDATE installation SET installation_id = 'test-installation-0002'".to_owned()).await;
    cluster.recoverer.tick(true).await.unwrap();
    assert!(cluster.node.redis().suspension().is_some(), "another installation's database");
}
