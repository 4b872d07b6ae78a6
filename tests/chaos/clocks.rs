//! Tests that all nodes make the same decisions when the clock of one machine is wrong or is stepped.

use std::time::{Duration, Instant};

use pintalk_kit::node::Node;
use reqwest::Method;
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use crate::eventually;
use crate::setup::{EMAIL, PASSWORD, Plan, Setup};
use crate::socket::{Event, SHOP, Socket};

const OFFSETS: [&str; 4] = ["+8d", "+1h", "+5m", "-5m"];

/// Time during which a node with a wrong clock must not become leader. It exceeds the lifetime of a lease plus the time
/// for acquiring a lease.
const LEASE_AND_MORE: Duration = Duration::from_secs(22);

/// Maximum time for a node to start and for a leader to be elected, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(40);

/// Logs the host in at a node. Returns the access token and the refresh cookie.
async fn log_in(setup: &Setup, node: &Node) -> (String, String) {
    let body = json!({"email": EMAIL, "password": PASSWORD});
    let answer = setup.http.post(node.url("/api/auth/login/")).json(&body).send().await.expect("an answer");
    let cookie = cookie_of(&answer);
    let body: Value = answer.json().await.expect("JSON");
    (body["accessToken"].as_str().expect("a token").to_owned(), cookie)
}

fn cookie_of(answer: &reqwest::Response) -> String {
    let cookie = answer.headers().get("set-cookie").and_then(|cookie| cookie.to_str().ok()).expect("a cookie");
    cookie.split(';').next().expect("a pair").to_owned()
}

/// Refreshes the login at a node. Returns the new cookie, or the status with which the node rejects the old one.
async fn refresh(setup: &Setup, node: &Node, cookie: &str) -> Result<String, u16> {
    let request = setup.http.post(node.url("/api/auth/token/refresh/")).header("Cookie", cookie);
    let answer = request.send().await.expect("an answer");
    if answer.status() == 201 { Ok(cookie_of(&answer)) } else { Err(answer.status().as_u16()) }
}

/// Returns the entry of a room in the host's room list, or `None` if the room is not listed.
async fn listed(setup: &Setup, node: usize, room: usize) -> Option<Value> {
    let (status, list) = setup.call(node, Method::GET, "/api/chat/chatrooms/?page_size=100", Value::Null).await;
    let id = setup.rooms[room].id.0;
    (status == 200).then(|| list["results"].as_array()?.iter().find(|row| row["id"] == id).cloned()).flatten()
}

async fn leaders(setup: &Setup, nodes: &[usize]) -> Vec<usize> {
    let mut leaders = Vec::new();
    for node in nodes {
        if setup.nodes[*node].metric(&setup.http, "pintalk_leader").await > 0.0 {
            leaders.push(*node);
        }
    }
    leaders
}

/// Checks that the tokens of each node are valid on all nodes. The second use of a refresh token by a concurrent tab
/// must not be treated as theft, even on another node.
async fn tokens_are_good_everywhere(setup: &Setup) {
    let path = format!("/api/users/{}/", setup.host.id.0);
    for issuer in &setup.nodes {
        let (token, mut cookie) = log_in(setup, issuer).await;
        for verifier in &setup.nodes {
            let answer = setup.http.get(verifier.url(&path)).bearer_auth(&token).send().await.expect("an answer");
            assert_eq!(answer.status(), 200, "a token of {} at {}", issuer.address, verifier.address);
            let status = format!("/ws/chat/{}/status/?token={token}", setup.host.uuid);
            let mut socket = Socket::open(verifier.address, &status, None).await.expect("open");
            let received = tokio::time::timeout(Duration::from_millis(200), socket.receive()).await;
            assert!(!matches!(received, Ok(Event::Closed { .. } | Event::Broken)), "{received:?}");
            let next = refresh(setup, issuer, &cookie).await;
            assert_eq!(refresh(setup, verifier, &cookie).await, next, "the second tab");
            cookie = next.expect("a token");
        }
    }
}

/// Checks messages that arrive at one node after the host has read the room at another node. They must count as unread,
/// and the host must receive an e-mail about them.
async fn what_arrives_after_a_look_is_unread_and_mailed(setup: &mut Setup) {
    for looks_at in 0..setup.nodes.len() {
        let room = setup.open_room().await;
        let guest_path = setup.guest_path(room);
        let message = |text: &str| {
            json!({"type": "chat_message", "is_host": false, "message": text, "datetime": "2026-11-30T12:00:00"})
                .to_string()
        };
        let mut guest = Socket::open(setup.nodes[0].address, &guest_path, Some(SHOP)).await.expect("open");
        assert!(guest.send(&message("before")).await);
        assert!(matches!(guest.receive().await, Event::Frame(_)));
        let mut host = Socket::open(setup.nodes[looks_at].address, &setup.host_path(room), None).await.expect("open");
        assert!(matches!(host.receive().await, Event::Frame(_)), "the history");
        host.drop_hard();
        eventually("the host has looked", TIMEOUT, async || {
            let row = listed(setup, 0, room).await?;
            (row["unread"] == 0 && row["lastCheckedAt"].as_str()? >= row["latestMsgAt"].as_str()?).then_some(())
        })
        .await;
        // The server may not have detected yet that the host has left. Messages are sent until one of them counts as
        // unread.
        let began = Instant::now();
        while listed(setup, 0, room).await.is_none_or(|row| row["unread"] == 0) {
            assert!(began.elapsed() < TIMEOUT, "nothing is unread after a look at node {looks_at}");
            assert!(guest.send(&message("after")).await);
            assert!(matches!(guest.receive().await, Event::Frame(_)));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let unread = listed(setup, 0, room).await.expect("a row")["unread"].clone();
        for node in 0..setup.nodes.len() {
            eventually("the message is unread", TIMEOUT, async || {
                let row = listed(setup, node, room).await?;
                (row["unread"] == unread && row["latestMsgAt"].as_str()? > row["lastCheckedAt"].as_str()?).then_some(())
            })
            .await;
        }
        let id = setup.rooms[room].id.0;
        let due = format!("UPDATE notification SET due_at = due_at - INTERVAL 60 SECOND WHERE chatroom_id = {id}");
        let before = mailed(setup).await;
        // The previous digest is deleted, so that the minimum interval between digests does not delay this one.
        for statement in ["DELETE FROM host_digest", &due] {
            setup.store.connection().execute_unprepared(statement).await.expect("SQL");
        }
        eventually("an e-mail is written", TIMEOUT, async || (mailed(setup).await > before).then_some(())).await;
    }
}

async fn mailed(setup: &Setup) -> f64 {
    let mut mailed = 0.0;
    for node in &setup.nodes {
        let name = r#"pintalk_notifications_total{to="host",outcome="mailed"}"#;
        mailed += node.sample(&setup.http, name).await;
    }
    mailed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_wrong_clocks_agree_on_tokens_and_unread_counts_and_do_not_lead() {
    let plan = Plan { nodes: 1, rooms: 3, guests: 1, ..Plan::default() };
    let mut setup = Setup::set("nodes_with_wrong_clocks_agree", plan).await;
    for offset in OFFSETS {
        let node = setup.nodes[0].start_another_at(offset);
        node.ready(&setup.http).await;
        setup.open_nodes.lock().push(node.address);
        setup.nodes.push(node);
    }
    for (node, seconds) in setup.nodes.iter().zip([0.0, 691_200.0, 3_600.0, 300.0, -300.0]) {
        for store in ["sql", "redis"] {
            let skew = node.sample(&setup.http, &format!("pintalk_clock_skew_seconds{{store=\"{store}\"}}")).await;
            assert!((skew - seconds).abs() < 1.0, "{skew} against {store}, not {seconds}");
        }
    }
    tokens_are_good_everywhere(&setup).await;
    what_arrives_after_a_look_is_unread_and_mailed(&mut setup).await;

    // The only node with a correct clock is killed. No other node may become leader, delete data or close rooms.
    let closed = setup.open_room().await;
    let mut guest = Socket::open(setup.nodes[1].address, &setup.guest_path(closed), Some(SHOP)).await.expect("open");
    let keep = json!({"type": "chat_message", "is_host": false, "message": "keep", "datetime": "2026-11-30T12:00:00"});
    assert!(guest.send(&keep.to_string()).await);
    assert!(matches!(guest.receive().await, Event::Frame(_)));
    let (status, _) = setup.call(1, Method::PATCH, &setup.room_path(closed), json!({"isClosed": true})).await;
    assert_eq!(status, 200);
    let right = setup.nodes[0].address;
    setup.open_nodes.lock().retain(|address| *address != right);
    setup.nodes[0].kill();
    let killed = Instant::now();
    while killed.elapsed() < LEASE_AND_MORE {
        assert_eq!(leaders(&setup, &[1, 2, 3, 4]).await, [] as [usize; 0]);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    setup.nodes[0].start_again();
    setup.nodes[0].ready(&setup.http).await;
    setup.open_nodes.lock().push(right);
    eventually("the node whose clock is right leads", TIMEOUT, async || {
        (leaders(&setup, &[0, 1, 2, 3, 4]).await == [0]).then_some(())
    })
    .await;
    for room in 0..setup.rooms.len() {
        let row = setup.store.rooms().get(setup.rooms[room].id).await.expect("SQL").expect("a room");
        assert_eq!((row.is_closed, row.purged_through), (room == closed, 0), "{}", setup.rooms[room].name);
    }
    assert_eq!(setup.stored(closed).await.len(), 1);
    for (node, offset) in setup.nodes[1..].iter().zip(OFFSETS) {
        assert!(node.logged().contains("clock skew above 1 s"), "{offset}");
        assert!(node.logged().contains("clocks not reliable, leadership and jobs suspended"), "{offset}");
    }
    setup.finish(|setup, figures| figures.note("nodes", setup.nodes.len())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_stops_leading_when_its_clock_is_stepped_and_changes_nothing() {
    let plan = Plan { nodes: 1, rooms: 2, guests: 1, ..Plan::default() };
    let mut setup = Setup::set("leader_whose_clock_steps", plan).await;
    let node = setup.nodes[0].start_another_at("+0s");
    node.ready(&setup.http).await;
    setup.nodes.push(node);
    setup.nodes[0].kill();
    let right = setup.nodes[0].address;
    let stepping = setup.nodes[1].address;
    *setup.open_nodes.lock() = vec![stepping];
    eventually("it leads", TIMEOUT, async || (leaders(&setup, &[1]).await == [1]).then_some(())).await;
    let (token, cookie) = log_in(&setup, &setup.nodes[1]).await;
    let path = format!("/api/users/{}/", setup.host.id.0);
    for offset in ["+8d", "-8d", "+31s"] {
        setup.nodes[1].step_clock(offset);
        eventually("it steps down", TIMEOUT, async || leaders(&setup, &[1]).await.is_empty().then_some(())).await;
        let answer = setup.http.get(setup.nodes[1].url(&path)).bearer_auth(&token).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{offset}");
        setup.nodes[1].step_clock("+0s");
        eventually("it leads again", TIMEOUT, async || (leaders(&setup, &[1]).await == [1]).then_some(())).await;
    }
    setup.nodes[1].step_clock("+8d");
    setup.nodes[0].start_again();
    setup.nodes[0].ready(&setup.http).await;
    setup.open_nodes.lock().push(right);
    eventually("the other leads", TIMEOUT, async || (leaders(&setup, &[0, 1]).await == [0]).then_some(())).await;
    let next = refresh(&setup, &setup.nodes[0], &cookie).await;
    assert_eq!(refresh(&setup, &setup.nodes[1], &cookie).await, next);
    assert!(next.is_ok());
    for room in &setup.rooms {
        let row = setup.store.rooms().get(room.id).await.expect("SQL").expect("a room");
        assert_eq!((row.is_closed, row.purged_through), (false, 0));
    }
    setup.finish(|_, _| ()).await;
}
