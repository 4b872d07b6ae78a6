//! Tests of the acceptor over a broker that fails on command. Time is paused, so that ten seconds pass at once.

use bytes::Bytes;
use chrono::Utc;

use super::*;
use crate::backend::Backend;
use crate::backend::broker::Publication;
use crate::chat::history::History;
use crate::chat::hub::{Identity, Place, Registration};
use crate::domain::clock::{Chance, ManualClock};
use crate::domain::{HostId, MessageId, Side};
use crate::protocol::chat::message_head;
use crate::store::Store;

/// Fault of one call.
#[derive(Clone, Debug)]
enum Fault {
    /// No fault.
    Nothing,
    /// The call does not reach the broker.
    Lost,
    /// The call takes effect, and its answer is lost.
    AnswerLost,
    /// The call takes effect, and its publications are lost.
    Unheard,
    /// All messages of a room have this outcome.
    Refused(RoomName, Outcome),
}

#[derive(Default)]
struct Told {
    faults: VecDeque<Fault>,
    /// Fault of all calls after `faults`; `None`: no faults.
    forever: Option<Fault>,
    /// Message ids of every call.
    calls: Vec<Vec<String>>,
    rooms: HashMap<RoomName, Vec<(Side, MessageId, Bytes)>>,
}

/// A minimal in-memory broker with injected faults.
struct FakeBroker {
    told: Mutex<Told>,
    hub: Arc<Hub>,
    /// Duration of a call.
    takes: Duration,
}

impl FakeBroker {
    fn calls(&self) -> Vec<Vec<String>> {
        self.told.lock().calls.clone()
    }

    /// Returns the ids of the accepted messages of a room, in order.
    fn accepted(&self, room: RoomName) -> Vec<String> {
        let told = self.told.lock();
        told.rooms.get(&room).into_iter().flatten().map(|(_, id, _)| id.to_string()).collect()
    }
}

fn take(told: &mut Told, submission: &Submission, fault: Option<&Fault>, hub: &Hub) -> Outcome {
    if let Some(Fault::Refused(room, outcome)) = fault
        && *room == submission.room
    {
        return outcome.clone();
    }
    let log = told.rooms.entry(submission.room).or_default();
    let known = log.iter().zip(1..).find(|((side, id, _), _)| (*side, id) == (submission.side, &submission.id));
    if let Some(((.., frame), seq)) = known {
        return Outcome::Known { seq, frame: Some(frame.clone()) };
    }
    let seq = log.len() as Seq + 1;
    let frame: Bytes = [&submission.head[..], format!("{seq}}}").as_bytes()].concat().into();
    log.push((submission.side, submission.id.clone(), frame.clone()));
    if !matches!(fault, Some(Fault::Unheard)) {
        let room = submission.room;
        hub.deliver(&Publication {
            room,
            host: HostId(1),
            prev: seq - 1,
            seq,
            frame: &frame,
            provenance: None,
            trace: None,
        });
    }
    Outcome::Accepted(seq)
}

#[async_trait::async_trait]
impl MessageLog for FakeBroker {
    fn partitions(&self) -> u16 {
        1
    }
    async fn accept(&self, _: Partition, batch: &[&Submission]) -> Result<Vec<Outcome>, Unavailable> {
        tokio::time::sleep(self.takes).await;
        assert!(batch.len() <= self.max_batch());
        let mut told = self.told.lock();
        told.calls.push(batch.iter().map(|submission| submission.id.to_string()).collect());
        let fault = told.faults.pop_front().or_else(|| told.forever.clone());
        if matches!(fault, Some(Fault::Lost)) {
            return Err(Unavailable("lost".into()));
        }
        let outcomes = batch.iter().map(|one| take(&mut told, one, fault.as_ref(), &self.hub)).collect();
        if matches!(fault, Some(Fault::AnswerLost)) { Err(Unavailable("answer lost".into())) } else { Ok(outcomes) }
    }
}

struct Stage {
    broker: Arc<FakeBroker>,
    hub: Arc<Hub>,
    acceptor: Acceptor,
    shutdown: Shutdown,
    _folder: tempfile::TempDir,
}

impl Stage {
    async fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self::slow(faults, Duration::ZERO).await
    }

    async fn slow(faults: impl IntoIterator<Item = Fault>, takes: Duration) -> Self {
        let hub = Hub::new(Chance::from_seed(1));
        let told = Told { faults: faults.into_iter().collect(), ..Told::default() };
        let broker = Arc::new(FakeBroker { told: Mutex::new(told), hub: hub.clone(), takes });
        // Nothing here needs SQL. The database has no tables, so an unexpected query fails.
        let folder = tempfile::tempdir().unwrap();
        let store = Store::connect_lazy(&format!("sqlite://{}/db.sqlite", folder.path().display())).await.unwrap();
        let clock = Arc::new(ManualClock::new(chrono::DateTime::<Utc>::UNIX_EPOCH));
        let backend = Backend::embedded(store.clone(), clock.clone());
        let history = History::new(&backend, store.clone());
        let wire = "+09:00".parse().unwrap();
        let rooms = Rooms::new(store, &backend, history, clock, Chance::from_seed(2), wire);
        let shutdown = Shutdown::new();
        let acceptor = Acceptor::start(Partition(0), broker.clone(), rooms, hub.clone(), &shutdown);
        Self { broker, hub, acceptor, shutdown, _folder: folder }
    }

    fn guest(&self, room: RoomName) -> (Arc<Connection>, Registration) {
        let connection = self.hub.connection(Identity::Guest);
        let registration = self.hub.register(Place::Room(room), connection.clone());
        (connection, registration)
    }

    fn say(&self, connection: &Arc<Connection>, room: RoomName, id: &str) {
        self.say_at_length(connection, room, id, 2);
    }

    fn say_at_length(&self, connection: &Arc<Connection>, room: RoomName, id: &str, length: usize) {
        let (id, datetime): (MessageId, _) = (id.parse().unwrap(), "2023-03-23T08:15:07".parse().unwrap());
        let text = "x".repeat(length);
        let head = message_head(Side::Guest, &text, &datetime, &id).into();
        self.acceptor
            .submit(connection.clone(), Submission { room, side: Side::Guest, id, text, datetime, head, trace: None });
    }

    /// Waits until `count` messages of a room are accepted.
    async fn accepted(&self, room: RoomName, count: usize) -> Vec<String> {
        let waiting = async {
            while self.broker.accepted(room).len() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("all are accepted");
        self.broker.accepted(room)
    }

    /// Stops the acceptor and waits until it has no messages left.
    async fn end(&self) {
        tokio::time::timeout(Duration::from_secs(60), self.shutdown.finish()).await.expect("it ends");
        assert_eq!(self.acceptor.0.bytes.load(Ordering::Relaxed), 0, "every message is accounted for once");
    }
}

fn room(number: u8) -> RoomName {
    RoomName::from_random([number; 16])
}

/// Returns the ids in the frames that a socket received.
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
            if let Some(close) = connection.ending() {
                return close;
            }
            connection.changed().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("the socket ends")
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_answer_was_lost_is_sent_again_and_not_answered_twice() {
    let stage = Stage::new([Fault::AnswerLost, Fault::AnswerLost]).await;
    let (guest, _guard) = stage.guest(room(1));
    for id in ["a", "b"] {
        stage.say(&guest, room(1), id);
    }
    stage.end().await;
    assert_eq!(stage.broker.calls().len(), 3);
    assert_eq!(stage.broker.accepted(room(1)), ["a", "b"]);
    // The bus delivered the answer: `Known` on the node's own retry adds no second one.
    assert_eq!(received(&guest), ["a", "b"]);
    assert!(!guest.is_ending());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_lost_is_sent_again_until_it_gets_there() {
    let stage = Stage::new([Fault::Lost, Fault::Lost, Fault::Lost]).await;
    let (guest, _guard) = stage.guest(room(1));
    for at in 0..16 {
        stage.say(&guest, room(1), &format!("id-{at}"));
    }
    assert!(guest.window_is_full());
    stage.end().await;
    let ids: Vec<_> = (0..16).map(|at| format!("id-{at}")).collect();
    assert_eq!((stage.broker.accepted(room(1)), received(&guest)), (ids.clone(), ids));
    assert!(!guest.window_is_full(), "what is answered is no longer waited for");
}

#[tokio::test(start_paused = true)]
async fn an_id_that_was_sent_before_is_answered_to_its_sender_alone() {
    let stage = Stage::new([]).await;
    let ((first, _one), (again, _other)) = (stage.guest(room(1)), stage.guest(room(1)));
    stage.say(&first, room(1), "a");
    stage.accepted(room(1), 1).await;
    assert_eq!((received(&first), received(&again)), (vec!["a".into()], vec!["a".to_owned()]));
    stage.say(&again, room(1), "a");
    stage.end().await;
    assert_eq!((received(&first), received(&again)), (Vec::<String>::new(), vec!["a".to_owned()]));
    assert_eq!(stage.broker.accepted(room(1)), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn an_id_that_was_sent_before_is_answered_also_when_a_call_fails() {
    for fault in [Fault::Lost, Fault::AnswerLost] {
        let stage = Stage::new([]).await;
        let (guest, _guard) = stage.guest(room(1));
        for id in ["a", "b"] {
            stage.say(&guest, room(1), id);
        }
        stage.accepted(room(1), 2).await;
        assert_eq!(received(&guest), ["a", "b"]);
        stage.broker.told.lock().faults.push_back(fault.clone());
        stage.say(&guest, room(1), "a");
        stage.end().await;
        assert_eq!(received(&guest), ["a"], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_held_keeps_its_order_while_others_go_on() {
    for outcome in [Outcome::Unseeded, Outcome::Full] {
        let stage = Stage::slow([Fault::Refused(room(1), outcome)], Duration::from_millis(10)).await;
        let ((guest, _one), (other, _other)) = (stage.guest(room(1)), stage.guest(room(2)));
        // The first call holds 64 messages. The remaining messages of the room must not overtake those that are held.
        for at in 0..40 {
            stage.say(&guest, room(1), &format!("id-{at}"));
            stage.say(&other, room(2), &format!("id-{at}"));
        }
        stage.accepted(room(2), 40).await;
        assert_eq!(stage.broker.accepted(room(1)), Vec::<String>::new());
        for at in 40..50 {
            stage.say(&guest, room(1), &format!("id-{at}"));
        }
        let ids: Vec<_> = (0..50).map(|at| format!("id-{at}")).collect();
        assert_eq!(stage.accepted(room(1), 50).await, ids);
        stage.end().await;
        assert_eq!(received(&guest), ids);
        assert_eq!(received(&other), ids[..40]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_too_long_ends_its_sender_and_what_is_behind_it_is_dropped() {
    let faults = [Fault::Lost, Fault::Refused(room(1), Outcome::Full), Fault::Refused(room(1), Outcome::Unseeded)];
    for fault in faults {
        let stage = Stage::new([]).await;
        stage.broker.told.lock().forever = Some(fault.clone());
        let (guest, _guard) = stage.guest(room(1));
        let began = Instant::now();
        stage.say(&guest, room(1), "first");
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert!(!guest.is_ending(), "{fault:?}");
        stage.say(&guest, room(1), "behind");
        assert_eq!(ended(&guest).await, guest.try_later(), "{fault:?}");
        let waited = began.elapsed();
        assert!((PATIENCE..PATIENCE + Duration::from_secs(2)).contains(&waited), "{fault:?}: {waited:?}");

        // The broker is available again. Others continue, and no further message of this socket is sent.
        stage.broker.told.lock().forever = None;
        stage.say(&guest, room(1), "late");
        let (other, _other) = stage.guest(room(1));
        stage.say(&other, room(1), "other");
        stage.end().await;
        assert_eq!(stage.broker.accepted(room(1)), ["other"], "{fault:?}");
        assert_eq!(received(&guest), Vec::<String>::new());
        assert_eq!(received(&other), ["other"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_room_and_a_deleted_one_end_the_sender() {
    for (outcome, close) in [(Outcome::Closed, Close::Normal), (Outcome::Deleted, Close::NotFound)] {
        let stage = Stage::new([Fault::Refused(room(1), outcome)]).await;
        let ((guest, _one), (other, _other)) = (stage.guest(room(1)), stage.guest(room(2)));
        stage.say(&guest, room(1), "a");
        stage.say(&other, room(2), "a");
        assert_eq!(ended(&guest).await, close);
        // The room may be open again. Later messages of this socket are dropped nevertheless.
        stage.say(&guest, room(1), "b");
        stage.end().await;
        assert_eq!(stage.broker.accepted(room(1)), Vec::<String>::new());
        assert_eq!(received(&other), ["a"]);
        assert!(!other.is_ending());
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_back_in_a_second_is_read_from_the_log() {
    let stage = Stage::new([Fault::Unheard]).await;
    let ((guest, _one), (host, _two), (other, _three)) =
        (stage.guest(room(1)), stage.guest(room(1)), stage.guest(room(2)));
    stage.say(&guest, room(1), "a");
    stage.accepted(room(1), 1).await;
    tokio::time::sleep(ECHO_TIMEOUT / 2).await;
    assert_eq!(guest.must_read(), None);
    tokio::time::sleep(ECHO_TIMEOUT).await;
    // Every connection in the room has missed it.
    assert_eq!((guest.must_read(), host.must_read(), other.must_read()), (Some((0, 1)), Some((0, 1)), None));
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_sender_who_never_receives_an_accepted_message_is_disconnected() {
    let stage = Stage::new([Fault::Unheard]).await;
    let (guest, _guard) = stage.guest(room(1));
    let began = Instant::now();
    stage.say(&guest, room(1), "a");
    assert!(matches!(ended(&guest).await, Close::TryLater { .. }));
    let waited = began.elapsed();
    assert!((PATIENCE..PATIENCE + ECHO_TIMEOUT * 2).contains(&waited), "{waited:?}");
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_arrives_during_a_call_goes_with_the_next() {
    let stage = Stage::slow([], Duration::from_millis(50)).await;
    let (guest, _guard) = stage.guest(room(1));
    stage.say(&guest, room(1), "first");
    tokio::time::sleep(Duration::from_millis(10)).await;
    for at in 0..100 {
        stage.say(&guest, room(1), &format!("id-{at}"));
    }
    stage.end().await;
    let sizes: Vec<_> = stage.broker.calls().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 64, 36]);
}

#[tokio::test(start_paused = true)]
async fn a_call_carries_256_kib_at_most() {
    let stage = Stage::new([]).await;
    let (guest, _guard) = stage.guest(room(1));
    for at in 0..20 {
        stage.say_at_length(&guest, room(1), &format!("id-{at}"), 30_000);
    }
    stage.end().await;
    let sizes: Vec<_> = stage.broker.calls().iter().map(Vec::len).collect();
    assert_eq!(sizes, [8, 8, 4]);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_wait_for_the_broker_are_bounded() {
    let stage = Stage::new([]).await;
    stage.broker.told.lock().forever = Some(Fault::Lost);
    let (guest, _guard) = stage.guest(room(1));
    let mut sent = 0;
    while !stage.acceptor.is_full() {
        stage.say_at_length(&guest, room(1), &format!("id-{sent}"), 1024 * 1024);
        sent += 1;
        assert!(sent <= 64, "64 MiB");
    }
    stage.broker.told.lock().forever = None;
    stage.end().await;
    assert!(!stage.acceptor.is_full());
    assert_eq!(stage.broker.accepted(room(1)).len(), sent);
}

/// Generates the fault of a call.
fn fault() -> impl proptest::strategy::Strategy<Value = Fault> {
    use proptest::prelude::*;
    let refused = (1_u8..4, prop_oneof![Just(Outcome::Unseeded), Just(Outcome::Full)]);
    prop_oneof![
        3 => Just(Fault::Nothing),
        1 => Just(Fault::Lost),
        2 => Just(Fault::AnswerLost),
        1 => Just(Fault::Unheard),
        2 => refused.prop_map(|(number, outcome)| Fault::Refused(room(number), outcome)),
    ]
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    /// Under any sequence of lost, refused and repeated calls: each message is accepted at most once and in the
    /// sender's order. If the sender is disconnected, the accepted messages are a prefix.
    #[test]
    fn every_run_of_faults_leaves_each_message_once_and_in_order(
        faults in proptest::collection::vec(fault(), 0..20),
        said in proptest::collection::vec((1_u8..4, 0_u64..300), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let stage = Stage::new(faults).await;
            let guests: Vec<_> = (1..4).map(|number| stage.guest(room(number))).collect();
            let mut expected: HashMap<u8, Vec<String>> = HashMap::new();
            for (at, (number, pause)) in said.into_iter().enumerate() {
                let id = format!("id-{at}");
                stage.say(&guests[usize::from(number) - 1].0, room(number), &id);
                expected.entry(number).or_default().push(id);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            stage.end().await;
            for (number, said) in expected {
                let accepted = stage.broker.accepted(room(number));
                let guest = &guests[usize::from(number) - 1].0;
                assert_eq!(accepted, said[..accepted.len()], "in order, and none twice");
                assert!(accepted.len() == said.len() || guest.is_ending(), "nothing is swallowed");
            }
        });
    }
}
