//! Tests of sockets that are up to date or catching up, and of transitions between these states.

use super::*;

fn guest() -> Connection {
    Connection::new(ConnectionId(1), Identity::Guest, false, 1_000, Arc::default())
}

fn frame(seq: Seq) -> Bytes {
    seq.to_string().into()
}

/// Takes all queued frames, and returns them with the pending close, if any.
fn taken(connection: &Connection) -> (Vec<String>, Option<Close>) {
    let mut frames = VecDeque::new();
    connection.take(&mut frames, usize::MAX);
    let end = connection.take(&mut frames, usize::MAX);
    (frames.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect(), end)
}

#[test]
fn a_live_socket_receives_each_number_once() {
    let guest = guest();
    for (prev, seq) in [(0, 1), (1, 2), (0, 1), (1, 2), (2, 3)] {
        guest.deliver(prev, seq, &frame(seq));
    }
    assert_eq!(taken(&guest).0, ["1", "2", "3"]);
    assert_eq!(guest.next_read(), None);
}

#[test]
fn a_gap_or_a_jump_starts_catching_up() {
    for (prev, seq) in [(4, 5), (1, 10_002)] {
        let guest = guest();
        guest.deliver(0, 1, &frame(1));
        guest.deliver(prev, seq, &frame(seq));
        assert_eq!(taken(&guest).0, ["1"]);
        assert_eq!(guest.next_read(), Some((1, seq)));
    }
}

#[test]
fn a_duplicate_is_not_answered_before_missed_messages() {
    let guest = guest();
    guest.start_after(5);
    guest.answer_duplicate(7, frame(7));
    assert_eq!(taken(&guest).0, [""; 0]);
    assert_eq!(guest.next_read(), Some((5, 7)));
    guest.push_from_log(frame(6), 6, 7);
    guest.caught_up(7, 7);
    guest.answer_duplicate(7, frame(7));
    assert_eq!(taken(&guest).0, ["6", "7"]);
}

#[test]
fn a_message_published_during_a_read_is_read_next_and_queued_once() {
    let guest = guest();
    guest.start_after(0);
    let (sent, target) = guest.next_read().unwrap();
    guest.deliver(1, 2, &frame(2)); // It is published after the read began.
    guest.push_from_log(frame(1), 1, 1);
    guest.caught_up(sent + 1, target);
    taken(&guest);
    let (sent, target) = guest.next_read().unwrap();
    assert_eq!((sent, target), (1, 2));
    guest.push_from_log(frame(2), 2, 2);
    guest.caught_up(2, target);
    guest.deliver(1, 2, &frame(2));
    guest.deliver(2, 3, &frame(3));
    assert_eq!(taken(&guest).0, ["2", "3"]);
}

#[test]
fn a_close_waits_for_a_socket_that_is_catching_up() {
    let guest = guest();
    guest.start_after(0);
    guest.close_when_up_to_date(Some("closed".into()), Close::Normal);
    assert_eq!(taken(&guest), (vec![], None));
    guest.push_from_log(frame(1), 1, 1);
    guest.caught_up(1, 1);
    assert_eq!(taken(&guest), (vec!["1".into(), "closed".into()], Some(Close::Normal)));
}

#[test]
fn a_client_that_does_not_read_is_closed_and_retries() {
    let guest = guest();
    for seq in 1..=OUTBOX_FRAMES as u64 + 1 {
        guest.deliver(seq - 1, seq, &frame(seq));
    }
    assert_eq!(taken(&guest), (vec![], Some(Close::TryLater { retry: Duration::from_millis(1_000) })));
}

#[test]
fn frames_that_are_being_written_count_until_the_next_take() {
    let guest = guest();
    guest.start_after(0);
    guest.push_from_log(Bytes::from(vec![b'a'; OUTBOX_BYTES]), 1, 1);
    let mut writing = VecDeque::new();
    assert_eq!(guest.take(&mut writing, 1), None);
    assert_eq!(guest.waiting_bytes(), OUTBOX_BYTES);
    assert!(guest.next_read().is_none() && !guest.has_capacity());
    guest.take(&mut writing, 1);
    assert_eq!(guest.waiting_bytes(), 0);
    assert!(guest.next_read().is_some() && guest.has_capacity());
}

fn room(number: u64) -> Topic {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Topic::Arrival(crate::domain::RoomName::from_random(bytes))
}

#[test]
fn a_flood_of_notices_keeps_the_newest_and_closes_nothing() {
    let host = guest();
    for seq in 0..10_000 {
        host.notify(room(seq % 3), frame(seq));
        host.notify(Topic::GuestOnline, frame(100_000 + seq));
    }
    assert_eq!(taken(&host), (vec!["9997".into(), "9998".into(), "9999".into(), "109999".into()], None));
    for seq in 0..10_000 {
        host.notify(room(seq), Bytes::from(vec![b'a'; 1_000]));
        assert!(host.waiting_bytes() <= OUTBOX_BYTES);
    }
    host.notify(room(1), frame(7));
    let (frames, end) = taken(&host);
    assert_eq!((frames.last().map(String::as_str), end), (Some("7"), None));
    assert!(frames.len() <= OUTBOX_FRAMES);
}

#[test]
fn messages_displace_waiting_notices() {
    let host = guest();
    (0..OUTBOX_FRAMES as u64).for_each(|number| host.notify(room(number), frame(number)));
    for seq in 1..=OUTBOX_FRAMES as u64 {
        assert_eq!(host.deliver(seq - 1, seq, &frame(seq)), Delivery::Queued);
    }
    host.notify(Topic::GuestOnline, frame(1));
    let (frames, end) = taken(&host);
    assert_eq!((frames.len(), end), (OUTBOX_FRAMES, None));
    assert!(frames.iter().zip(1..).all(|(frame, seq)| *frame == seq.to_string()), "{frames:?}");
}

#[test]
fn the_window_is_full_at_16_messages_or_64_kib() {
    let guest = guest();
    (0..15).for_each(|_| guest.submitted(100));
    assert!(!guest.window_is_full());
    guest.submitted(100);
    assert!(guest.window_is_full());
    guest.answered(100);
    assert!(!guest.window_is_full());
    guest.submitted(WINDOW_BYTES);
    assert!(guest.window_is_full());
}

/// Event of the model. Events occur in any order.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A message is accepted. Its sequence number skips `jump` numbers, as after a new epoch of the broker.
    Accept { jump: u8 },
    /// The bus delivers the oldest outstanding publication.
    Receive,
    /// The bus loses the oldest outstanding publication.
    Lose,
    /// The bus delivers an earlier publication again.
    ReceiveAgain { back: u8 },
    /// The socket starts to catch up to the newest message.
    CatchUp,
    /// A read of the log begins if the socket must read and no read is in flight.
    BeginRead,
    /// The read in flight returns at most `most` entries of the current log.
    Read { most: u8 },
    /// The socket's task takes the queued frames.
    Take,
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    use proptest::prelude::*;
    prop_oneof![
        4 => prop_oneof![9 => Just(0), 1 => 1_u8..].prop_map(|jump| Step::Accept { jump }),
        4 => Just(Step::Receive),
        1 => Just(Step::Lose),
        1 => (1_u8..5).prop_map(|back| Step::ReceiveAgain { back }),
        1 => Just(Step::CatchUp),
        3 => Just(Step::BeginRead),
        3 => (1_u8..4).prop_map(|most| Step::Read { most }),
        2 => Just(Step::Take),
    ]
}

struct RoomModel {
    guest: Connection,
    /// Preceding and own sequence number of each accepted message.
    log: Vec<(Seq, Seq)>,
    /// Number of publications that the bus has delivered or lost.
    received: usize,
    /// Sequence number after which the read in flight reads, and the target before the read.
    reading: Option<(Seq, Seq)>,
    taken: Vec<Seq>,
}

impl RoomModel {
    fn newest(&self) -> Seq {
        self.log.last().map_or(0, |(_, seq)| *seq)
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::Accept { jump } => {
                let prev = self.newest();
                self.log.push((prev, prev + 1 + Seq::from(jump)));
            }
            Step::Receive => {
                if let Some((prev, seq)) = self.log.get(self.received) {
                    self.guest.deliver(*prev, *seq, &frame(*seq));
                    self.received += 1;
                }
            }
            Step::Lose => self.received = self.log.len().min(self.received + 1),
            Step::ReceiveAgain { back } => {
                if let Some((prev, seq)) = self.received.checked_sub(usize::from(back)).map(|at| self.log[at]) {
                    self.guest.deliver(prev, seq, &frame(seq));
                }
            }
            Step::CatchUp => self.guest.catch_up(self.newest()),
            Step::BeginRead => self.reading = self.reading.or_else(|| self.guest.next_read()),
            Step::Read { most } => {
                let Some((after, target)) = self.reading.take() else { return };
                let rest: Vec<Seq> = self.log.iter().map(|(_, seq)| *seq).filter(|seq| *seq > after).collect();
                let read = &rest[..rest.len().min(usize::from(most))];
                read.iter().for_each(|seq| self.guest.push_from_log(frame(*seq), *seq, *seq));
                if read.len() == rest.len() {
                    self.guest.caught_up(read.last().copied().unwrap_or(0), target);
                }
            }
            Step::Take => {
                let (frames, end) = taken(&self.guest);
                assert_eq!(end, None);
                self.taken.extend(frames.iter().map(|frame| frame.parse::<Seq>().unwrap()));
            }
        }
    }
}

proptest::proptest! {
    /// Each message is queued once and in order, and finally all are queued. This holds for every interleaving of the
    /// publisher, the bus, reads of the log and the socket's task. The bus may lose and repeat publications.
    #[test]
    fn every_interleaving_delivers_each_number_once_in_order(steps in proptest::collection::vec(step(), 0..120)) {
        let guest = guest();
        guest.start_after(0);
        let mut model = RoomModel { guest, log: Vec::new(), received: 0, reading: None, taken: Vec::new() };
        steps.into_iter().for_each(|step| model.act(step));
        // Like the periodic sweep, the test makes the socket read the messages whose publications the bus lost without
        // an error.
        model.guest.catch_up(model.newest());
        for _ in 0..model.log.len() + 2 {
            [Step::Take, Step::BeginRead, Step::Read { most: u8::MAX }, Step::Take].into_iter().for_each(|step| model.act(step));
        }
        let all: Vec<Seq> = model.log.iter().map(|(_, seq)| *seq).collect();
        proptest::prop_assert_eq!(&model.taken, &all);
        proptest::prop_assert_eq!(model.guest.next_read(), None);
    }
}
