//! Tests an unavailable MySQL, a full archive queue, and a row that cannot be stored.

use std::time::{Duration, Instant};

use pintalk_kit::proxy::Wire;
use reqwest::Method;
use serde_json::Value;

use crate::ledger::Record;
use crate::setup::{Plan, Setup};
use crate::{eventually, span};

/// Maximum time from the recovery of MySQL until the archive queue is almost empty.
const CAUGHT_UP: Duration = Duration::from_secs(60);

async fn caught_up(setup: &Setup) -> Duration {
    let began = Instant::now();
    eventually("everything is in SQL", CAUGHT_UP, async || (setup.queued() < 50).then_some(())).await;
    began.elapsed()
}

async fn away(case: &str, wire: Wire) {
    let mut setup = Setup::set(case, Plan::default()).await;
    // Creates a login that the nodes have not cached.
    setup.log_in_again().await;
    setup.sql_wire().set(wire);
    let gone = Instant::now();
    eventually("nodes report that they are degraded", Duration::from_secs(30), async || {
        for node in &setup.nodes {
            let (status, body) = node.readiness(&setup.http).await?;
            assert_eq!(status, 200, "a node is not ready without SQL: {body}");
            if !body.contains("\"degraded\":true") {
                return None;
            }
        }
        Some(())
    })
    .await;
    // Clients that join now, including those of the host, receive the newest messages from the log in Redis.
    setup.add_listeners("late", false);
    setup.add_listeners("late-host", true);
    let silence = span(20, 120);
    while gone.elapsed() < silence {
        let one_second_ago = Instant::now();
        setup.all_acknowledged_since(one_second_ago, Duration::from_secs(3)).await;
        for node in &setup.nodes {
            assert!(node.is_ready(&setup.http).await, "a node is not ready without SQL");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let closed_before = |record: &Record| record.closes.values().sum::<usize>();
    let refused = setup.ledger.each(|record| {
        let is_refused = !record.name.starts_with("late") && closed_before(record) > 0;
        is_refused.then(|| format!("{}: {:?}", record.name, record.closes))
    });
    let refused: Vec<String> = refused.into_iter().flatten().collect();
    let asked_again = setup.ledger.sum(closed_before);
    let queued = setup.queued();
    let late = setup
        .ledger
        .each(|record| (record.name.starts_with("late") && record.received.is_empty()).then(|| record.name.clone()));
    setup.sql_wire().set(Wire::Whole);
    let healed = Instant::now();
    let whole = setup.all_acknowledged_since(healed, Duration::from_secs(5)).await;
    let caught_up = caught_up(&setup).await;
    let late: Vec<String> = late.into_iter().flatten().collect();
    assert!(refused.is_empty(), "sockets were closed as SQL was away: {refused:?}");
    assert!(late.is_empty(), "clients that joined while SQL was unavailable received nothing: {late:?}");
    setup
        .finish(|_, figures| {
            figures.whole = Some(whole.as_secs_f64());
            figures.note("away s", silence.as_secs());
            figures.note("queued", queued);
            figures.note("new clients asked to reconnect", asked_again);
            figures.note("caught up after s", format!("{:.1}", caught_up.as_secs_f64()));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_refuses_connections() {
    away("mysql_refuses_connections", Wire::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_to_mysql_becomes_silent() {
    away("the_connection_to_mysql_becomes_silent", Wire::Silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_queue_rejects_messages_and_recovers() {
    let flags = vec!["--limit-queue".to_owned(), "40".to_owned()];
    let setup = Setup::set("full_queue", Plan { flags, ..Plan::default() }).await;
    setup.sql_wire().set(Wire::Cut);
    eventually("a client is disconnected", Duration::from_secs(30), async || {
        (setup.ledger.closes(1013) > 0).then_some(())
    })
    .await;
    for node in &setup.nodes {
        assert!(node.is_ready(&setup.http).await, "a node is not ready without SQL");
    }
    tokio::time::sleep(span(3, 60)).await;
    setup.sql_wire().set(Wire::Whole);
    let healed = Instant::now();
    let whole = setup.all_acknowledged_since(healed, Duration::from_secs(20)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    setup
        .finish(|setup, figures| {
            figures.whole = Some(whole.as_secs_f64());
            figures.note("1013", setup.ledger.closes(1013));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_that_cannot_be_stored_becomes_a_dead_letter() {
    let mut setup = Setup::set("row_that_cannot_be_stored", Plan::default()).await;
    let (queue, dead) = (setup.key("queue"), setup.key("dead"));
    let (name, id) = (setup.rooms[0].name.clone(), setup.rooms[0].id.0);
    for frame in ["nothing-that-anybody-wrote", "{}"] {
        let add = format!("XADD {queue} * n {name} i {id} l life a 1795000000000 f {frame}");
        setup.redis().ask_one(0, &add).expect("redis answers");
    }
    let poisoned = Instant::now();
    let whole = setup.all_acknowledged_since(poisoned, Duration::from_secs(5)).await;
    let redis = setup.redis.as_ref().expect("a Redis");
    eventually("the dead letters have both", Duration::from_secs(20), async || {
        let dead = redis.ask_one(0, &format!("XLEN {dead}")).ok()?;
        (dead.trim() == ":2").then_some(())
    })
    .await;
    let mut counted = 0.0;
    for node in &setup.nodes {
        counted += node.metric(&setup.http, "pintalk_dead_letters_total").await;
    }
    assert_eq!(counted, 2.0, "dead letters are counted");
    let path = format!("{}chat-messages/?limit=1", setup.room_path(0));
    assert_eq!(setup.call(1, Method::GET, &path, Value::Null).await.0, 200);
    setup
        .finish(|_, figures| {
            figures.whole = Some(whole.as_secs_f64());
            figures.note("dead letters", 2);
        })
        .await;
}
