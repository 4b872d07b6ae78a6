//! Tests mistakes of operators, such as stores of different installations and stores that were restored from a backup.
//! Also tests an upgrade from another key layout in Redis.
//!
//! `PINTALK_CHAOS_FROM` is the path of the executable of an earlier release. Without this variable, the upgrade starts
//! from this build.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pintalk_kit::database::{Database, TestDatabase};
use pintalk_kit::node::Node;
use sea_orm::ConnectionTrait as _;

use crate::BUILT;
use crate::eventually;
use crate::setup::{Plan, Setup};

/// Lua script that copies each key whose name starts with `ARGV[1]` followed by `pt:`. In the name of the copy,
/// `ARGV[2]` replaces `ARGV[1]`.
const COPY: &str = "for _, key in ipairs(redis.call('KEYS', ARGV[1]..'pt:*')) do \
     redis.call('COPY', key, ARGV[2]..string.sub(key, #ARGV[1] + 1), 'REPLACE') end return 1";
const CLEAR: &str = "for _, key in ipairs(redis.call('KEYS', 'pt:*')) do redis.call('DEL', key) end return 1";

fn eval(setup: &Setup, script: &str, args: [&str; 2]) {
    let [from, to] = args;
    let redis = setup.redis.as_ref().expect("a Redis");
    let answer = redis.ask_one(0, &format!("EVAL \"{script}\" 0 \"{from}\" \"{to}\"")).expect("redis answers");
    assert_eq!(answer.trim(), ":1");
}

async fn drained(setup: &Setup) {
    eventually("everything is in SQL", Duration::from_secs(20), async || (setup.queued() == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_returns_to_an_earlier_state() {
    let mut setup = Setup::set("redis_returns_to_an_earlier_state", Plan::default()).await;
    setup.all_acknowledged_since(Instant::now(), Duration::from_secs(5)).await;
    eval(&setup, COPY, ["", "snapshot:"]);
    setup.all_acknowledged_since(Instant::now(), Duration::from_secs(5)).await;
    // Messages that are stored only in Redis would be lost. The test therefore waits until the database has all
    // messages.
    setup.pause().await;
    drained(&setup).await;
    eval(&setup, CLEAR, ["", ""]);
    eval(&setup, COPY, ["snapshot:", ""]);
    setup.resume();
    let whole = setup.all_acknowledged_since(Instant::now(), Duration::from_secs(5)).await;
    eventually("the leader has recovered", Duration::from_secs(20), async || {
        let mut recovered = 0.0;
        for node in &setup.nodes {
            recovered += node.metric(&setup.http, "pintalk_recoveries_total").await;
        }
        (recovered > 0.0).then_some(())
    })
    .await;
    let mut dead = 0.0;
    for node in &setup.nodes {
        dead += node.metric(&setup.http, "pintalk_dead_letters_total").await;
    }
    assert_eq!(dead, 0.0, "no number was assigned twice");
    setup.finish(|_, figures| figures.whole = Some(whole.as_secs_f64())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_is_restored_to_an_earlier_state() {
    let setup = Setup::set("sql_is_restored_to_an_earlier_state", Plan::default()).await;
    setup.all_acknowledged_since(Instant::now(), Duration::from_secs(5)).await;
    let run = async |statement: &str| {
        setup.store.connection().execute_unprepared(statement).await.expect("SQL succeeds");
    };
    run("CREATE TABLE backup_message AS SELECT chatroom_id, seq FROM chat_message").await;
    run("CREATE TABLE backup_room AS SELECT id, last_seq, message_count, unread_count, counted_through FROM chatroom")
        .await;
    setup.all_acknowledged_since(Instant::now() + Duration::from_secs(1), Duration::from_secs(8)).await;
    run("DELETE m FROM chat_message m LEFT JOIN backup_message b ON b.chatroom_id = m.chatroom_id AND b.seq = m.seq \
         WHERE b.seq IS NULL")
    .await;
    run("UPDATE chatroom c JOIN backup_room b ON b.id = c.id SET c.last_seq = b.last_seq, \
         c.message_count = b.message_count, c.unread_count = b.unread_count, c.counted_through = b.counted_through")
    .await;
    let whole = setup.all_acknowledged_since(Instant::now(), Duration::from_secs(5)).await;
    // The logs in Redis still contain all messages, so the nodes write them to the database again.
    setup.finish(|_, figures| figures.whole = Some(whole.as_secs_f64())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_index_serves_one_installation_and_a_database_one_mode() {
    let setup = Setup::set("a_redis_serves_one_installation", Plan { nodes: 2, ..Plan::default() }).await;
    let url = setup.redis.as_ref().expect("a Redis").url();
    let other = TestDatabase::create(Database::MySql).await;
    let store = pintalk::store::Store::connect(&other.url).await.expect("SQL answers");
    migration::SchemaState::up(store.connection(), None).await.expect("the schema is made");
    store.close().await;

    let refused = |why: &'static str, code: i32, but_for: Vec<(&'static str, String)>| {
        let but_for: Vec<(&str, &str)> = but_for.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut node = setup.nodes[0].start_another(&but_for);
        async move {
            let began = Instant::now();
            let found = loop {
                if let Some(code) = node.has_ended() {
                    break code;
                }
                assert!(began.elapsed() < Duration::from_secs(20), "{why}: the node does not end");
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            assert_eq!(found, Some(code), "{why}: {}", node.logged());
            assert!(node.logged().contains(why), "{why}: {}", node.logged());
        }
    };
    refused("pintalk installation adopt", 1, vec![("--database-url", other.url.clone())]).await;
    // Another database index of the same server counts as another Redis. A second installation can therefore use it.
    let beside = setup.nodes[0].start_another(&[("--database-url", &other.url), ("--redis-url", &format!("{url}/1"))]);
    beside.ready(&setup.http).await;
    drop(beside);
    setup.finish(|_, _| {}).await;
    other.drop_it().await;
}

/// Stops all nodes of one release before the nodes of the next release start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_another_key_layout_start_after_all_old_nodes_have_stopped() {
    let earlier = std::env::var_os("PINTALK_CHAOS_FROM").map(PathBuf::from);
    let program = earlier.clone().unwrap_or_else(|| BUILT.into());
    let drain = ["--drain-delay", "0s", "--drain", "1s"].map(str::to_owned).to_vec();
    let plan = Plan { program, flags: drain, ..Plan::default() };
    let mut setup = Setup::set("all_nodes_are_replaced", plan).await;
    setup.all_acknowledged_since(Instant::now(), Duration::from_secs(5)).await;
    // Killing a node leaves its messages in the archive queue. Another node can archive them only after the lease of
    // the killed node has expired.
    setup.nodes[0].kill();
    for node in &setup.nodes[1..] {
        node.signal("-TERM");
    }
    let stopped = Instant::now();
    for node in &mut setup.nodes[1..] {
        while node.has_ended().is_none() {
            assert!(stopped.elapsed() < Duration::from_secs(20), "a node does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    for node in &mut setup.nodes {
        node.start_again_as(Path::new(BUILT));
    }
    for node in &setup.nodes {
        node.ready(&setup.http).await;
    }
    let waited = stopped.elapsed();
    let whole = setup.all_acknowledged_since(Instant::now(), Duration::from_secs(10)).await;
    if let Some(earlier) = &earlier {
        let mut late: Node = setup.nodes[0].start_another_as(earlier);
        let began = Instant::now();
        let code = loop {
            if let Some(code) = late.has_ended() {
                break code;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "a node of the earlier release runs");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_ne!(code, Some(0), "{}", late.logged());
        setup.all_acknowledged_since(Instant::now(), Duration::from_secs(5)).await;
    }
    setup
        .finish(|_, figures| {
            figures.whole = Some(whole.as_secs_f64());
            figures.note("stopped s", format!("{:.1}", waited.as_secs_f64()));
        })
        .await;
}
