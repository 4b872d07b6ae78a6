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
    /// Of an `Accept-Language`: the first language that is named, Korean without one.
    pub fn of(header: Option<&str>) -> Self {
        let first = header.unwrap_or_default().split([',', ';', '-']).next().unwrap_or_default().trim();
        if first.is_empty() || first == "*" || first.eq_ignore_ascii_case("ko") { Self::Korean } else { Self::English }
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
        };
        let text = Environment::new().render_str(self.template(language), context).ok()?;
        let (subject, body) = text.split_once("\n\n")?;
        Some(OutgoingMail {
            recipient: to.to_owned(),
            subject: subject.to_owned(),
            body: body.to_owned(),
            expires_at: until,
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
    fn a_mail_is_korean_unless_another_language_is_asked_for() {
        for korean in [None, Some(""), Some("*"), Some("ko"), Some("ko-KR,ko;q=0.9,en;q=0.8"), Some("KO")] {
            assert_eq!(Language::of(korean), Language::Korean, "{korean:?}");
        }
        for english in ["en", "en-US,en;q=0.5", "de, ko;q=0.1"] {
            assert_eq!(Language::of(Some(english)), Language::English, "{english}");
        }
    }
}
