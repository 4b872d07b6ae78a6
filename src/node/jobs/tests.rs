//! Tests of the leader's jobs over several days. The tests advance only the clock of the jobs.

use super::*;
use crate::backend::broker::Change;
use crate::backend::broker::testing::{Fixture, Node, SinkCall, key_of, numbers};
use crate::backend::embedded::lease::SoleLease;
use crate::domain::clock::{ManualClock, SystemClock};
use crate::domain::{RoomChange, RoomState, Seq};
use crate::store::Dialect;

const DAY: Duration = Duration::from_secs(86_400);

/// Generates two tests per function: one with a single-node server and one with a cluster.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::Fixture::embedded(super::Dialect::Sqlite, super::$name).await;
            })*
        }
        mod cluster {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::Fixture::cluster(super::Dialect::MySql, super::$name).await;
            })*
        }
    };
}

on_both!(
    seven_days_after_its_close_a_room_is_empty_and_may_continue,
    a_room_that_is_resumed_before_keeps_everything,
    the_next_run_completes_an_interrupted_one,
    an_idle_room_is_closed_on_every_node_as_by_its_host,
    idle_rooms_stay_open_if_closing_is_off,
    a_room_without_a_message_is_deleted_once_no_connection_is_in_it,
    a_first_message_that_meets_the_deletion_of_its_room_is_not_lost,
    a_node_that_lost_the_lease_stops_between_two_steps,
    with_clock_skew_nothing_is_changed,
    counts_equal_the_changed_rows_and_counting_changes_nothing,
    the_leader_runs_due_jobs_until_it_is_stopped,
    a_command_closes_an_idle_room_in_sql_and_the_running_node_publishes_it,
);

struct JobSetup {
    jobs: Jobs,
    clock: Arc<ManualClock>,
}

/// Creates the jobs of a node with a clock that the test can advance.
fn jobs_of(fixture: &Fixture, node: &Node) -> JobSetup {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let settings = Settings { message_retention: 7 * DAY, idle_close: Some(7 * DAY) };
    let jobs = Jobs::new(fixture.store.clone(), clock.clone(), settings)
        .with_backend(&node.backend)
        .publishing_through(node.rooms.clone());
    JobSetup { jobs, clock }
}

impl JobSetup {
    /// Runs all jobs. Returns the name of each job that changed rows, with the number of rows.
    async fn run(&self) -> Vec<(&'static str, u64)> {
        let outcomes = self.jobs.run_once().await.into_iter().map(|(entry, outcome)| (entry.name, outcome.unwrap()));
        outcomes.filter(|(_, rows)| *rows > 0).collect()
    }
}

/// Creates a room with the messages 1 to `last`, all of which are in the database.
async fn a_room(fixture: &Fixture, node: &Node, last: Seq) -> Room {
    let room = node.room().await;
    node.submit_ids(&room, 1..=last).await;
    if fixture.servers.is_some() {
        node.archive_through(&fixture.store, &room, last).await;
    }
    fixture.store.rooms().get(room.id).await.unwrap().unwrap()
}

async fn a_closed_room(fixture: &Fixture, node: &Node, last: Seq) -> Room {
    let room = a_room(fixture, node, last).await;
    node.rooms.change(room.name, RoomChange::Close).await.unwrap()
}

/// Returns the number of messages that clients can read in a room, and the sequence numbers of these messages.
async fn listed(node: &Node, room: &Room) -> (u64, Vec<Seq>) {
    let (count, page) = node.history.by_offset(key_of(room), 0, 100).await.unwrap();
    (count, page.iter().map(|message| message.seq).collect())
}

async fn seven_days_after_its_close_a_room_is_empty_and_may_continue(fixture: Fixture) {
    let node = fixture.node().await;
    let setup = jobs_of(&fixture, &node);
    let room = a_closed_room(&fixture, &node, 5).await;
    setup.clock.advance(7 * DAY - Duration::from_secs(60));
    assert_eq!(setup.run().await, []);
    assert_eq!(listed(&node, &room).await.0, 5);

    setup.clock.advance(Duration::from_secs(120));
    assert_eq!(setup.run().await, [("purge_rooms", 1), ("delete_messages", 5)]);
    assert_eq!(setup.run().await, [], "once");
    let row = fixture.store.rooms().get(room.id).await.unwrap().unwrap();
    assert_eq!((row.latest_msg, row.latest_msg_at, row.is_closed, row.last_seq), (None, None, true, 5));
    assert_eq!(
        (listed(&node, &room).await, fixture.store.messages().newest_ids(room.id, 9).await),
        ((0, Vec::new()), Ok(Vec::new()))
    );

    node.rooms.change(room.name, RoomChange::Resume).await.unwrap();
    assert_eq!(node.newest(&room).await, [], "a new member receives no earlier message");
    assert_eq!(node.history.after(key_of(&room), 0).await.unwrap().entries, []);
    assert_eq!(node.history.before(key_of(&room), 6).await.unwrap(), []);
    assert_eq!(node.submit_ids(&room, [6]).await, [6]);
    assert_eq!(numbers(&node.newest(&room).await), [6]);
}

async fn a_room_that_is_resumed_before_keeps_everything(fixture: Fixture) {
    let node = fixture.node().await;
    let setup = jobs_of(&fixture, &node);
    let room = a_closed_room(&fixture, &node, 5).await;
    node.rooms.change(room.name, RoomChange::Resume).await.unwrap();
    setup.clock.advance(7 * DAY - Duration::from_secs(60));
    assert_eq!(setup.run().await, []);
    assert_eq!(numbers(&node.newest(&room).await), [1, 2, 3, 4, 5]);
    assert_eq!(fixture.store.rooms().get(room.id).await.unwrap().unwrap().counts.messages, 5);
}

async fn the_next_run_completes_an_interrupted_one(fixture: Fixture) {
    let node = fixture.node().await;
    let mut setup = jobs_of(&fixture, &node);
    setup.jobs.settings.idle_close = None;
    let rooms = [a_closed_room(&fixture, &node, 5).await, a_closed_room(&fixture, &node, 4).await];
    setup.clock.advance(8 * DAY);
    // The first run is interrupted after the rooms were marked as purged. The second run is interrupted while it
    // deletes the messages of a room. The host then restores this room.
    assert_eq!(fixture.store.retention().purge(setup.clock.now(), 10).await, Ok(2));
    assert_eq!(fixture.store.messages().delete_invisible(rooms[0].id, 2).await, Ok(2));
    node.rooms.change(rooms[0].name, RoomChange::Resume).await.unwrap();
    assert_eq!(node.submit_ids(&rooms[0], [6]).await, [6]);
    assert_eq!(setup.run().await, [("delete_messages", 7)]);
    assert_eq!(fixture.store.retention().purged(9).await, Ok(Vec::new()));
    assert_eq!(numbers(&node.newest(&rooms[0]).await), [6]);
}

async fn an_idle_room_is_closed_on_every_node_as_by_its_host(fixture: Fixture) {
    let node = fixture.node().await;
    let others = if fixture.servers.is_some() { vec![fixture.node().await] } else { Vec::new() };
    let setup = jobs_of(&fixture, &node);
    let room = a_room(&fixture, &node, 1).await;
    setup.clock.advance(7 * DAY - Duration::from_secs(60));
    assert_eq!(setup.run().await, []);
    setup.clock.advance(Duration::from_secs(120));
    assert_eq!(setup.run().await, [("close_idle_rooms", 1)]);
    let row = fixture.store.rooms().get(room.id).await.unwrap().unwrap();
    assert_eq!((row.state(), row.closed_at), (RoomState::Closed, Some(setup.clock.now())));
    let status = node.backend.states.status(&[room.name]).await.unwrap().remove(0).unwrap();
    assert_eq!((status.state, status.version), (RoomState::Closed, 1));
    for node in others.iter().chain([&node]) {
        let calls =
            node.sink.until("the close", |calls| calls.iter().any(|one| matches!(one, SinkCall::Changed(_)))).await;
        let is_close = |one: &&SinkCall| matches!(one, SinkCall::Changed(Change { change: RoomChange::Close, .. }));
        let Some(SinkCall::Changed(change)) = calls.iter().find(is_close) else { panic!("{calls:?}") };
        let closed = crate::protocol::chat::closed_frame(
            &"+09:00".parse::<crate::domain::WireOffset>().unwrap().wall_clock(setup.clock.now()),
        );
        assert_eq!((change.room, change.version, &change.notice), (room.name, 1, &closed));
    }
    assert_eq!(
        fixture.store.rooms().pending_events(setup.clock.now() + DAY, 9).await,
        Ok(Vec::new()),
        "every client was notified"
    );
    assert_eq!(setup.run().await, []);
    // A restored room stays open for seven more days without a message.
    let resumed =
        fixture.store.rooms().change(room.name, RoomChange::Resume, setup.clock.now()).await.unwrap().unwrap();
    node.rooms.publish(&resumed.event.unwrap()).await;
    setup.clock.advance(6 * DAY);
    assert_eq!(setup.run().await, []);
    setup.clock.advance(2 * DAY);
    assert_eq!(setup.run().await, [("close_idle_rooms", 1)]);
}

async fn idle_rooms_stay_open_if_closing_is_off(fixture: Fixture) {
    let node = fixture.node().await;
    let mut setup = jobs_of(&fixture, &node);
    setup.jobs.settings.idle_close = None;
    a_room(&fixture, &node, 1).await;
    setup.clock.advance(3_650 * DAY);
    assert_eq!((setup.run().await, setup.jobs.count(Job::CloseIdle).await.unwrap()), (Vec::new(), 0));
}

async fn a_node_that_lost_the_lease_stops_between_two_steps(fixture: Fixture) {
    let node = fixture.node().await;
    let setup = jobs_of(&fixture, &node);
    for _ in 0..3 {
        a_room(&fixture, &node, 1).await;
    }
    setup.clock.advance(8 * DAY);
    let one_by_one = JobEntry { batch: 1, ..TABLE[1] };
    assert_eq!(setup.jobs.run_job(&one_by_one, || false).await.unwrap(), 1);
    assert_eq!(setup.jobs.count(Job::CloseIdle).await.unwrap(), 2);
    assert_eq!(setup.jobs.run_job(&one_by_one, || true).await.unwrap(), 2);
}

async fn counts_equal_the_changed_rows_and_counting_changes_nothing(fixture: Fixture) {
    let node = fixture.node().await;
    let setup = jobs_of(&fixture, &node);
    a_room(&fixture, &node, 2).await;
    let closed = [a_closed_room(&fixture, &node, 3).await, a_closed_room(&fixture, &node, 4).await];
    setup.clock.advance(8 * DAY);
    // One room has been purged, and the other has not.
    assert_eq!(fixture.store.retention().purge(setup.clock.now(), 1).await, Ok(1));
    let left = closed.iter().map(|room| room.last_seq).sum::<u64>();
    for _ in 0..2 {
        let mut counted = Vec::new();
        for entry in &TABLE {
            counted.push((entry.name, setup.jobs.count(entry.job).await.unwrap()));
        }
        counted.retain(|(_, rows)| *rows > 0);
        assert_eq!(counted, [("close_idle_rooms", 1), ("purge_rooms", 1), ("delete_messages", left)]);
    }
    assert_eq!(setup.run().await, [("close_idle_rooms", 1), ("purge_rooms", 1), ("delete_messages", left)]);
}

async fn a_room_without_a_message_is_deleted_once_no_connection_is_in_it(fixture: Fixture) {
    let node = fixture.node().await;
    let setup = jobs_of(&fixture, &node);
    let (seeded, unseeded, written) = (node.room().await, node.unseeded_room().await, a_room(&fixture, &node, 1).await);
    node.backend.states.set_members(seeded.name, 1, 0).await.unwrap();
    setup.clock.advance(7 * DAY - Duration::from_secs(60));
    assert_eq!(setup.run().await, []);
    setup.clock.advance(Duration::from_secs(120));
    assert_eq!(setup.jobs.count(Job::DeleteEmpty).await.unwrap(), 2);
    // An empty room with a connected guest is not deleted. It is closed like any other idle room.
    assert_eq!(setup.run().await, [("delete_empty_rooms", 1), ("close_idle_rooms", 2)]);
    assert_eq!(fixture.store.rooms().get(unseeded.id).await, Ok(None));
    let is_deletion = |one: &SinkCall| matches!(one, SinkCall::Changed(Change { change: RoomChange::Delete, room, .. }) if *room == unseeded.name);
    node.sink.until("the deletion", |calls| calls.iter().any(is_deletion)).await;
    assert_eq!(
        node.accept(&[crate::backend::broker::testing::guest(&unseeded, "late")]).await,
        [crate::backend::broker::Outcome::Deleted]
    );
    assert_eq!(fixture.store.rooms().pending_events(setup.clock.now() + DAY, 9).await, Ok(Vec::new()));
    node.backend.states.set_members(seeded.name, 0, 0).await.unwrap();
    assert_eq!(setup.run().await, [("delete_empty_rooms", 1)]);
    assert_eq!(fixture.store.rooms().get(seeded.id).await, Ok(None));
    assert!(fixture.store.rooms().get(written.id).await.unwrap().is_some());
}

async fn a_first_message_that_meets_the_deletion_of_its_room_is_not_lost(fixture: Fixture) {
    let node = fixture.node().await;
    let setup = jobs_of(&fixture, &node);
    setup.clock.advance(8 * DAY);
    for first in 0..20 {
        let room = node.room().await;
        let message = crate::backend::broker::testing::guest(&room, "first");
        let write = async {
            if first % 2 == 1 {
                tokio::task::yield_now().await;
            }
            node.accept(std::slice::from_ref(&message)).await.remove(0)
        };
        let (outcome, _) = tokio::join!(write, setup.jobs.run_once());
        let row = fixture.store.rooms().get(room.id).await.unwrap();
        match outcome {
            crate::backend::broker::Outcome::Accepted(seq) => {
                assert!(row.is_some(), "a room with a message stays");
                assert_eq!(numbers(&node.history.after(key_of(&room), 0).await.unwrap().entries), [seq]);
            }
            crate::backend::broker::Outcome::Deleted => assert_eq!(row, None),
            other => panic!("{other:?}"),
        }
    }
}

async fn the_leader_runs_due_jobs_until_it_is_stopped(fixture: Fixture) {
    let node = fixture.node().await;
    let setup = jobs_of(&fixture, &node);
    let room = a_closed_room(&fixture, &node, 5).await;
    setup.clock.advance(8 * DAY);
    let (leader, stop) = (Leader::new(Arc::new(SoleLease)), CancellationToken::new());
    // No node leads yet. `run` returns at once, because `stop` is already cancelled.
    let cancelled = stop.child_token();
    cancelled.cancel();
    setup.jobs.clone().run(leader.clone(), cancelled).await;
    assert_eq!(listed(&node, &room).await.0, 5);
    let tasks =
        [tokio::spawn(leader.clone().run(stop.clone())), tokio::spawn(setup.jobs.clone().run(leader, stop.clone()))];
    crate::backend::broker::testing::until("the rows are deleted", || async {
        fixture.store.messages().newest_ids(room.id, 9).await.unwrap().is_empty()
    })
    .await;
    stop.cancel();
    for task in tasks {
        task.await.unwrap();
    }
}

async fn a_command_closes_an_idle_room_in_sql_and_the_running_node_publishes_it(fixture: Fixture) {
    let node = fixture.node().await;
    let JobSetup { mut jobs, clock } = jobs_of(&fixture, &node);
    jobs.rooms = None;
    let room = a_room(&fixture, &node, 1).await;
    clock.advance(8 * DAY);
    assert_eq!(jobs.run_job(&TABLE[1], || true).await.unwrap(), 1);
    assert_eq!(node.sink.changes(), []);
    let events = fixture.store.rooms().pending_events(clock.now() + DAY, 9).await.unwrap();
    assert_eq!(
        events.iter().map(|event| (event.room, event.change)).collect::<Vec<_>>(),
        [(room.name, RoomChange::Close)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_whose_newest_message_is_not_in_sql_yet_is_not_idle() {
    Fixture::cluster(Dialect::Sqlite, |fixture| async move {
        let node = fixture.node().await;
        let setup = jobs_of(&fixture, &node);
        let (waiting, idle) = (a_room(&fixture, &node, 1).await, a_room(&fixture, &node, 1).await);
        node.submit_ids(&waiting, [2]).await;
        setup.clock.advance(8 * DAY);
        let one_by_one = JobEntry { batch: 1, ..TABLE[1] };
        assert_eq!(setup.jobs.run_job(&one_by_one, || true).await.unwrap(), 1);
        assert!(fixture.store.rooms().get(idle.id).await.unwrap().unwrap().is_closed);
        assert!(!fixture.store.rooms().get(waiting.id).await.unwrap().unwrap().is_closed);
    })
    .await;
}

async fn with_clock_skew_nothing_is_changed(fixture: Fixture) {
    let node = fixture.node().await;
    let mut setup = jobs_of(&fixture, &node);
    let (closed, idle) = (a_closed_room(&fixture, &node, 3).await, a_room(&fixture, &node, 1).await);
    let clocks = Agreement::assumed();
    setup.jobs = setup.jobs.while_clocks_agree(clocks.clone());
    clocks.set(false);
    setup.clock.advance(8 * DAY);
    for (entry, outcome) in setup.jobs.run_once().await {
        assert!(matches!(outcome, Err(JobError::ClockSkew)), "{}: {outcome:?}", entry.name);
    }
    assert!(!fixture.store.rooms().get(idle.id).await.unwrap().unwrap().is_closed);
    assert_eq!(fixture.store.rooms().get(closed.id).await.unwrap().unwrap().counts.messages, 3);
    clocks.set(true);
    let done: Vec<_> = setup.run().await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(done, ["close_idle_rooms", "purge_rooms", "delete_messages"]);
}

#[test]
fn a_span_longer_than_time_is_before_everything() {
    let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    assert_eq!(ago(now, DAY), DateTime::from_timestamp(1_699_913_600, 0).unwrap());
    for span in [Duration::MAX, DAY * 365 * 100, Duration::from_secs(i64::MAX as u64)] {
        assert_eq!(ago(now, span), DateTime::UNIX_EPOCH);
    }
}

#[test]
fn every_duty_is_in_the_table_once_under_a_name_of_its_own() {
    for (at, entry) in TABLE.iter().enumerate() {
        assert!(TABLE[..at].iter().all(|other| other.name != entry.name && other.job != entry.job), "{entry:?}");
        assert!(entry.batch > 0 && !entry.upon.is_empty() && !entry.why.is_empty(), "{entry:?}");
    }
}
