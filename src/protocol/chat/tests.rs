//! Tests of the parsing and encoding of chat frames.

use super::*;

fn message(text: &str) -> String {
    format!(r#"{{"type":"chat_message","is_host":false,"message":{text},"datetime":"2023-03-23T08:15:07.123"}}"#)
}

#[test]
fn a_message_of_the_real_widget_is_read() {
    let parsed = InboundChat::parse(&message("\"hi\"")).unwrap();
    assert_eq!(
        parsed,
        InboundChat::Message { text: "hi".into(), datetime: "2023-03-23T08:15:07.123".parse().unwrap(), id: None }
    );
}

#[test]
fn message_may_fill_its_frame() {
    let long = |letter: &str, count| InboundChat::parse(&message(&format!("\"{}\"", letter.repeat(count))));
    for (letter, count) in [("a", 2_001), ("a", 32_000), ("한", 10_000), ("😀", 8_000), ("\\u0001", 5_000), (" ", 1)]
    {
        assert!(long(letter, count).is_ok(), "{letter}");
    }
    assert!(long("a", 0).is_err());
}

#[test]
fn only_an_invalid_time_in_a_stored_frame_is_replaced() {
    let accepted_at = DateTime::from_timestamp_millis(1_679_527_007_900).unwrap();
    let frame = |text: &str, datetime: &str| {
        let (datetime, id) = (datetime.parse().unwrap(), "i".repeat(64).parse().unwrap());
        let mut frame = message_head(Side::Guest, text, &datetime, &id);
        frame.extend_from_slice(b"18446744073709551615}");
        frame
    };
    let repaired = |frame: &[u8]| repaired_frame(frame, WireOffset::default(), accepted_at);
    for text in ["hi", "\",\"datetime\":\"2023-99-99T08:15:07\",\"id\":\"x", "\\", &"한".repeat(9_000)] {
        let valid = frame(text, "2023-03-23T08:15:07.123456");
        assert_eq!(repaired(&valid), None, "{text}");
        assert!(!needs_repair(&valid));
        let invalid = frame(text, "2023-03-23T08:15:77");
        assert!(needs_repair(&invalid));
        assert_eq!(repaired(&invalid).unwrap(), frame(text, "2023-03-23T08:16:47.900"), "{text}");
    }
    for other in [&b""[..], b"{}", b"{\"seq\":1}", br#"{"a":"","datetime":"now"}"#, br#"{"a":"","datetime":""#] {
        assert_eq!(repaired(other), None);
    }
}

#[test]
fn unknown_notices_are_accepted() {
    let notice = |word: &str| InboundChat::parse(&format!(r#"{{"type":"notice","message":"{word}"}}"#));
    for (word, meant) in
        [("ping", Notice::Ping), ("away", Notice::Away), ("back", Notice::Back), ("hello", Notice::Other)]
    {
        assert_eq!(notice(word), Ok(InboundChat::Notice(meant)));
    }
}

#[test]
fn lone_surrogate_is_replaced_and_not_rejected() {
    let Ok(InboundChat::Message { text, .. }) = InboundChat::parse(&message(r#""hi \ud83d""#)) else {
        panic!("refused")
    };
    assert_eq!(text, "hi \u{fffd}");
}

#[test]
fn frames_not_of_the_agreed_form_are_rejected() {
    let nested = format!("{{\"type\":{}", "[".repeat(8_000));
    for bad in [
        "",
        "null",
        "[]",
        "hi",
        "{}",
        "{\"type\":1}",
        "{\"type\":\"nonsense\"}",
        &nested,
        r#"["chat_message","hi","2023-03-23T08:15:07",null,null,null,false]"#,
        r#"{"type":"chat_message","message":"hi"}"#,
        r#"{"type":"chat_message","message":"hi","datetime":"now"}"#,
        r#"{"type":"chat_message","message":7,"datetime":"2023-03-23T08:15:07"}"#,
        r#"{"type":"chat_message","message":"hi","datetime":"2023-03-23T08:15:07","id":"no spaces"}"#,
        r#"{"type":"request","message":"yesterday"}"#,
        r#"{"type":"request","before":-1}"#,
        r#"{"type":"notice"}"#,
        r#"{"type":"notice","message":"read","datetime":"2023-03-23T08:15:07"}"#,
    ] {
        assert!(InboundChat::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn deep_nesting_in_an_unknown_field_is_harmless() {
    let text = format!(r#"{{"x":{}{},"type":"notice","message":"whatever"}}"#, "[".repeat(8_000), "]".repeat(8_000));
    // Both results are valid. The test checks only that the parser does not overflow the stack.
    let _: Result<InboundChat, Refusal> = InboundChat::parse(&text);
}

#[test]
fn stored_message_yields_the_frame_that_was_sent() {
    let text = "hi \"there\"\n한";
    let message = Message {
        chatroom: crate::domain::ChatroomId(1),
        seq: 7,
        side: Side::Host,
        text: text.into(),
        datetime: "2023-03-23T08:15:77".parse().unwrap(),
        id: "abc".parse().unwrap(),
        accepted_at: chrono::DateTime::UNIX_EPOCH,
    };
    let frame = message_frame(&message);
    assert_eq!(
        frame,
        r#"{"type":"chat_message","is_host":true,"message":"hi \"there\"\n한","datetime":"2023-03-23T08:15:77","id":"abc","seq":7}"#
    );
    assert!(!is_from_guest(&frame) && is_from_guest(&message_frame(&Message { side: Side::Guest, ..message })));
    let stored: StoredFrame<'_> = serde_json::from_slice(&frame).unwrap();
    assert_eq!((stored.is_host, &*stored.message, &*stored.id, stored.seq), (true, text, "abc", 7));
}

#[test]
fn history_contains_the_original_frames() {
    let frames: [&[u8]; 2] = [br#"{"seq":1}"#, br#"{"seq":2}"#];
    assert_eq!(history_frame(frames, false), br#"{"type":"chat_message","data":[{"seq":1},{"seq":2}]}"#);
    assert_eq!(history_frame(frames, true), br#"{"type":"chat_message","data":[{"seq":1},{"seq":2}],"more":true}"#);
}

/// Frames that earlier releases parsed incorrectly, and frames that are likely to be parsed incorrectly.
const CORPUS: &[&str] = &[
    "",
    "{",
    "[]",
    "{}",
    "null",
    "\u{feff}{}",
    r#"{"type":"chat_message","message":"","datetime":"2023-03-23T08:15:07"}"#,
    r#"{"type":"chat_message","message":"a","datetime":"2023-13-45T99:99:99"}"#,
    r#"{"type":"chat_message","message":"a","datetime":"0000-00-00T00:00:00.000000"}"#,
    r#"{"type":"chat_message","message":"\ud83d","datetime":"2023-03-23T08:15:07"}"#,
    r#"{"type":"chat_message","message":"\udc00\ud83d\ude00\ud83d","datetime":"2023-03-23T08:15:07"}"#,
    r#"{"type":"chat_message","message":"\u0000\u2028\u202e\u0007","datetime":"2023-03-23T08:15:07"}"#,
    r#"{"type":"chat_message","message":"\"datetime\":\"x\"","datetime":"2023-03-23T08:15:07"}"#,
    r#"{"type":"chat_message","message":"a","datetime":"2023-03-23T08:15:07","id":null,"seq":1,"is_host":[{}]}"#,
    r#"{"type":"chat_message","message":"a","message":"b","datetime":"2023-03-23T08:15:07"}"#,
    r#"{"type":"request","before":18446744073709551616}"#,
    r#"{"type":"request","before":-1}"#,
    r#"{"type":"request","message":"2023-03-23T08:15:07Z"}"#,
    r#"{"type":"notice","message":"read","seq":1e3,"datetime":"2023-03-23T08:15:07"}"#,
    r#"{"type":"notice","message":"close"}"#,
    r#"{"type":"\u0063hat_message","message":"a","datetime":"2023-03-23T08:15:07"}"#,
];

/// Checks that a message is unchanged after it was encoded and parsed. Does nothing if `text` is not a message frame.
fn check(text: &str) {
    let Ok(InboundChat::Message { text, datetime, id }) = InboundChat::parse(text) else { return };
    let id = id.unwrap_or_else(|| "id".parse().unwrap());
    let mut frame = message_head(Side::Guest, &text, &datetime, &id);
    frame.extend_from_slice(b"7}");
    let read: StoredFrame<'_> = serde_json::from_slice(&frame).unwrap();
    assert_eq!((&*read.message, &*read.datetime, &*read.id), (&*text, datetime.as_str(), id.as_str()));
    assert_eq!((read.is_host, read.seq, is_from_guest(&frame)), (false, 7, true));
    assert!(!text.is_empty());
}

#[test]
fn stored_corpus_passes() {
    CORPUS.iter().for_each(|text| check(text));
}

proptest::proptest! {
    #[test]
    fn any_message_survives_a_round_trip(
        text in proptest::prop_oneof![
            "\\PC{0,40}",
            "[\"\\\\/bfnrtu0-9a-fA-F]{0,40}",
            "(\\\\u[dD][89abcdefABCDEF][0-9a-f]{2}){0,6}",
        ],
        datetime in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,7})?",
        id in proptest::option::of("[A-Za-z0-9_-]{0,66}"),
    ) {
        let id = id.map(|id| format!(",\"id\":\"{id}\"")).unwrap_or_default();
        check(&format!("{{\"type\":\"chat_message\",\"message\":\"{text}\",\"datetime\":\"{datetime}\"{id}}}"));
        let json = serde_json::json!({ "type": "chat_message", "message": text, "datetime": datetime });
        check(&json.to_string());
    }

    #[test]
    fn any_text_is_parsed_or_rejected(
        text in proptest::prop_oneof![
            "\\PC{0,60}",
            "\\{(\"(type|message|datetime|id|seq|before|is_host)\":(\"[a-z_]{0,12}\"|[0-9.e-]{0,6}|null|\\[\\]|true),?){0,6}\\}",
        ],
    ) {
        check(&text);
    }
}
