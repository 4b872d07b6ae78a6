//! Tests that real faults make the alerts fire that name them, and that the alerts end after the repair. Prometheus
//! evaluates the rules with short windows.

use std::time::Duration;

use pintalk_kit::database::Database;
use pintalk_kit::database_server::{OwnServer, Root};
use pintalk_kit::proxy::Wire;
use pintalk_kit::redis::{Kind, Servers};
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use tokio::task::JoinSet;

use crate::prometheus::{Prometheus, quick_rules};
use crate::setup::{Plan, Setup};
use crate::socket::{SHOP, Socket};

/// Maximum time until alerts fire or end. Messages are given up after 10 s, and the window of the rules is 8 s.
const ALARMED: Duration = Duration::from_secs(60);

/// Number of clients that connect at the same time. A node admits 256 joins at a time and 64 more that are slow.
const CROWD: u32 = 600;

async fn set(case: &str, flags: &[&str]) -> (Setup, Prometheus) {
    let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let setup = Setup::set(case, Plan { nodes: 2, rooms: 3, flags, ..Plan::default() }).await;
    let prometheus = Prometheus::watching(&setup.nodes, &quick_rules()).await;
    (setup, prometheus)
}

fn says(summaries: &[String], words: &str) {
    assert!(summaries.iter().any(|summary| summary.contains(words)), "no alert says {words:?}: {summaries:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_redis_fires_alerts_that_name_it() {
    let mut setup = Setup::set("full_redis_fires_alerts", Plan { nodes: 2, rooms: 3, ..Plan::default() }).await;
    let info = setup.redis().ask_one(0, "INFO memory").expect("redis answers");
    let used = info.lines().find_map(|line| line.trim().strip_prefix("used_memory:")?.parse::<u64>().ok());
    let limit = used.expect("the memory in use") * 100 / 86;
    setup.redis().ask_one(0, &format!("CONFIG SET maxmemory {limit}")).expect("redis answers");
    // A node reads the memory once a minute, and when it starts.
    let node = setup.nodes[0].start_another(&[]);
    node.ready(&setup.http).await;
    setup.nodes.push(node);
    let prometheus = Prometheus::watching(&setup.nodes, &quick_rules()).await;
    let summaries = prometheus.fires(&["PinTalkRedisMemory"], ALARMED).await;
    says(&summaries, "% of its memory limit");
    assert!(!prometheus.alerts(&["firing"]).await.contains("PinTalkRedisFull"));
    // An empty Redis already uses more memory than this.
    setup.redis().ask_one(0, "CONFIG SET maxmemory 500000").expect("redis answers");
    let summaries =
        prometheus.fires(&["PinTalkRedisFull", "PinTalkRedisUnavailable", "PinTalkNoNodeReady"], ALARMED).await;
    says(&summaries, "% of its memory limit; at 100 % no message is accepted");
    setup.redis().ask_one(0, "CONFIG SET maxmemory 0").expect("redis answers");
    prometheus.ends(&["PinTalkRedisFull", "PinTalkRedisUnavailable", "PinTalkNoNodeReady"], ALARMED).await;
    setup.finish(|_, _| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_denies_commands_fires_the_alerts_on_messages_and_handshakes() {
    let (mut setup, prometheus) = set("redis_that_denies_commands", &[]).await;
    // The nodes can still write to Redis, so that Redis does not count as unavailable. Messages need HMGET, and joins need
    // HGETALL.
    setup.redis().ask_one(0, "ACL SETUSER default -hmget -hgetall").expect("redis answers");
    let expected = [
        "PinTalkAcceptFailures",
        "PinTalkMessagesNotAccepted",
        "PinTalkMessagesGivenUp",
        "PinTalkSocketsClosed",
        "PinTalkHandshakesFailed",
    ];
    for name in expected {
        prometheus.fires(&[name], ALARMED).await;
    }
    setup.redis().ask_one(0, "ACL SETUSER default +@all").expect("redis answers");
    prometheus.ends(&expected, ALARMED).await;
    setup.finish(|_, _| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unavailable_sql_fires_the_alerts_on_the_archive_queue() {
    let (setup, prometheus) = set("unavailable_sql_fires_alerts", &["--limit-queue", "60"]).await;
    setup.sql_wire().set(Wire::Cut);
    let summaries = prometheus.fires(&["PinTalkSqlUnavailable", "PinTalkArchiveQueueFilling"], ALARMED).await;
    says(&summaries, "The archive queue uses ");
    prometheus.fires(&["PinTalkQueueFull", "PinTalkMessagesNotAccepted"], ALARMED).await;
    assert!(!prometheus.alerts(&["firing"]).await.contains("PinTalkSqlNotWritable"));
    setup.sql_wire().set(Wire::Whole);
    let fired =
        ["PinTalkSqlUnavailable", "PinTalkArchiveQueueFilling", "PinTalkQueueFull", "PinTalkMessagesNotAccepted"];
    prometheus.ends(&fired, ALARMED).await;
    setup.finish(|_, _| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_only_sql_fires_an_alert_with_the_reason() {
    let setup = Setup::set("read_only_sql_fires_an_alert", Plan { nodes: 1, rooms: 0, ..Plan::default() }).await;
    let own = OwnServer::start(Database::MariaDb).await;
    let mut root = Root::connect(&own.url()).await;
    let (name, user) = root.create_database().await;
    let redis = tokio::task::spawn_blocking(|| Servers::start(Kind::Redis7)).await.expect("redis starts");
    let (database_url, redis_url) = (format!("mysql://{user}:p@{}/{name}", own.address), redis.url());
    let stores = [("--database-url", database_url.as_str()), ("--redis-url", &redis_url)];
    // `start_another` takes pairs of flag and value. Both parts of the last pair are flags that contain their values.
    let node = setup.nodes[0].start_another(&[stores[0], stores[1], ("--auto-migrate=on", "--drain-delay=0s")]);
    node.ready(&setup.http).await;
    let nodes = [node];
    let prometheus = Prometheus::watching(&nodes, &quick_rules()).await;
    root.run("SET GLOBAL read_only = 1").await;
    let summaries = prometheus.fires(&["PinTalkSqlNotWritable"], ALARMED).await;
    says(&summaries, "cannot write to SQL: read_only");
    assert!(!prometheus.alerts(&["firing"]).await.contains("PinTalkSqlUnavailable"));
    root.run("SET GLOBAL read_only = 0").await;
    prometheus.ends(&["PinTalkSqlNotWritable"], ALARMED).await;
    drop((prometheus, nodes));
    setup.finish(|_, _| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_above_the_limit_of_handshakes_fire_an_alert() {
    let setup =
        Setup::set("clients_above_the_limit_of_handshakes", Plan { nodes: 1, rooms: 0, ..Plan::default() }).await;
    let nodes = [setup.nodes[0].start_another(&[("--limit-handshakes-per-minute", "6")])];
    nodes[0].ready(&setup.http).await;
    let prometheus = Prometheus::watching(&nodes, &quick_rules()).await;
    let connecting = tokio::spawn({
        let address = nodes[0].address;
        async move {
            loop {
                // The room does not exist. Only the number of handshakes matters.
                drop(Socket::open(address, "/ws/chat/AAAAAAAAAAAAAAAAAAAAAA/", Some(SHOP)).await);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let summaries = prometheus.fires(&["PinTalkHandshakesRefused"], ALARMED).await;
    says(&summaries, "of handshakes are rejected with 429");
    assert!(!prometheus.alerts(&["firing"]).await.contains("PinTalkHandshakesFailed"));
    connecting.abort();
    prometheus.ends(&["PinTalkHandshakesRefused"], ALARMED).await;
    drop((prometheus, nodes));
    setup.finish(|_, _| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_that_wait_for_a_locked_table_fire_the_alerts_on_joins() {
    let (setup, prometheus) = set("joins_that_wait_for_a_locked_table", &[]).await;
    // Status sockets read this table. Messages and the probe of the database do not, so SQL does not count as
    // unavailable.
    let session = setup.store.connection().begin().await.expect("a session");
    for statement in ["SET SESSION wait_timeout = 120", "LOCK TABLES user WRITE, user_config WRITE"] {
        session.execute_unprepared(statement).await.expect("the server obeys");
    }
    let mut crowd = JoinSet::new();
    for client in 0..CROWD {
        let address = setup.nodes[0].address;
        crowd.spawn(async move {
            // Each request asks for another host, so the node must read each from the database.
            for request in 0u64.. {
                let path = format!("/ws/status/{client:010}{request:011}A/");
                if let Some(mut socket) = Socket::open(address, &path, Some(SHOP)).await {
                    let _closed = socket.receive().await;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
    }
    prometheus.fires(&["PinTalkJoinsWaiting", "PinTalkHandshakesFailed"], ALARMED).await;
    let firing = prometheus.alerts(&["firing"]).await;
    assert!(!firing.contains("PinTalkSqlUnavailable") && !firing.contains("PinTalkSqlNotWritable"), "{firing:?}");
    session.execute_unprepared("UNLOCK TABLES").await.expect("the server obeys");
    session.rollback().await.expect("the server answers");
    crowd.shutdown().await;
    prometheus.ends(&["PinTalkJoinsWaiting", "PinTalkHandshakesFailed"], ALARMED).await;
    setup.finish(|_, _| {}).await;
}
