//! Tests that no webhook event is lost when a node is killed while it sends events. Other nodes resend the events that
//! are not marked as delivered, with the same ids.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pintalk_kit::webhook_receiver::{Receiver, Reply};
use reqwest::Method;
use serde_json::json;

use crate::eventually;
use crate::setup::{Plan, Setup};

/// Maximum time until another node sends the events.
const TAKEN_OVER: Duration = Duration::from_secs(30);
const ALL: Duration = Duration::from_secs(60);

const CASE: &str = "node_is_killed_before_it_marks_an_event_as_delivered";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_is_killed_before_it_marks_an_event_as_delivered() {
    let flags = vec!["--webhook-private".to_owned(), "127.0.0.1".to_owned()];
    let plan = Plan { flags, nodes: 2, rooms: 3, guests: 1, ..Plan::default() };
    let mut setup = Setup::set_empty(CASE, &plan).await;
    let receiver = Receiver::start().await;
    receiver.reply(Reply::Silence);
    let path = format!("/api/users/{}/webhook/", setup.host.id.0);
    let (status, made) = setup.call(0, Method::PUT, &path, json!({"url": receiver.url()})).await;
    assert_eq!(status, 201, "{made}");
    let secret = made["secret"].as_str().expect("a secret").to_owned();

    // The second node is frozen, so the first node sends the event. It receives no response and is killed before it can
    // mark the event as delivered.
    setup.nodes[1].signal("-STOP");
    setup.open_room().await;
    receiver.wait_for(1, TAKEN_OVER).await;
    setup.nodes[0].kill();
    let killed = Instant::now();
    setup.nodes[1].signal("-CONT");
    receiver.reply(Reply::Status(200));
    receiver.wait_for(2, TAKEN_OVER).await;
    let taken_over = killed.elapsed();
    assert_eq!(receiver.different(), 1, "the same event, under the same id: {:?}", receiver.ids());

    // The second node is killed while clients send messages.
    setup.nodes[0].start_again();
    for node in &setup.nodes {
        node.ready(&setup.http).await;
    }
    setup.fill(plan.rooms, &plan).await;
    let before = receiver.received().len();
    receiver.wait_for(before + 20, TAKEN_OVER).await;
    setup.nodes[1].kill();
    let gone = setup.nodes[1].address;
    setup.open_nodes.lock().retain(|address| *address != gone);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (mut figures, verdict) = setup.settle().await;

    let mut expected = BTreeSet::new();
    for (at, room) in setup.rooms.iter().enumerate() {
        expected.insert(format!("evt_{}_created", room.id.0));
        expected.extend(setup.stored(at).await.into_iter().map(|(seq, _)| format!("evt_{}_message_{seq}", room.id.0)));
    }
    eventually("every event has arrived", ALL, async || (receiver.different() >= expected.len()).then_some(())).await;
    let came: BTreeSet<String> = receiver.ids().into_iter().collect();
    assert_eq!(came, expected);
    assert!(receiver.received().iter().rev().take(20).all(|event| event.is_signed_with(&secret)));
    figures.note("sent again by another after s", format!("{:.1}", taken_over.as_secs_f64()));
    figures.note("events", expected.len());
    figures.note("came more than once", receiver.received().len() - expected.len());
    figures.show(CASE);
    setup.complain(&verdict);
    setup.stop().await;
}
