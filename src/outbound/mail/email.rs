//! Content of e-mails.

use chrono::{DateTime, TimeDelta, Utc};
use minijinja::{Environment, context};

use crate::domain::text::{name, quote};
use crate::domain::{ChatroomId, Message};
use crate::store::{MailKind, MailPart, OutgoingMail};

/// Maximum number of characters of a message that an e-mail shows.
const SHOWN_CHARS: usize = 300;

/// Language of an e-mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// Korean, the default.
    #[default]
    Korean,
    /// English, for clients that prefer any language but Korean.
    English,
}

impl Language {
    /// Returns the ISO 639-1 code of the language.
    pub fn code(self) -> &'static str {
        match self {
            Self::Korean => "ko",
            Self::English => "en",
        }
    }

    /// Returns Korean if the first entry of an `Accept-Language` header is Korean or `*`, or if there is no entry.
    /// Returns English otherwise.
    pub fn of(header: Option<&str>) -> Self {
        let first = header.unwrap_or_default().split([',', ';', '-']).next().unwrap_or_default().trim();
        if first.is_empty() || first == "*" || first.eq_ignore_ascii_case("ko") { Self::Korean } else { Self::English }
    }
}

impl std::str::FromStr for Language {
    type Err = &'static str;

    /// Parses a code that [`code`](Self::code) returns.
    fn from_str(code: &str) -> Result<Self, Self::Err> {
        let known = [Self::Korean, Self::English].into_iter().find(|language| language.code() == code);
        known.ok_or("expected ko or en")
    }
}

/// Data of an e-mail, before it is rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmailContent {
    /// Code that confirms an address at sign-up.
    Verification {
        /// Code of six digits.
        code: String,
    },
    /// Temporary password, which is valid in addition to the forgotten one.
    PasswordReset {
        /// The temporary password.
        password: String,
    },
    /// Temporary password that reactivates an account.
    AccountRestore {
        /// The temporary password.
        password: String,
    },
    /// Unread messages of a host.
    HostDigest {
        /// Name of the host's service.
        service: String,
        /// Rooms with excerpts.
        rooms: Vec<RoomText>,
        /// Number of further rooms that are not shown.
        others: usize,
        /// URL of the admin page.
        link: String,
    },
    /// Unread messages of a guest.
    GuestDigest {
        /// Name of the service that answered.
        service: String,
        /// The guest's room with an excerpt.
        room: RoomText,
        /// URL where the conversation continues.
        link: String,
        /// URL that withdraws consent.
        unsubscribe: String,
    },
    /// Request for a guest's consent to e-mail. It contains no text written by a guest or a host.
    Consent {
        /// Domain of the service.
        domain: String,
        /// URL of the consent page.
        link: String,
    },
}

/// Unread messages of a room, as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomText {
    /// Row id of the room.
    pub room: ChatroomId,
    /// Nickname of the guest.
    pub guest: String,
    /// Messages, oldest first.
    pub messages: Vec<Message>,
    /// Whether the room has further unread messages.
    pub more: bool,
}

impl RoomText {
    /// Formats the messages as quotations. With `with_name`, the guest's name is above them.
    fn part(&self, with_name: bool) -> MailPart {
        let mut text = if with_name { format!("“{}”:\n\n", name(&self.guest)) } else { String::new() };
        for message in &self.messages {
            text.push_str(&quote(&message.text, SHOWN_CHARS));
            text.push_str("\n\n");
        }
        if self.more {
            text.push_str("…\n\n");
        }
        let last_seq = self.messages.last().map_or(0, |message| message.seq);
        MailPart { room: self.room, last_seq, text }
    }
}

/// Returns a domain that a host has entered, without the characters that are not valid in host names.
fn domain_name(domain: &str) -> String {
    domain.chars().filter(|character| character.is_ascii_alphanumeric() || ".-:[]_".contains(*character)).collect()
}

impl EmailContent {
    /// Renders the e-mail. Returns `None` if the template is invalid. A test checks that all templates are valid.
    pub fn write(
        &self,
        to: &str,
        language: Language,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Option<OutgoingMail> {
        // The time is rounded up, so that a validity of five minutes is still shown as five minutes just after it has
        // begun.
        let minutes = (until - now + TimeDelta::seconds(59)).num_minutes();
        let mut parts = Vec::new();
        let (context, kind) = match self {
            Self::Verification { code } => (context! { code, minutes }, MailKind::Account),
            Self::PasswordReset { password } | Self::AccountRestore { password } => {
                (context! { password, minutes }, MailKind::Account)
            }
            Self::HostDigest { service, rooms, others, link } => {
                parts = rooms.iter().map(|room| room.part(true)).collect();
                let (service, text) = (name(service), text_of(&parts));
                (context! { service, text, others, link }, MailKind::HostDigest)
            }
            Self::GuestDigest { service, room, link, unsubscribe } => {
                parts.push(room.part(false));
                let (service, text) = (name(service), text_of(&parts));
                (context! { service, text, link, unsubscribe }, MailKind::GuestDigest)
            }
            Self::Consent { domain, link } => (context! { domain => domain_name(domain), link }, MailKind::Consent),
        };
        let text = Environment::new().render_str(self.template(language), context).ok()?;
        let (subject, body) = text.split_once("\n\n")?;
        Some(OutgoingMail {
            recipient: to.to_owned(),
            subject: subject.to_owned(),
            body: body.to_owned(),
            expires_at: until,
            at_most_once: kind != MailKind::Account,
            unsubscribe_url: None,
            kind,
            host: None,
            parts,
        })
    }

    /// Returns the text of the template. Its first line is the subject.
    fn template(&self, language: Language) -> &'static str {
        match (self, language) {
            (Self::Verification { .. }, Language::Korean) => include_str!("templates/ko/verification.txt"),
            (Self::Verification { .. }, Language::English) => include_str!("templates/en/verification.txt"),
            (Self::PasswordReset { .. }, Language::Korean) => include_str!("templates/ko/password_reset.txt"),
            (Self::PasswordReset { .. }, Language::English) => include_str!("templates/en/password_reset.txt"),
            (Self::AccountRestore { .. }, Language::Korean) => include_str!("templates/ko/account_restore.txt"),
            (Self::AccountRestore { .. }, Language::English) => include_str!("templates/en/account_restore.txt"),
            (Self::HostDigest { .. }, Language::Korean) => include_str!("templates/ko/host_digest.txt"),
            (Self::HostDigest { .. }, Language::English) => include_str!("templates/en/host_digest.txt"),
            (Self::GuestDigest { .. }, Language::Korean) => include_str!("templates/ko/guest_digest.txt"),
            (Self::GuestDigest { .. }, Language::English) => include_str!("templates/en/guest_digest.txt"),
            (Self::Consent { .. }, Language::Korean) => include_str!("templates/ko/consent.txt"),
            (Self::Consent { .. }, Language::English) => include_str!("templates/en/consent.txt"),
        }
    }
}

fn text_of(parts: &[MailPart]) -> String {
    parts.iter().map(|part| part.text.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn every_account_email_has_both_languages() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        for email in [
            EmailContent::Verification { code: "<42&7>".into() },
            EmailContent::PasswordReset { password: "<42&7>".into() },
            EmailContent::AccountRestore { password: "<42&7>".into() },
        ] {
            for language in [Language::Korean, Language::English] {
                let mail = email.write("dev@shop.example", language, now, now + TimeDelta::minutes(77)).unwrap();
                assert!(mail.subject.contains("PinTalk") && !mail.subject.contains(['\n', '<']), "{mail:?}");
                assert!(mail.body.contains("<42&7>") && mail.body.contains("77"), "{mail:?}");
                assert!(!mail.body.contains("{{"), "{mail:?}");
            }
        }
    }

    fn a_message(seq: u64, text: &str) -> Message {
        Message {
            chatroom: ChatroomId(1),
            seq,
            side: crate::domain::Side::Guest,
            text: text.to_owned(),
            datetime: "2023-03-23T08:15:07".parse().unwrap(),
            id: "a".parse().unwrap(),
            accepted_at: DateTime::UNIX_EPOCH,
        }
    }

    fn written(email: &EmailContent, language: Language) -> OutgoingMail {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let mail = email.write("dev@shop.example", language, now, now).unwrap();
        assert!(
            mail.subject.contains("PinTalk") && mail.subject.chars().all(|character| !character.is_control()),
            "{mail:?}"
        );
        let whole: String = mail.parts.iter().map(|part| part.text.as_str()).collect();
        assert!(mail.body.contains(&whole), "{mail:?}");
        mail
    }

    #[test]
    fn user_text_stays_within_its_quotation() {
        let odd = "hi\r\rPinTalk security notice\u{2028}\u{202e}https://evil.example {{ 1 }} “x”";
        let room = |id| RoomText {
            room: ChatroomId(id),
            guest: odd.into(),
            messages: vec![a_message(7, odd), a_message(8, "second")],
            more: true,
        };
        let (service, link, unsubscribe) = (odd.to_owned(), "https://link/".to_owned(), "https://end/".to_owned());
        let to_host = EmailContent::HostDigest {
            service: service.clone(),
            rooms: vec![room(1), room(2)],
            others: 3,
            link: link.clone(),
        };
        let to_guest = EmailContent::GuestDigest { service, room: room(1), link, unsubscribe };
        for (email, rooms) in [(to_host, 2), (to_guest, 1)] {
            for language in [Language::Korean, Language::English] {
                let mail = written(&email, language);
                assert_eq!(
                    mail.body.matches("> hi\n>\n> PinTalk security notice\n> https://evil.example").count(),
                    rooms
                );
                assert_eq!(mail.parts.iter().map(|part| part.last_seq).collect::<Vec<_>>(), vec![8; rooms]);
                let own_text = mail.body.lines().filter(|line| !line.starts_with('>')).collect::<Vec<_>>().join("\n");
                assert!(!own_text.contains("evil.example") && !own_text.contains("\u{202e}"), "{own_text}");
                assert!(own_text.contains("“hi PinTalk security notice https: / / evil. example {{…”"), "{own_text}");
                assert!(own_text.contains("https://link/") && mail.at_most_once, "{own_text}");
                assert_eq!(own_text.contains('3'), rooms == 2, "{own_text}");
                assert_eq!(language.code().parse(), Ok(language));
            }
        }
    }

    #[test]
    fn consent_request_contains_only_the_domain() {
        let domain = "shop.example\r\nBcc: <x> “y”".to_owned();
        for language in [Language::Korean, Language::English] {
            let mail =
                written(&EmailContent::Consent { domain: domain.clone(), link: "https://link/".into() }, language);
            assert!(mail.body.contains("shop.exampleBcc:xy") && mail.body.contains("    https://link/\n"), "{mail:?}");
            assert_eq!((mail.kind, mail.at_most_once, mail.parts.len()), (MailKind::Consent, true, 0));
        }
    }

    #[test]
    fn language_is_korean_unless_another_is_preferred() {
        for korean in [None, Some(""), Some("*"), Some("ko"), Some("ko-KR,ko;q=0.9,en;q=0.8"), Some("KO")] {
            assert_eq!(Language::of(korean), Language::Korean, "{korean:?}");
        }
        for english in ["en", "en-US,en;q=0.5", "de, ko;q=0.1"] {
            assert_eq!(Language::of(Some(english)), Language::English, "{english}");
        }
    }
}
