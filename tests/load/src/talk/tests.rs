//! Tests with a server that delivers messages correctly, and with servers that lose, duplicate, reorder or misroute
//! them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::*;
use crate::frame::Decoder;
use crate::message::MessageId;

/// Server with one room. It numbers the messages that it receives. A function of the test returns the messages that it
/// then broadcasts.
struct Server(JoinHandle<()>);

impl Server {
    /// Starts the server and connects a guest and a host, which both send messages. `deliver` is called with the id and
    /// the `seq` of each message.
    fn start(
        talk: &mut Talk,
        mut deliver: impl FnMut(MessageId, u64) -> Vec<(MessageId, u64)> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sockets: Vec<TcpStream> = Vec::new();
        for side in 0..2 {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            stream.set_nonblocking(true).unwrap();
            talk.add_participant(0, side, Opened { stream, decoder: Decoder::default() }, Some(20)).unwrap();
            let socket = listener.accept().unwrap().0;
            socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            sockets.push(socket);
        }
        Self(thread::spawn(move || {
            let mut seq = 0;
            let mut received = vec![Vec::new(); 2];
            loop {
                for at in 0..2 {
                    let mut buffer = [0; 4096];
                    match sockets[at].read(&mut buffer) {
                        Ok(0) => return,
                        Ok(len) => received[at].extend_from_slice(&buffer[..len]),
                        Err(_) => continue,
                    }
                    while let Some(id) = take_id(&mut received[at]) {
                        seq += 1;
                        for (id, seq) in deliver(id, seq) {
                            let frame = server_frame(&id, seq);
                            // An error is ignored, because the client may have disconnected.
                            sockets.iter_mut().for_each(|socket| drop(socket.write_all(&frame)));
                        }
                    }
                }
            }
        }))
    }

    fn end(self, talk: Talk) {
        drop(talk);
        self.0.join().unwrap();
    }
}

/// Removes the first frame from `received` and returns the id in it. Returns `None` if the frame is incomplete. All
/// frames of these tests have between 126 and 65,535 bytes.
fn take_id(received: &mut Vec<u8>) -> Option<MessageId> {
    let len = usize::from(u16::from_be_bytes([*received.get(2)?, *received.get(3)?]));
    if received.len() < 8 + len {
        return None;
    }
    let frame: Vec<u8> = received.drain(..8 + len).collect();
    let json: Vec<u8> = frame[8..].iter().enumerate().map(|(at, byte)| byte ^ frame[4 + at % 4]).collect();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    MessageId::read(json["id"].as_str().unwrap().as_bytes())
}

fn server_frame(id: &MessageId, seq: u64) -> Vec<u8> {
    let json = format!(r#"{{"id":"{}","seq":{seq}}}"#, String::from_utf8(id.write().to_vec()).unwrap());
    [&[0x81, json.len() as u8], json.as_bytes()].concat()
}

/// Sends four messages from each side to a server that runs `deliver`. Returns the verdict.
fn verdict_of(deliver: impl FnMut(MessageId, u64) -> Vec<(MessageId, u64)> + Send + 'static) -> Verdict {
    let mut talk = Talk::new(true).unwrap();
    talk.time_limit = Duration::from_secs(1);
    let server = Server::start(&mut talk, deliver);
    let phase = talk.send_each(4).unwrap();
    assert_eq!(phase.messages, 8);
    let (verdict, closed) = talk.verdict();
    assert!(closed.is_empty(), "{closed:?}");
    server.end(talk);
    verdict
}

fn is_second_of_the_guest(id: &MessageId) -> bool {
    (id.side, id.number) == (0, 2)
}

#[test]
fn correct_server_is_clean() {
    assert_eq!(verdict_of(|id, seq| vec![(id, seq)]), Verdict::default());
}

#[test]
fn lost_message_is_detected_by_both_sides() {
    let verdict = verdict_of(|id, seq| if is_second_of_the_guest(&id) { vec![] } else { vec![(id, seq)] });
    assert_eq!(verdict, Verdict { lost: 2, ..Verdict::default() });
}

#[test]
fn duplicated_message_is_detected() {
    let verdict =
        verdict_of(|id, seq| if is_second_of_the_guest(&id) { vec![(id, seq), (id, seq)] } else { vec![(id, seq)] });
    assert_eq!(verdict, Verdict { doubled: 2, ..Verdict::default() });
}

#[test]
fn reordered_messages_are_detected() {
    let mut held = None;
    let verdict = verdict_of(move |id, seq| match id {
        id if is_second_of_the_guest(&id) => {
            held = Some(id);
            vec![]
        }
        MessageId { side: 0, number: 3, .. } => {
            [Some((id, seq * 10)), held.take().map(|held| (held, seq * 10 + 1))].into_iter().flatten().collect()
        }
        id => vec![(id, seq * 10)],
    });
    assert_eq!(verdict, Verdict { reordered: 2, ..Verdict::default() });
}

#[test]
fn misrouted_message_is_detected() {
    let verdict = verdict_of(|id, seq| {
        if is_second_of_the_guest(&id) { vec![(MessageId { room: 7, ..id }, seq)] } else { vec![(id, seq)] }
    });
    assert_eq!(verdict, Verdict { misrouted: 2, lost: 2, ..Verdict::default() });
}

#[test]
fn closed_loop_continues_while_messages_are_acknowledged() {
    let mut talk = Talk::new(true).unwrap();
    let server = Server::start(&mut talk, |id, seq| vec![(id, seq)]);
    let span = Duration::from_millis(300);
    let phase = talk.talk(Pace::InFlight(4), span, &Bar::span("", span)).unwrap();
    assert!(phase.messages > 4, "{}", phase.messages);
    assert_eq!(phase.deliveries, phase.messages * 2);
    assert!(talk.verdict().0.is_clean());
    server.end(talk);
}

#[test]
fn open_loop_follows_its_schedule_without_acknowledgements() {
    let mut talk = Talk::new(true).unwrap();
    talk.time_limit = Duration::from_millis(10);
    let server = Server::start(&mut talk, |_, _| vec![]);
    let span = Duration::from_millis(50);
    let phase = talk.talk(Pace::Rate(1000.0), span, &Bar::span("", span)).unwrap();
    assert_eq!((phase.messages, phase.deliveries), (50, 0));
    assert_eq!(talk.verdict().0.lost, 100);
    server.end(talk);
}

#[test]
fn closed_socket_is_reported_by_code_and_its_messages_do_not_count_as_lost() {
    let mut talk = Talk::new(true).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.set_nonblocking(true).unwrap();
    talk.add_participant(0, 0, Opened { stream, decoder: Decoder::default() }, Some(20)).unwrap();
    let mut server = listener.accept().unwrap().0;
    server.write_all(&[0x88, 2, 0x03, 0xF4]).unwrap();
    let phase = talk.send_each(1).unwrap();
    assert_eq!(phase.messages, 1);
    let (verdict, closed) = talk.verdict();
    assert!(verdict.is_clean());
    assert_eq!(closed, BTreeMap::from([(1012, 1)]));
}
