//! Ids and frames of messages. A writer's frame is encoded once and then patched for each message. Ids and `seq` are
//! found in received frames without parsing JSON.

use memchr::memmem;

use crate::frame;

/// Id of a run. It distinguishes the messages of this run from those of other runs.
pub(crate) type Run = u32;

/// Id of a message in the form `run-room-side-number-due`. All parts are hexadecimal numbers with a fixed width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageId {
    pub(crate) run: Run,
    /// Room that the message was sent to.
    pub(crate) room: u32,
    /// Side that sent the message: 0 for the guest, 1 for the host.
    pub(crate) side: u8,
    /// Number of the message. Each writer counts its messages from 1.
    pub(crate) number: u32,
    /// Time for which the message was scheduled, in nanoseconds since the start of the process.
    pub(crate) due: u64,
}

impl MessageId {
    pub(crate) const LEN: usize = 8 + 1 + 6 + 1 + 1 + 1 + 8 + 1 + 12;

    pub(crate) fn write(&self) -> [u8; Self::LEN] {
        let mut text = [b'-'; Self::LEN];
        write_hex(&mut text[..8], u64::from(self.run));
        write_hex(&mut text[9..15], u64::from(self.room));
        write_hex(&mut text[16..17], u64::from(self.side));
        write_hex(&mut text[18..26], u64::from(self.number));
        write_hex(&mut text[27..], self.due);
        text
    }

    /// Parses an id. Returns `None` if `text` is not an id of this format.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let text: &[u8; Self::LEN] = text.try_into().ok()?;
        if [8, 15, 17, 26].iter().any(|&at| text[at] != b'-') {
            return None;
        }
        Some(Self {
            run: read_hex(&text[..8])? as u32,
            room: read_hex(&text[9..15])? as u32,
            side: read_hex(&text[16..17])? as u8,
            number: read_hex(&text[18..26])? as u32,
            due: read_hex(&text[27..])?,
        })
    }
}

fn write_hex(to: &mut [u8], mut number: u64) {
    for digit in to.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xF) as usize];
        number >>= 4;
    }
}

fn read_hex(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |number, &byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(digit))
    })
}

/// Length of a wall clock in the format `YYYY-MM-DDTHH:MM:SS.mmm`.
pub(crate) const WALL_CLOCK: usize = 23;

/// Encoded frame of one writer. For each message, only wall clock and id are overwritten.
pub(crate) struct Template {
    id: MessageId,
    frame: Vec<u8>,
    payload_at: usize,
    clock_at: usize,
    id_at: usize,
}

impl Template {
    /// Creates the frame of one side of a room. Its message has `size` bytes of text.
    pub(crate) fn new(run: Run, room: u32, side: u8, size: usize) -> Self {
        let id = MessageId { run, room, side, number: 0, due: 0 };
        let mut json = format!(r#"{{"type":"chat_message","is_host":{},"message":""#, side == 1).into_bytes();
        json.extend(b"The parcel has not come yet, could you look where it is? ".iter().cycle().take(size));
        json.extend_from_slice(br#"","datetime":""#);
        let clock_at = json.len();
        json.extend_from_slice(&[b'0'; WALL_CLOCK]);
        json.extend_from_slice(br#"","id":""#);
        let id_at = json.len();
        json.extend_from_slice(&id.write());
        json.extend_from_slice(br#""}"#);
        let (frame, payload_at) = frame::text(&json);
        Self { id, frame, payload_at, clock_at, id_at }
    }

    /// Returns the frame of the next message, which was scheduled for `due`. `clock` is the wall clock of the message.
    pub(crate) fn next(&mut self, due: u64, clock: &[u8; WALL_CLOCK]) -> &[u8] {
        self.id.number += 1;
        self.id.due = due;
        frame::patch(&mut self.frame, self.payload_at, self.clock_at, clock);
        frame::patch(&mut self.frame, self.payload_at, self.id_at, &self.id.write());
        &self.frame
    }
}

/// Finds messages in received frames without parsing JSON. The searched keys contain quotes. In the text of a message,
/// quotes are escaped, so the keys cannot occur there.
pub(crate) struct Scanner {
    id: memmem::Finder<'static>,
    /// `None` for servers that do not number messages.
    seq: Option<memmem::Finder<'static>>,
}

impl Scanner {
    /// Creates a scanner for PinTalk, or for a server whose messages have no `seq`.
    pub(crate) fn new(numbered: bool) -> Self {
        Self { id: memmem::Finder::new(br#""id":""#), seq: numbered.then(|| memmem::Finder::new(br#""seq":"#)) }
    }

    /// Returns the id and the `seq` of each message in a frame, in order. A live frame contains one message, and a
    /// history contains several. Notices have no id and are skipped, even if they have a `seq`. If the server does not
    /// number messages, `seq` is `None`.
    pub(crate) fn messages<'a>(
        &'a self,
        json: &'a [u8],
    ) -> impl Iterator<Item = (Option<MessageId>, Option<u64>)> + 'a {
        let ids = self.id.find_iter(json).map(|at| {
            let text = &json[at + self.id.needle().len()..];
            let end = memchr::memchr(b'"', text).unwrap_or(0);
            MessageId::read(&text[..end])
        });
        let mut seqs = self.seq.as_ref().map(|seq| {
            seq.find_iter(json).map(|at| {
                let digits = json[at + seq.needle().len()..].iter().take_while(|byte| byte.is_ascii_digit());
                digits.fold(0_u64, |number, &digit| number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
            })
        });
        // If a frame contains fewer `seq` than ids, the surplus messages are skipped and count as lost.
        ids.map_while(move |id| match &mut seqs {
            Some(seqs) => seqs.next().map(|seq| (id, Some(seq))),
            None => Some((id, None)),
        })
    }
}

/// Returns whether the history continues in another frame.
pub(crate) fn is_continued(json: &[u8]) -> bool {
    json.ends_with(br#""more":true}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MessageId =
        MessageId { run: 0xDEAD_BEEF, room: 99_999, side: 1, number: 12_345_678, due: 987_654_321_012 };

    fn messages(json: &str) -> Vec<(Option<MessageId>, Option<u64>)> {
        Scanner::new(true).messages(json.as_bytes()).collect()
    }

    fn id(id: &MessageId) -> String {
        String::from_utf8(id.write().to_vec()).unwrap()
    }

    #[test]
    fn id_round_trips_and_is_accepted_by_the_server() {
        assert_eq!(MessageId::read(&ID.write()), Some(ID));
        let text = id(&ID);
        assert!(text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{text}");
    }

    #[test]
    fn foreign_id_is_ignored() {
        let own = id(&ID);
        for text in ["", "abc", &own[1..], &own.replace('-', "_"), &own.to_uppercase()] {
            assert_eq!(MessageId::read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn live_message_is_found_whatever_its_text_contains() {
        let json = format!(
            r#"{{"type":"chat_message","message":"\"id\":\"no\",\"seq\":9","datetime":"x","id":"{}","seq":7}}"#,
            id(&ID)
        );
        assert_eq!(messages(&json), [(Some(ID), Some(7))]);
    }

    #[test]
    fn messages_of_a_history_are_found_in_order() {
        let (first, second) = (MessageId { number: 1, ..ID }, MessageId { number: 2, ..ID });
        let json = format!(
            r#"{{"type":"chat_message","data":[{{"id":"{}","seq":1}},{{"id":"theirs","seq":2}},{{"id":"{}","seq":30}}],"more":true}}"#,
            id(&first),
            id(&second)
        );
        assert_eq!(messages(&json), [(Some(first), Some(1)), (None, Some(2)), (Some(second), Some(30))]);
        assert!(is_continued(json.as_bytes()));
        assert!(!is_continued(br#"{"type":"chat_message","data":[]}"#));
    }

    #[test]
    fn message_without_a_number_is_found_only_if_the_server_does_not_number() {
        let json = format!(r#"{{"type":"chat_message","message":"x","id":"{}"}}"#, id(&ID));
        assert_eq!(messages(&json), []);
        assert!(Scanner::new(false).messages(json.as_bytes()).eq([(Some(ID), None)]));
    }

    #[test]
    fn notice_is_not_a_message() {
        assert_eq!(messages(r#"{"type":"notice","message":"read","seq":7}"#), []);
        assert_eq!(messages(r#"{"type":"notice","message":"typing"}"#), []);
    }

    #[test]
    fn next_frame_has_the_next_number_and_the_wall_clock() {
        let mut template = Template::new(7, 3, 1, 60);
        template.next(1, b"2026-11-25T00:00:00.000");
        let payload_at = template.payload_at;
        let frame = template.next(5, b"2026-11-25T01:02:03.004").to_vec();
        let mask = &frame[payload_at - 4..payload_at];
        let json: Vec<u8> = frame[payload_at..].iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["message"].as_str().unwrap().len(), 60);
        assert_eq!(json["datetime"], "2026-11-25T01:02:03.004");
        assert_eq!(json["is_host"], true);
        let id = MessageId::read(json["id"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(id, MessageId { run: 7, room: 3, side: 1, number: 2, due: 5 });
    }
}
