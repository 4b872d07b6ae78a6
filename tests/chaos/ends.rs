//! Closes, reopens and deletes rooms while clients exchange messages. Each action is tested without a fault, while
//! MySQL is unavailable, and with a node that is killed.

use std::time::{Duration, Instant};

use pintalk_kit::proxy::Wire;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Manner;
use crate::eventually;
use crate::setup::{Plan, Setup};

/// Maximum time for all clients to be notified after the node that processes the request has been killed.
const NOTIFIED: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// MySQL is unavailable for one second during the action.
    Sql,
    /// The node that processes the request is killed during the action.
    Node,
}

const FAULTS: [Fault; 3] = [Fault::None, Fault::Sql, Fault::Node];

/// Sends a request to node 0 and injects the fault while the node processes it. Repeats a failed request on node 1
/// until it succeeds. Returns the number of failed responses.
async fn repeat_until_done(
    setup: &mut Setup,
    fault: Fault,
    method: Method,
    path: &str,
    body: Value,
    done: &[u16],
) -> usize {
    let moment = Duration::from_millis(setup.rng.below(25));
    let first = setup.call(0, method.clone(), path, body.clone());
    let (answer, ()) = tokio::join!(first, async {
        tokio::time::sleep(moment).await;
        match fault {
            Fault::None => {}
            Fault::Sql => setup.sql_wire().set(Wire::Cut),
            Fault::Node => setup.nodes[0].signal("-KILL"),
        }
    });
    if fault == Fault::Sql {
        tokio::time::sleep(Duration::from_secs(1)).await;
        setup.sql_wire().set(Wire::Whole);
    }
    let mut refused = 0;
    let (mut status, until) = (answer.0, Instant::now() + NOTIFIED);
    while !done.contains(&status) {
        refused += 1;
        assert!(matches!(status, 0 | 503), "{method} {path} is answered with {status}: {}", answer.1);
        assert!(Instant::now() < until, "{method} {path} is still answered with {status}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        status = setup.call(1, method.clone(), path, body.clone()).await.0;
    }
    if fault == Fault::Node {
        setup.nodes[0].kill();
        setup.nodes[0].start_again();
    }
    refused
}

async fn all_over(setup: &Setup, room: usize, codes: &[u16]) {
    eventually(&format!("all clients of room {room} are disconnected"), NOTIFIED, async || {
        let over = setup.ledger.each(|record| record.room != room || record.over.is_some());
        over.into_iter().all(|over| over).then_some(())
    })
    .await;
    let codes_of = setup.ledger.each(|record| record.over.filter(|code| record.room == room && !codes.contains(code)));
    assert_eq!(codes_of.into_iter().flatten().collect::<Vec<_>>(), Vec::<u16>::new(), "room {room}");
}

fn talkative() -> Manner {
    Manner { every: Some(Duration::from_millis(50)), ..Manner::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_are_closed_and_reopened_during_a_conversation() {
    let plan = Plan { rooms: 6, manner: talkative(), ..Plan::default() };
    let mut setup = Setup::set("rooms_are_closed_and_resumed", plan).await;
    let mut refused = 0;
    for room in 0..6 {
        let fault = FAULTS[room % 3];
        let path = setup.room_path(room);
        refused += repeat_until_done(&mut setup, fault, Method::PATCH, &path, json!({"isClosed": true}), &[200]).await;
        // The host's socket is closed with 1000, or with 4009 if the host reconnects to the closed room.
        all_over(&setup, room, &[1000, 4009]).await;
        setup.nodes[0].ready(&setup.http).await;
        if room >= 3 {
            let restore = format!("{path}restore/");
            refused += repeat_until_done(&mut setup, fault, Method::PATCH, &restore, Value::Null, &[200]).await;
            let again = Instant::now();
            for side in [false, true] {
                setup.add_late(room, &format!("again{room}_{side}"), side, talkative());
            }
            eventually("people talk again", NOTIFIED, async || {
                let talks = |record: &crate::ledger::Record| {
                    record.room == room && record.acknowledged_at.last().is_some_and(|at| *at > again)
                };
                setup.ledger.each(talks).into_iter().any(|talks| talks).then_some(())
            })
            .await;
            setup.nodes[0].ready(&setup.http).await;
        }
    }
    setup
        .finish(|setup, figures| {
            figures.note("closed", 6);
            figures.note("resumed", 3);
            figures.note("answered with an error first", refused);
            let unacknowledged =
                setup.ledger.sum(|record| if record.over.is_some() { record.pending.len() } else { 0 });
            figures.note("unacknowledged and not stored, or not seen", unacknowledged);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_room_leaves_nothing_and_is_not_created_again() {
    let plan = Plan { rooms: 6, manner: talkative(), ..Plan::default() };
    let mut setup = Setup::set("nothing_of_a_room_that_was_left_remains", plan).await;
    let mut refused = 0;
    for room in 0..6 {
        let path = setup.room_path(room);
        // 404 means that an earlier request succeeded but its response was lost.
        refused +=
            repeat_until_done(&mut setup, FAULTS[room % 3], Method::DELETE, &path, Value::Null, &[204, 404]).await;
        all_over(&setup, room, &[4004]).await;
        setup.nodes[0].ready(&setup.http).await;
    }
    eventually("nothing is left", NOTIFIED, async || nothing_left(&setup).await).await;
    // Clients that connect to the deleted rooms are rejected, and no room is created again.
    for room in 0..6 {
        let name = format!("knocks{room}");
        setup.add_late(room, &name, false, talkative());
    }
    for room in 0..6 {
        all_over(&setup, room, &[4004]).await;
    }
    assert_eq!(nothing_left(&setup).await, Some(()), "something of a room came back");
    setup.forget_rooms();
    setup.finish(|_, figures| figures.note("answered with an error first", refused)).await;
}

async fn nothing_left(setup: &Setup) -> Option<()> {
    let redis = setup.redis.as_ref().expect("a Redis");
    for room in 0..setup.rooms.len() {
        let kept = ["log", "ids", "seed"].map(|kind| {
            let key = setup.key(&format!("{kind}:{}", setup.rooms[room].name));
            redis.ask_one(0, &format!("EXISTS {key}")).expect("redis answers")
        });
        let row = setup.store.rooms().get(setup.rooms[room].id).await.expect("SQL");
        if row.is_some() || !setup.stored(room).await.is_empty() || kept.iter().any(|kept| kept.trim() != ":0") {
            return None;
        }
    }
    (setup.queued() == 0).then_some(())
}
