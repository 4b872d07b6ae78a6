//! Live, catching up, and the step between them.

use super::*;

fn guest() -> Connection {
    Connection::new(ConnectionId(1), Identity::Guest, 1_000)
}

fn frame(seq: Seq) -> Bytes {
    seq.to_string().into()
}

fn taken(connection: &Connection) -> (Vec<String>, Option<Close>) {
    let mut frames = VecDeque::new();
    let end = connection.take(&mut frames, usize::MAX);
    (frames.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect(), end)
}

#[test]
fn a_live_socket_gets_each_number_once() {
    let guest = guest();
    for (prev, seq) in [(0, 1), (1, 2), (0, 1), (1, 2), (2, 3)] {
        guest.deliver(prev, seq, &frame(seq));
    }
    assert_eq!(taken(&guest).0, ["1", "2", "3"]);
    assert_eq!(guest.must_read(), None);
}

#[test]
fn a_gap_and_a_jump_make_it_catch_up() {
    for (prev, seq) in [(4, 5), (1, 10_002)] {
        let guest = guest();
        guest.deliver(0, 1, &frame(1));
        guest.deliver(prev, seq, &frame(seq));
        assert_eq!(taken(&guest).0, ["1"]);
        assert_eq!(guest.must_read(), Some((1, seq)));
    }
}

#[test]
fn the_answer_to_a_message_sent_again_does_not_overtake_what_was_missed() {
    let guest = guest();
    guest.start_after(5);
    guest.answer(7, frame(7));
    assert_eq!(taken(&guest).0, [""; 0]);
    assert_eq!(guest.must_read(), Some((5, 7)));
    guest.caught(frame(6), 6, 7);
    guest.level(7, 7);
    guest.answer(7, frame(7));
    assert_eq!(taken(&guest).0, ["6", "7"]);
}

#[test]
fn what_comes_while_it_reads_is_read_again_and_not_queued_twice() {
    let guest = guest();
    guest.start_after(0);
    let (sent, target) = guest.must_read().unwrap();
    guest.deliver(1, 2, &frame(2)); // after the reading began
    guest.caught(frame(1), 1, 1);
    guest.level(sent + 1, target);
    taken(&guest);
    let (sent, target) = guest.must_read().unwrap();
    assert_eq!((sent, target), (1, 2));
    guest.caught(frame(2), 2, 2);
    guest.level(2, target);
    guest.deliver(1, 2, &frame(2));
    guest.deliver(2, 3, &frame(3));
    assert_eq!(taken(&guest).0, ["2", "3"]);
}

#[test]
fn a_close_waits_for_a_socket_that_is_catching_up() {
    let guest = guest();
    guest.start_after(0);
    guest.end_after_all(Some("closed".into()), Close::Normal);
    assert_eq!(taken(&guest), (vec![], None));
    guest.caught(frame(1), 1, 1);
    guest.level(1, 1);
    assert_eq!(taken(&guest), (vec!["1".into(), "closed".into()], Some(Close::Normal)));
}

#[test]
fn a_client_that_does_not_read_is_asked_to_come_back() {
    let guest = guest();
    for seq in 1..=OUTBOX_FRAMES as u64 + 1 {
        guest.deliver(seq - 1, seq, &frame(seq));
    }
    assert_eq!(taken(&guest), (vec![], Some(Close::TryLater { retry: Duration::from_millis(1_000) })));
}

#[test]
fn the_window_closes_at_16_messages_or_64_kib() {
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
