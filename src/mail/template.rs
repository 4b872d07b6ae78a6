//! What mails say.

use minijinja::{Environment, context};

use crate::store::OutgoingMail;
use chrono::{DateTime, TimeDelta, Utc};

/// What a mail is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// Where the clients are from.
    #[default]
    Korean,
    /// Whoever asks for another.
    English,
}

impl Language {
    /// Its two letters.
    pub fn code(self) -> &'static str {
        match self {
            Self::Korean => "ko",
            Self::English => "en",
        }
    }

    /// Of an `Accept-Language`: the first language that is named, Korean without one.
    pub fn of(header: Option<&str>) -> Self {
        let first = header.unwrap_or_default().split([',', ';', '-']).next().unwrap_or_default().trim();
        if first.is_empty() || first == "*" || first.eq_ignore_ascii_case("ko") { Self::Korean } else { Self::English }
    }
}

impl std::str::FromStr for Language {
    type Err = &'static str;

    /// The reverse of [`code`](Self::code).
    fn from_str(code: &str) -> Result<Self, Self::Err> {
        let known = [Self::Korean, Self::English].into_iter().find(|language| language.code() == code);
        known.ok_or("expected ko or en")
    }
}

/// A mail, before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Letter {
    /// The code that confirms an address.
    Verification {
        /// Six digits.
        code: String,
    },
    /// A password for an hour, beside the one that was forgotten.
    PasswordReset {
        /// It.
        password: String,
    },
    /// A password that brings an account back.
    AccountRestore {
        /// It.
        password: String,
    },
    /// What a host missed in a room.
    HostDigest {
        /// His service.
        service: String,
        /// Who wrote.
        guest: String,
        /// What, quoted.
        excerpt: String,
        /// Where to answer.
        link: String,
    },
    /// What a guest missed.
    GuestDigest {
        /// Whose service answered.
        service: String,
        /// What, quoted.
        excerpt: String,
        /// Where to go on.
        link: String,
        /// Where to end these mails.
        unsubscribe: String,
    },
}

impl Letter {
    /// Writes it. `None` only if a template is broken, which a test sees.
    pub fn write(
        &self,
        to: &str,
        language: Language,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Option<OutgoingMail> {
        // Of five minutes that were given a moment ago, five.
        let minutes = (until - now + TimeDelta::seconds(59)).num_minutes();
        let context = match self {
            Self::Verification { code } => context! { code, minutes },
            Self::PasswordReset { password } | Self::AccountRestore { password } => context! { password, minutes },
            Self::HostDigest { service, guest, excerpt, link } => context! { service, guest, excerpt, link },
            Self::GuestDigest { service, excerpt, link, unsubscribe } => {
                context! { service, excerpt, link, unsubscribe }
            }
        };
        let text = Environment::new().render_str(self.template(language), context).ok()?;
        let (subject, body) = text.split_once("\n\n")?;
        Some(OutgoingMail {
            recipient: to.to_owned(),
            subject: subject.to_owned(),
            body: body.to_owned(),
            expires_at: until,
            at_most_once: false,
            unsubscribe_url: None,
        })
    }

    /// The first line is the subject.
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
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn every_letter_is_written_in_both_languages_with_what_it_is_for() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        for letter in [
            Letter::Verification { code: "<42&7>".into() },
            Letter::PasswordReset { password: "<42&7>".into() },
            Letter::AccountRestore { password: "<42&7>".into() },
        ] {
            for language in [Language::Korean, Language::English] {
                let mail = letter.write("dev@shop.example", language, now, now + TimeDelta::minutes(77)).unwrap();
                assert!(mail.subject.contains("PinTalk") && !mail.subject.contains(['\n', '<']), "{mail:?}");
                assert!(mail.body.contains("<42&7>") && mail.body.contains("77"), "{mail:?}");
                assert!(!mail.body.contains("{{"), "{mail:?}");
            }
        }
    }

    #[test]
    fn what_users_wrote_is_in_a_digest_and_never_in_its_subject() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let text = |what: &str| format!("<{what}> {{{{ 1 }}}}\r\nBcc: x");
        let (service, excerpt, link) = (text("service"), text("excerpt"), text("link"));
        let (guest, unsubscribe) = (text("guest"), text("unsubscribe"));
        let to_host = Letter::HostDigest {
            service: service.clone(),
            guest: guest.clone(),
            excerpt: excerpt.clone(),
            link: link.clone(),
        };
        let to_guest = Letter::GuestDigest {
            service: service.clone(),
            excerpt: excerpt.clone(),
            link: link.clone(),
            unsubscribe: unsubscribe.clone(),
        };
        for (letter, shown) in
            [(to_host, [&service, &excerpt, &link, &guest]), (to_guest, [&service, &excerpt, &link, &unsubscribe])]
        {
            for language in [Language::Korean, Language::English] {
                let mail = letter.write("dev@shop.example", language, now, now).unwrap();
                assert!(mail.subject.contains("PinTalk") && !mail.subject.contains(['\n', '<']), "{mail:?}");
                assert!(shown.iter().all(|text| mail.body.contains(text.as_str())), "{mail:?}");
                assert_eq!(language.code().parse(), Ok(language));
            }
        }
    }

    #[test]
    fn a_mail_is_korean_unless_another_language_is_asked_for() {
        for korean in [None, Some(""), Some("*"), Some("ko"), Some("ko-KR,ko;q=0.9,en;q=0.8"), Some("KO")] {
            assert_eq!(Language::of(korean), Language::Korean, "{korean:?}");
        }
        for english in ["en", "en-US,en;q=0.5", "de, ko;q=0.1"] {
            assert_eq!(Language::of(Some(english)), Language::English, "{english}");
        }
    }
}
