//! Tests partial faults of databases: another session locks tables, the files of SQLite are deleted, or several nodes
//! migrate at the same time.

use std::time::{Duration, Instant};

use pintalk_kit::database::{Database, TestDatabase};
use pintalk_kit::node::Node;
use pintalk_kit::redis::{Kind, Servers};
use reqwest::Method;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use serde_json::Value;

use crate::eventually;
use crate::setup::{Plan, Setup};

/// Maximum time to detect a fault or a recovery on a busy machine.
const NOTICED: Duration = Duration::from_secs(8);

async fn is_degraded(setup: &Setup, expected: bool) -> Duration {
    let began = Instant::now();
    eventually(&format!("degraded is {expected} and the node is ready"), NOTICED, async || {
        let (status, body) = setup.nodes[0].readiness(&setup.http).await?;
        assert_eq!(status, 200, "{body}");
        let metric = setup.nodes[0].metric(&setup.http, "pintalk_degraded{store=\"sql\"}").await;
        (body.contains(&format!("\"degraded\":{expected}")) && metric == f64::from(u8::from(expected))).then_some(())
    })
    .await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locked_tables_degrade_a_node_that_still_serves_reads() {
    let mut setup = Setup::set("locked_tables", Plan { nodes: 1, rooms: 2, ..Plan::default() }).await;
    is_degraded(&setup, false).await;
    let session = setup.store.connection().begin().await.expect("a session");
    for statement in ["SET SESSION wait_timeout = 120", "LOCK TABLES chat_message READ, chatroom READ"] {
        session.execute_unprepared(statement).await.expect("the server obeys");
    }
    let locked = Instant::now();
    let degraded = is_degraded(&setup, true).await;
    let mut slowest = Duration::ZERO;
    while locked.elapsed() < Duration::from_secs(15) {
        let began = Instant::now();
        for path in ["/api/chat/chatrooms/".to_owned(), format!("{}chat-messages/?limit=5", setup.room_path(0))] {
            let (status, body) = setup.call(0, Method::GET, &path, Value::Null).await;
            assert_eq!(status, 200, "{path}: {body}");
        }
        slowest = slowest.max(began.elapsed());
        setup.all_acknowledged_since(Instant::now(), Duration::from_secs(3)).await;
    }
    assert!(slowest < Duration::from_secs(2), "two reads took {slowest:?}");
    session.execute_unprepared("UNLOCK TABLES").await.expect("the server obeys");
    session.rollback().await.expect("the server answers");
    setup.open_room().await;
    let recovered = is_degraded(&setup, false).await;
    setup.rooms.pop();
    setup
        .finish(|_, figures| {
            figures.note("degraded after s", format!("{:.1}", degraded.as_secs_f64()));
            figures.note("slowest two reads s", format!("{:.2}", slowest.as_secs_f64()));
            figures.note("not degraded after s", format!("{:.1}", recovered.as_secs_f64()));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_node_acknowledges_nothing_once_its_files_are_deleted() {
    let plan = Plan { redis: None, nodes: 1, rooms: 2, ..Plan::default() };
    let setup = Setup::set("files_deleted", plan).await;
    let path = setup.sqlite();
    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(format!("{}{suffix}", path.display())).expect("the file was there");
    }
    let gone = Instant::now();
    eventually("the node is not ready and names the reason", NOTICED, async || {
        let (status, body) = setup.nodes[0].readiness(&setup.http).await?;
        (status == 503 && body.contains("files lost")).then_some(())
    })
    .await;
    // Acknowledgements of messages that were committed before the files were deleted may still be in flight. Only later
    // acknowledgements are counted.
    let on_its_way = gone + Duration::from_millis(250);
    let later =
        |setup: &Setup| setup.ledger.sum(|record| record.acknowledged_at.iter().filter(|at| **at > on_its_way).count());
    eventually("people are refused", Duration::from_secs(20), async || (setup.ledger.closes(1013) > 0).then_some(()))
        .await;
    assert_eq!(later(&setup), 0, "messages were acknowledged after their files were gone");
    assert!(!path.exists(), "an empty database took the place of the lost one");
    let live = setup.http.get(setup.nodes[0].url("/health/live")).send().await.expect("an answer");
    assert_eq!(live.status(), 200, "the kernel keeps the files as long as the node runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_migrate_an_empty_database_at_once() {
    let setup = Setup::set("three_nodes_migrate", Plan { nodes: 1, rooms: 0, ..Plan::default() }).await;
    for of in [Database::MySql, Database::MariaDb] {
        let empty = TestDatabase::create(of).await;
        let redis = tokio::task::spawn_blocking(|| Servers::start(Kind::Redis7)).await.expect("redis starts");
        // `start_another` takes pairs of flag and value. Both parts of this pair are flags that contain their values.
        let migrating = ("--auto-migrate=on", "--drain-delay=0s");
        let stores = [("--database-url", empty.url.as_str()), ("--redis-url", &redis.url()), migrating];
        let mut nodes: Vec<Node> = (0..3).map(|_| setup.nodes[0].start_another(&stores)).collect();
        for node in &mut nodes {
            node.ready(&setup.http).await;
            assert_eq!(node.has_ended(), None);
        }
        drop(nodes);
        empty.drop_it().await;
    }
    setup.finish(|_, _| {}).await;
}
