use futures_util::{SinkExt as _, StreamExt as _};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error as ClientError, Message as ClientMessage};

use super::*;

const LIMIT: usize = 32 * 1024;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Encodes a masked client frame.
fn client_frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    frame
}

fn frames(list: &[(u8, &[u8])]) -> Vec<u8> {
    list.iter().flat_map(|(first, payload)| client_frame(*first, payload, MASK)).collect()
}

type Outcome = (Vec<Event>, Option<FrameError>);

/// Decodes `bytes` in pieces. `sizes` contains the sizes of the pieces and is repeated until all bytes are decoded.
fn decode_cut(bytes: &[u8], sizes: &[usize]) -> Outcome {
    let mut decoder = Decoder::new(LIMIT);
    let (mut rest, mut events) = (bytes, Vec::new());
    for size in sizes.iter().cycle() {
        let (mut piece, after) = rest.split_at((*size).min(rest.len()));
        loop {
            match decoder.next_event(&mut piece) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
        assert!(piece.is_empty(), "input left over");
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    (events, None)
}

/// Decodes `bytes` in one piece and byte by byte, and checks that both ways have the same outcome.
fn decode(bytes: &[u8]) -> Outcome {
    let whole = decode_cut(bytes, &[usize::MAX]);
    assert_eq!(decode_cut(bytes, &[1]), whole);
    whole
}

fn text_event(text: &str) -> Event {
    Event::Text(text.to_owned())
}

#[test]
fn the_accept_key_is_that_of_the_rfc() {
    assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn examples_of_the_rfc_are_decoded() {
    let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(decode(&hello), (vec![text_event("Hello")], None));
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(decode(&pong), (vec![Event::Pong], None));
}

#[test]
fn fragments_are_joined_and_control_frames_may_come_between() {
    // The first fragment ends within a character.
    let bytes = frames(&[(0x01, &"안녕".as_bytes()[..2]), (0x89, b"still there?"), (0x00, b""), (0x8a, b"")]);
    let bytes =
        [bytes, frames(&[(0x80, &"안녕".as_bytes()[2..]), (0x81, b"next"), (0x02, b"\xff"), (0x80, b"")])].concat();
    let ping = Event::Ping(b"still there?".to_vec());
    let expected = vec![ping, Event::Pong, text_event("안녕"), text_event("next"), Event::Binary];
    assert_eq!(decode(&bytes), (expected, None));
}

#[test]
fn every_length_has_its_header() {
    for len in [0, 1, 7, 8, 9, 125, 126, 127, 1_000, LIMIT] {
        let text = "x".repeat(len);
        assert_eq!(decode(&frames(&[(0x81, text.as_bytes())])), (vec![text_event(&text)], None), "{len}");
    }
}

#[test]
fn length_in_a_longer_form_than_needed_is_accepted() {
    let text = [&[0x81, 0xfe, 0, 1], &[0; 4][..], b"a"].concat();
    let ping = [&[0x89, 0xff, 0, 0, 0, 0, 0, 0, 0, 1], &[0; 4][..], b"b"].concat();
    let expected = vec![text_event("a"), Event::Ping(b"b".to_vec())];
    assert_eq!(decode(&[text, ping].concat()), (expected, None));
}

#[test]
fn close_has_its_code_and_later_bytes_are_ignored() {
    let after = [0xff; 9];
    let close = |payload: &[u8]| decode(&[&frames(&[(0x88, payload)]), &after[..]].concat());
    assert_eq!(close(b""), (vec![Event::Close { code: None }], None));
    assert_eq!(close(b"\x03\xe8bye"), (vec![Event::Close { code: Some(1000) }], None));
    assert_eq!(close(b"\x0f\xa0"), (vec![Event::Close { code: Some(4000) }], None));
}

#[test]
fn too_large_frame_is_rejected_at_its_header() {
    let too_large = |len| Some(FrameError::TooLarge { len, limit: LIMIT });
    let declaring = |first, len: u64| [&[first, 0xff][..], &len.to_be_bytes(), &MASK].concat();
    for first in [0x81, 0x82, 0x01] {
        assert_eq!(decode(&declaring(first, 32_769)), (vec![], too_large(32_769)));
        assert_eq!(decode(&declaring(first, u64::MAX >> 1)), (vec![], too_large(u64::MAX >> 1)));
    }
    for first in [0x01, 0x02] {
        let begun = frames(&[(first, &[b'x'; LIMIT])]);
        assert_eq!(decode(&[begun, declaring(0x80, 1)].concat()), (vec![], too_large(32_769)));
    }
}

#[test]
fn protocol_violations_are_reported() {
    let cases: [(&str, Vec<u8>); 16] = [
        ("RSV1", frames(&[(0xc1, b"")])),
        ("RSV2", frames(&[(0xa1, b"")])),
        ("RSV3", frames(&[(0x91, b"")])),
        ("not masked", vec![0x81, 0x02, b'h', b'i']),
        ("unknown data opcode", frames(&[(0x83, b"")])),
        ("unknown control opcode", frames(&[(0x8b, b"")])),
        ("a ping in fragments", frames(&[(0x09, b"")])),
        ("a close in fragments", frames(&[(0x08, b"")])),
        ("a ping over 125", frames(&[(0x89, &[0; 126])])),
        ("a pong over 65535", frames(&[(0x8a, &[0; 65_536])])),
        ("a continuation of nothing", frames(&[(0x80, b"")])),
        ("a continuation of what is complete", frames(&[(0x01, b""), (0x80, b""), (0x00, b"")])),
        ("a message inside another", frames(&[(0x01, b""), (0x81, b"")])),
        ("a binary inside a text", frames(&[(0x01, b""), (0x02, b"")])),
        ("half a close code", frames(&[(0x88, b"\x03")])),
        ("a length of 64 bits", vec![0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (name, bytes) in cases {
        let (_, error) = decode(&bytes);
        assert!(matches!(error, Some(FrameError::Protocol(_))), "{name}: {error:?}");
        assert_eq!(error.map(|error| error.close_code()), Some(1002));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
        let (_, error) = decode(&frames(&[(0x88, &code.to_be_bytes())]));
        assert!(matches!(error, Some(FrameError::Protocol(_))), "{code}");
    }
}

#[test]
fn text_that_is_not_utf_8_is_refused() {
    let cases = [
        frames(&[(0x81, b"\xff")]),
        frames(&[(0x81, b"\xed\xa0\xbd")]),
        frames(&[(0x01, b"\xec\x95"), (0x80, b"")]),
        frames(&[(0x88, b"\x03\xe8\xc0\x80")]),
    ];
    for bytes in cases {
        assert_eq!(decode(&bytes), (vec![], Some(FrameError::InvalidUtf8)));
    }
}

#[test]
fn an_error_is_final() {
    let mut decoder = Decoder::new(LIMIT);
    let mut input = &[0x01, 0x81, 0, 0, 0, 0, b'a', 0xff, 0xff][..];
    let error = decoder.next_event(&mut input).unwrap_err();
    let (good, held) = (frames(&[(0x81, b"hi")]), decoder.held());
    assert_eq!(decoder.next_event(&mut &good[..]), Err(error));
    assert_eq!(held, 0);
}

#[test]
fn idle_decoder_holds_no_memory_and_announced_lengths_reserve_none() {
    let bytes = frames(&[(0x01, &[b'x'; 900]), (0x89, &[7; 125]), (0x80, &[b'y'; 900])]);
    let mut decoder = Decoder::new(LIMIT);
    for mut piece in bytes.chunks(100) {
        while decoder.next_event(&mut piece).unwrap().is_some() {}
    }
    assert_eq!(decoder.held(), 0);
    let mut input = &[0x81, 0xfe, 0x80, 0x00, 0, 0, 0, 0, b'x'][..];
    assert_eq!(decoder.next_event(&mut input), Ok(None));
    assert!(decoder.held() <= 8);
    assert!(size_of::<Decoder>() <= 128, "{}", size_of::<Decoder>());
}

#[test]
fn unfragmented_text_has_no_spare_capacity() {
    let bytes = frames(&[(0x81, &[b'x'; 1_001])]);
    let Ok(Some(Event::Text(text))) = Decoder::new(LIMIT).next_event(&mut &bytes[..]) else { panic!("no text") };
    assert_eq!((text.len(), text.capacity()), (1_001, 1_001));
}

#[test]
fn frames_are_written_with_the_shortest_header() {
    assert_eq!(&text(b"Hello")[..], b"\x81\x05Hello");
    assert_eq!(text_from(&[b"He", b"", b"llo"]), text(b"Hello"));
    assert_eq!(text(&[b'x'; 125])[..2], [0x81, 125]);
    assert_eq!(text(&[b'x'; 126])[..4], [0x81, 126, 0, 126]);
    assert_eq!(text(&[b'x'; 65_535])[..4], [0x81, 126, 0xff, 0xff]);
    assert_eq!(text(&[b'x'; 65_536])[..10], [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(&close(1000, "")[..], b"\x88\x02\x03\xe8");
    assert_eq!(&ping(b"a")[..], b"\x89\x01a");
    assert_eq!(pong(&[1; 200]).len(), 2 + MAX_CONTROL);
    for len in [0, 125, 126, 65_535, 65_536] {
        let payload = vec![b'x'; len];
        assert_eq!(payload_of(&text(&payload)), payload);
    }
    assert_eq!(payload_of(&[]), b"");
}

#[test]
fn long_reason_is_truncated_at_a_character_boundary() {
    let frame = close(1012, &"긴".repeat(60));
    assert_eq!(payload_of(&frame), [&[0x03, 0xf4], "긴".repeat(41).as_bytes()].concat());
    let frame = close(1012, &format!("a{}", "긴".repeat(60)));
    assert_eq!(payload_of(&frame).len(), 2 + 1 + 40 * 3);
}

/// Encodes a text as fragments that are cut at the given points, with a ping after each fragment except the last.
/// Returns the bytes and the expected events.
fn fragmented(text: &str, cuts: &[usize], mask: [u8; 4]) -> (Vec<u8>, Vec<Event>) {
    let (mut bytes, mut events, mut opcode, mut rest) = (Vec::new(), Vec::new(), 0x1, text.as_bytes());
    for cut in cuts {
        let (piece, after) = rest.split_at(cut % (rest.len() + 1));
        let ping = &piece[..piece.len().min(MAX_CONTROL)];
        bytes.extend(client_frame(opcode, piece, mask));
        bytes.extend(client_frame(0x89, ping, mask));
        events.push(Event::Ping(ping.to_vec()));
        (opcode, rest) = (0x0, after);
    }
    bytes.extend(client_frame(0x80 | opcode, rest, mask));
    events.push(text_event(text));
    (bytes, events)
}

fn sent() -> impl Strategy<Value = (Vec<u8>, Vec<Event>)> {
    let text = prop_oneof![4 => "\\PC{0,40}", 2 => "[a-z]{100,300}", 1 => "(안녕하세요 ){2000,2040}"];
    let cuts = proptest::collection::vec(0..20_000_usize, 0..4);
    let bytes = |most| proptest::collection::vec(any::<u8>(), 0..=most);
    let mask = any::<[u8; 4]>;
    prop_oneof![
        4 => (text, cuts, mask()).prop_map(|(text, cuts, mask)| fragmented(&text, &cuts, mask)),
        1 => (bytes(300), mask()).prop_map(|(it, mask)| (client_frame(0x82, &it, mask), vec![Event::Binary])),
        1 => (bytes(125), mask()).prop_map(|(it, mask)| (client_frame(0x89, &it, mask), vec![Event::Ping(it)])),
        1 => (bytes(125), mask()).prop_map(|(it, mask)| (client_frame(0x8a, &it, mask), vec![Event::Pong])),
    ]
}

proptest! {
    #[test]
    fn events_do_not_depend_on_chunking(
        sent in proptest::collection::vec(sent(), 0..6),
        sizes in proptest::collection::vec(1..300_usize, 1..8),
    ) {
        let (bytes, events): (Vec<_>, Vec<_>) = sent.into_iter().unzip();
        let (bytes, events) = (bytes.concat(), events.concat());
        prop_assert_eq!(&decode_cut(&bytes, &[usize::MAX]).0, &events);
        prop_assert_eq!(decode_cut(&bytes, &sizes), (events, None));
    }

    #[test]
    fn arbitrary_bytes_decode_the_same_for_any_chunking(
        // Most inputs are well-formed frames, because random bytes would rarely pass the checks of the header.
        frames in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..20)), 0..8),
        noise in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let frames = frames.iter().flat_map(|(first, payload)| client_frame(first & 0x8b, payload, MASK));
        decode(&frames.chain(noise).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn frames_of_tungstenite_are_decoded() {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let long = "가나다 ".repeat(3_000);
    let close = CloseFrame { code: 4001.into(), reason: "going".into() };
    let sent = [
        ClientMessage::text("hi"),
        ClientMessage::text(long.clone()),
        ClientMessage::binary(vec![0xff; 70]),
        ClientMessage::Ping("p".into()),
        ClientMessage::Pong("q".into()),
        ClientMessage::Close(Some(close)),
    ];
    for message in sent {
        client.send(message).await.unwrap();
    }
    drop(client);
    let mut bytes = Vec::new();
    far.read_to_end(&mut bytes).await.unwrap();
    let close = Event::Close { code: Some(4001) };
    let expected =
        vec![text_event("hi"), text_event(&long), Event::Binary, Event::Ping(b"p".to_vec()), Event::Pong, close];
    assert_eq!(decode(&bytes), (expected, None));
}

#[tokio::test]
async fn tungstenite_decodes_encoded_frames() {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let long = "가나다 ".repeat(7_000);
    let written =
        [text(b"hi"), text_from(&[long.as_bytes(), b"!"]), ping(b"p"), pong(b"q"), close(1012, "retry in 7 ms")];
    for frame in &written {
        far.write_all(frame).await.unwrap();
    }
    let mut received = Vec::new();
    while let Some(message) = client.next().await {
        match message {
            Ok(message) => received.push(message),
            Err(ClientError::ConnectionClosed) => break,
            Err(error) => panic!("{error}"),
        }
        if matches!(received.last(), Some(ClientMessage::Close(_))) {
            break;
        }
    }
    let close = CloseFrame { code: 1012.into(), reason: "retry in 7 ms".into() };
    let expected = [
        ClientMessage::text("hi"),
        ClientMessage::text(format!("{long}!")),
        ClientMessage::Ping("p".into()),
        ClientMessage::Pong("q".into()),
        ClientMessage::Close(Some(close)),
    ];
    assert_eq!(received, expected);
}
