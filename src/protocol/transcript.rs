//! Transcripts of conversations as text files (SPEC 3, `download`).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::domain::text::{is_hidden, is_line_break, lines};
use crate::domain::{Message, Side, WallClock};

/// Line break and indentation before the second and each later line of a message. The indentation distinguishes such a
/// line from the first line of a message.
const INDENT: &str = "\n    ";

/// Characters that must be percent-encoded in an extended parameter: all except the `attr-char` of RFC 5987.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// Names of the two sides of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// `profileName` of the host.
    pub host: String,
    /// Nickname of the guest.
    pub guest: String,
}

impl Names {
    /// Appends a message as `[2023-03-23 08:15:07.123 Kim] text`, followed by a line break. The time is the sender's
    /// wall-clock time.
    pub fn write(&self, message: &Message, into: &mut String) {
        let name = if message.side == Side::Host { &self.host } else { &self.guest };
        into.push('[');
        into.push_str(&message.datetime.as_str().replacen('T', " ", 1));
        into.push(' ');
        // Brackets in the name are replaced, so that the name cannot imitate the closing bracket after the name.
        into.extend(name.chars().filter_map(|letter| match letter {
            '[' => Some('('),
            ']' => Some(')'),
            _ if is_line_break(letter) => Some(' '),
            _ => Some(letter).filter(|letter| !is_hidden(*letter)),
        }));
        into.push_str("] ");
        for (at, line) in lines(&message.text).enumerate() {
            if at > 0 {
                into.push_str(INDENT);
            }
            into.extend(line.chars().filter(|letter| *letter == '\t' || !is_hidden(*letter)));
        }
        into.push('\n');
    }

    /// Returns the value of `Content-Disposition` for a file named `<guest>_<time>.txt`. The value also contains an
    /// ASCII name for clients that do not support RFC 5987.
    pub fn disposition(&self, now: &WallClock) -> String {
        let time = now.whole_seconds().replace('T', "_").replace(':', "-");
        // Some file systems do not permit these characters in names.
        let guest = self.guest.replace(|letter: char| is_hidden(letter) || "\"*/:<>?\\|".contains(letter), "-");
        let name = format!("{guest}_{time}.txt");
        let encoded = utf8_percent_encode(&name, ENCODED);
        format!("attachment; filename=\"chat_{time}.txt\"; filename*=UTF-8''{encoded}")
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::ChatroomId;

    fn names() -> Names {
        Names { host: "김 개발".into(), guest: "용감한 곰".into() }
    }

    fn a_message(side: Side, text: &str) -> Message {
        Message {
            chatroom: ChatroomId(1),
            seq: 1,
            side,
            text: text.into(),
            datetime: "2023-03-23T08:15:07.123".parse().unwrap(),
            id: "a".parse().unwrap(),
            accepted_at: DateTime::UNIX_EPOCH,
        }
    }

    fn written(side: Side, text: &str) -> String {
        let mut into = String::new();
        names().write(&a_message(side, text), &mut into);
        into
    }

    #[test]
    fn message_is_a_line_with_the_senders_time_and_name() {
        assert_eq!(written(Side::Guest, "안녕"), "[2023-03-23 08:15:07.123 용감한 곰] 안녕\n");
        assert_eq!(written(Side::Host, "T at T"), "[2023-03-23 08:15:07.123 김 개발] T at T\n");
    }

    #[test]
    fn no_line_of_a_message_looks_like_another_message() {
        for end in
            ["\n", "\r\n", "\r", "\u{b}", "\u{c}", "\u{1c}", "\u{1d}", "\u{1e}", "\u{85}", "\u{2028}", "\u{2029}"]
        {
            let forged = format!("hi{end}[2023-03-23 08:15:08 김 개발] I owe you 100");
            assert_eq!(
                written(Side::Guest, &forged),
                "[2023-03-23 08:15:07.123 용감한 곰] hi\n    [2023-03-23 08:15:08 김 개발] I owe you 100\n"
            );
        }
        assert_eq!(written(Side::Guest, "a\n\nb\n"), "[2023-03-23 08:15:07.123 용감한 곰] a\n    \n    b\n    \n");
    }

    #[test]
    fn control_characters_do_not_change_how_a_line_is_displayed() {
        let hidden = "a\u{202e}b\u{2066}c\u{8}d\u{1b}[2Ke\tf\u{0}";
        assert_eq!(written(Side::Guest, hidden), "[2023-03-23 08:15:07.123 용감한 곰] abcd[2Ke\tf\n");
        let message = "hi";
        let odd = Names { guest: "곰] I owe you\u{2028}[\u{202e}김".into(), ..names() };
        let mut into = String::new();
        odd.write(&a_message(Side::Guest, message), &mut into);
        assert_eq!(into, "[2023-03-23 08:15:07.123 곰) I owe you (김] hi\n");
        let now = "2023-03-23T08:15:07".parse().unwrap();
        assert!(odd.disposition(&now).is_ascii() && !odd.disposition(&now).contains("%E2%80%AE"));
    }

    #[test]
    fn file_name_contains_the_guests_name_with_an_ascii_fallback() {
        let now = "2023-03-23T08:15:07".parse().unwrap();
        assert_eq!(
            names().disposition(&now),
            "attachment; filename=\"chat_2023-03-23_08-15-07.txt\"; \
             filename*=UTF-8''%EC%9A%A9%EA%B0%90%ED%95%9C%20%EA%B3%B0_2023-03-23_08-15-07.txt"
        );
        let odd = Names { guest: "a/b\"c'd".into(), ..names() };
        assert!(odd.disposition(&now).ends_with("filename*=UTF-8''a-b-c%27d_2023-03-23_08-15-07.txt"));
    }
}
