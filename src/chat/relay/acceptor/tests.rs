//! Tests of the acceptor with a broker whose failures the tests control. Time is paused, so that timeouts elapse at
//! once.

use bytes::Bytes;
use chrono::Utc;
use parking_lot::Mutex;

use super::*;
use crate::backend::Backend;
use crate::chat::history::History;
use crate::chat::hub::{Identity, Place, Registration};
use crate::domain::Rng;
use crate::domain::clock::ManualClock;
use crate::domain::{MessageId, Side};
use crate::protocol::chat::message_head;
use crate::store::Store;

mod fake_broker;

use fake_broker::{FakeBroker, FakeState, Fault};

struct AcceptorTest {
    broker: Arc<FakeBroker>,
    hub: Arc<Hub>,
    acceptor: Acceptor,
    shutdown: Shutdown,
    _folder: tempfile::TempDir,
}

impl AcceptorTest {
    async fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self::slow(faults, Duration::ZERO).await
    }

    async fn slow(faults: impl IntoIterator<Item = Fault>, takes: Duration) -> Self {
        let hub = Hub::new(Rng::from_seed(1));
        let state = FakeState { faults: faults.into_iter().collect(), ..FakeState::default() };
        let broker = Arc::new(FakeBroker { state: Mutex::new(state), hub: hub.clone(), takes });
        // No test needs a result from the database. It has no tables, so every query fails.
        let folder = tempfile::tempdir().unwrap();
        let store = Store::connect_lazy(&format!("sqlite://{}/db.sqlite", folder.path().display())).await.unwrap();
        let clock = Arc::new(ManualClock::new(chrono::DateTime::<Utc>::UNIX_EPOCH));
        let backend = Backend::embedded(store.clone(), clock.clone());
        let history = History::new(&backend, store.clone());
        let wire = "+09:00".parse().unwrap();
        let rooms = Rooms::new(store, &backend, history, clock, Rng::from_seed(2), wire);
        let shutdown = Shutdown::new();
        let acceptor = Acceptor::start(Partition(0), broker.clone(), rooms, hub.clone(), &shutdown);
        Self { broker, hub, acceptor, shutdown, _folder: folder }
    }

    fn guest(&self, room: RoomName) -> (Arc<Connection>, Registration) {
        let connection = self.hub.connection(Identity::Guest);
        let registration = self.hub.register(Place::Room(room), connection.clone());
        (connection, registration)
    }

    fn submit(&self, connection: &Arc<Connection>, room: RoomName, id: &str) {
        self.submit_of_length(connection, room, id, 2);
    }

    fn submit_of_length(&self, connection: &Arc<Connection>, room: RoomName, id: &str, length: usize) {
        let (id, datetime): (MessageId, _) = (id.parse().unwrap(), "2023-03-23T08:15:07".parse().unwrap());
        let text = "x".repeat(length);
        let head = message_head(Side::Guest, &text, &datetime, &id).into();
        self.acceptor
            .submit(connection.clone(), Submission { room, side: Side::Guest, id, text, datetime, head, trace: None });
    }

    /// Waits until `count` messages of a room are accepted, and returns their ids.
    async fn accepted(&self, room: RoomName, count: usize) -> Vec<String> {
        let waiting = async {
            while self.broker.accepted(room).len() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("all are accepted");
        self.broker.accepted(room)
    }

    /// Stops the acceptor and waits until it has processed all messages.
    async fn stop(&self) {
        tokio::time::timeout(Duration::from_secs(60), self.shutdown.finish()).await.expect("it ends");
        assert_eq!(self.acceptor.0.bytes.load(Ordering::Relaxed), 0, "every message is accounted for once");
    }
}

fn room(number: u8) -> RoomName {
    RoomName::from_random([number; 16])
}

/// Returns the message ids in the frames that wait for a socket.
fn received(connection: &Connection) -> Vec<String> {
    let mut frames = VecDeque::new();
    connection.take(&mut frames, usize::MAX);
    let id = |frame: &Bytes| {
        let text = String::from_utf8_lossy(frame).into_owned();
        let (_, rest) = text.split_once("\"id\":\"").expect("a message");
        rest.split_once('"').expect("an id").0.to_owned()
    };
    frames.iter().map(id).collect()
}

async fn ended(connection: &Connection) -> Close {
    let waiting = async {
        loop {
            if let Some(close) = connection.pending_close() {
                return close;
            }
            connection.changed().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("the socket ends")
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_answer_was_lost_is_retried_and_answered_once() {
    let test = AcceptorTest::new([Fault::AnswerLost, Fault::AnswerLost]).await;
    let (guest, _guard) = test.guest(room(1));
    for id in ["a", "b"] {
        test.submit(&guest, room(1), id);
    }
    test.stop().await;
    assert_eq!(test.broker.calls().len(), 3);
    assert_eq!(test.broker.accepted(room(1)), ["a", "b"]);
    // The bus delivered both messages. The retries have the outcome `Known` and add no copies.
    assert_eq!(received(&guest), ["a", "b"]);
    assert!(!guest.is_closing());
}

#[tokio::test(start_paused = true)]
async fn a_lost_call_is_retried_until_it_arrives() {
    let test = AcceptorTest::new([Fault::Lost, Fault::Lost, Fault::Lost]).await;
    let (guest, _guard) = test.guest(room(1));
    for at in 0..16 {
        test.submit(&guest, room(1), &format!("id-{at}"));
    }
    assert!(guest.window_is_full());
    test.stop().await;
    let ids: Vec<_> = (0..16).map(|at| format!("id-{at}")).collect();
    assert_eq!((test.broker.accepted(room(1)), received(&guest)), (ids.clone(), ids));
    assert!(!guest.window_is_full(), "what is answered is no longer waited for");
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_id_is_answered_to_its_sender_only() {
    let test = AcceptorTest::new([]).await;
    let ((first, _one), (again, _other)) = (test.guest(room(1)), test.guest(room(1)));
    test.submit(&first, room(1), "a");
    test.accepted(room(1), 1).await;
    assert_eq!((received(&first), received(&again)), (vec!["a".into()], vec!["a".to_owned()]));
    test.submit(&again, room(1), "a");
    test.stop().await;
    assert_eq!((received(&first), received(&again)), (Vec::<String>::new(), vec!["a".to_owned()]));
    assert_eq!(test.broker.accepted(room(1)), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_id_is_answered_even_when_a_call_fails() {
    for fault in [Fault::Lost, Fault::AnswerLost] {
        let test = AcceptorTest::new([]).await;
        let (guest, _guard) = test.guest(room(1));
        for id in ["a", "b"] {
            test.submit(&guest, room(1), id);
        }
        test.accepted(room(1), 2).await;
        assert_eq!(received(&guest), ["a", "b"]);
        test.broker.state.lock().faults.push_back(fault.clone());
        test.submit(&guest, room(1), "a");
        test.stop().await;
        assert_eq!(received(&guest), ["a"], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_room_keeps_its_order_while_others_continue() {
    for outcome in [Outcome::Unseeded, Outcome::Full] {
        let test = AcceptorTest::slow([Fault::Refused(room(1), outcome)], Duration::from_millis(10)).await;
        let ((guest, _one), (other, _other)) = (test.guest(room(1)), test.guest(room(2)));
        // The first call contains 64 messages. The remaining messages of the room must not be sent before its held
        // messages.
        for at in 0..40 {
            test.submit(&guest, room(1), &format!("id-{at}"));
            test.submit(&other, room(2), &format!("id-{at}"));
        }
        test.accepted(room(2), 40).await;
        assert_eq!(test.broker.accepted(room(1)), Vec::<String>::new());
        for at in 40..50 {
            test.submit(&guest, room(1), &format!("id-{at}"));
        }
        let ids: Vec<_> = (0..50).map(|at| format!("id-{at}")).collect();
        assert_eq!(test.accepted(room(1), 50).await, ids);
        test.stop().await;
        assert_eq!(received(&guest), ids);
        assert_eq!(received(&other), ids[..40]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_overdue_message_closes_its_sender_and_drops_later_ones() {
    let faults = [Fault::Lost, Fault::Refused(room(1), Outcome::Full), Fault::Refused(room(1), Outcome::Unseeded)];
    for fault in faults {
        let test = AcceptorTest::new([]).await;
        test.broker.state.lock().forever = Some(fault.clone());
        let (guest, _guard) = test.guest(room(1));
        let began = Instant::now();
        test.submit(&guest, room(1), "first");
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert!(!guest.is_closing(), "{fault:?}");
        test.submit(&guest, room(1), "behind");
        assert_eq!(ended(&guest).await, guest.try_later(), "{fault:?}");
        let waited = began.elapsed();
        assert!((ANSWER_TIMEOUT..ANSWER_TIMEOUT + Duration::from_secs(2)).contains(&waited), "{fault:?}: {waited:?}");

        // The broker is available again. It accepts messages of other sockets; messages of this socket are dropped.
        test.broker.state.lock().forever = None;
        test.submit(&guest, room(1), "late");
        let (other, _other) = test.guest(room(1));
        test.submit(&other, room(1), "other");
        test.stop().await;
        assert_eq!(test.broker.accepted(room(1)), ["other"], "{fault:?}");
        assert_eq!(received(&guest), Vec::<String>::new());
        assert_eq!(received(&other), ["other"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_or_deleted_room_closes_the_sender() {
    for (outcome, close) in [(Outcome::Closed, Close::Normal), (Outcome::Deleted, Close::NotFound)] {
        let test = AcceptorTest::new([Fault::Refused(room(1), outcome)]).await;
        let ((guest, _one), (other, _other)) = (test.guest(room(1)), test.guest(room(2)));
        test.submit(&guest, room(1), "a");
        test.submit(&other, room(2), "a");
        assert_eq!(ended(&guest).await, close);
        // Later messages of this socket are dropped although the room is open again.
        test.submit(&guest, room(1), "b");
        test.stop().await;
        assert_eq!(test.broker.accepted(room(1)), Vec::<String>::new());
        assert_eq!(received(&other), ["a"]);
        assert!(!other.is_closing());
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_not_received_within_a_second_is_read_from_the_log() {
    let test = AcceptorTest::new([Fault::Unpublished]).await;
    let ((guest, _one), (host, _two), (other, _three)) =
        (test.guest(room(1)), test.guest(room(1)), test.guest(room(2)));
    test.submit(&guest, room(1), "a");
    test.accepted(room(1), 1).await;
    tokio::time::sleep(ECHO_TIMEOUT / 2).await;
    assert_eq!(guest.next_read(), None);
    tokio::time::sleep(ECHO_TIMEOUT).await;
    // The message did not arrive over the bus, so the connections in the room must read the log.
    assert_eq!((guest.next_read(), host.next_read(), other.next_read()), (Some((0, 1)), Some((0, 1)), None));
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_sender_who_never_receives_an_accepted_message_is_disconnected() {
    let test = AcceptorTest::new([Fault::Unpublished]).await;
    let (guest, _guard) = test.guest(room(1));
    let began = Instant::now();
    test.submit(&guest, room(1), "a");
    assert!(matches!(ended(&guest).await, Close::TryLater { .. }));
    let waited = began.elapsed();
    assert!((ANSWER_TIMEOUT..ANSWER_TIMEOUT + ECHO_TIMEOUT * 2).contains(&waited), "{waited:?}");
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn messages_that_arrive_during_a_call_join_the_next() {
    let test = AcceptorTest::slow([], Duration::from_millis(50)).await;
    let (guest, _guard) = test.guest(room(1));
    test.submit(&guest, room(1), "first");
    tokio::time::sleep(Duration::from_millis(10)).await;
    for at in 0..100 {
        test.submit(&guest, room(1), &format!("id-{at}"));
    }
    test.stop().await;
    let sizes: Vec<_> = test.broker.calls().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 64, 36]);
}

#[tokio::test(start_paused = true)]
async fn a_call_carries_at_most_256_kib() {
    let test = AcceptorTest::new([]).await;
    let (guest, _guard) = test.guest(room(1));
    for at in 0..20 {
        test.submit_of_length(&guest, room(1), &format!("id-{at}"), 30_000);
    }
    test.stop().await;
    let sizes: Vec<_> = test.broker.calls().iter().map(Vec::len).collect();
    assert_eq!(sizes, [8, 8, 4]);
}

#[tokio::test(start_paused = true)]
async fn bytes_waiting_for_the_broker_are_bounded() {
    let test = AcceptorTest::new([]).await;
    test.broker.state.lock().forever = Some(Fault::Lost);
    let (guest, _guard) = test.guest(room(1));
    let mut sent = 0;
    while !test.acceptor.is_full() {
        test.submit_of_length(&guest, room(1), &format!("id-{sent}"), 1024 * 1024);
        sent += 1;
        assert!(sent <= 64, "64 MiB");
    }
    test.broker.state.lock().forever = None;
    test.stop().await;
    assert!(!test.acceptor.is_full());
    assert_eq!(test.broker.accepted(room(1)).len(), sent);
}

/// Generates the faults of calls to the broker.
fn fault() -> impl proptest::strategy::Strategy<Value = Fault> {
    use proptest::prelude::*;
    let refused = (1_u8..4, prop_oneof![Just(Outcome::Unseeded), Just(Outcome::Full)]);
    prop_oneof![
        3 => Just(Fault::Nothing),
        1 => Just(Fault::Lost),
        2 => Just(Fault::AnswerLost),
        1 => Just(Fault::Unpublished),
        2 => refused.prop_map(|(number, outcome)| Fault::Refused(room(number), outcome)),
    ]
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    /// Calls are lost, rejected and repeated in any sequence. Each message is accepted at most once and in the sender's
    /// order. If a sender is disconnected, its accepted messages are a prefix of those it submitted.
    #[test]
    fn every_sequence_of_faults_leaves_each_message_once_and_in_order(
        faults in proptest::collection::vec(fault(), 0..20),
        submitted in proptest::collection::vec((1_u8..4, 0_u64..300), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let test = AcceptorTest::new(faults).await;
            let guests: Vec<_> = (1..4).map(|number| test.guest(room(number))).collect();
            let mut expected: HashMap<u8, Vec<String>> = HashMap::new();
            for (at, (number, pause)) in submitted.into_iter().enumerate() {
                let id = format!("id-{at}");
                test.submit(&guests[usize::from(number) - 1].0, room(number), &id);
                expected.entry(number).or_default().push(id);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            test.stop().await;
            for (number, submitted) in expected {
                let accepted = test.broker.accepted(room(number));
                let guest = &guests[usize::from(number) - 1].0;
                assert_eq!(accepted, submitted[..accepted.len()], "in order and without duplicates");
                assert!(accepted.len() == submitted.len() || guest.is_closing(), "no message is lost silently");
            }
        });
    }
}
