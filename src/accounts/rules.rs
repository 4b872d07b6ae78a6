//! Validation of account fields.

use lettre::Address;

use super::NewAccount;
use crate::domain::normalize_domains;
use crate::protocol::api::FieldErrors;

/// Maximum length of an e-mail address in characters (RFC 5321).
pub(super) const MAX_EMAIL_LEN: usize = 254;

/// Minimum length of a password in characters (SPEC 2).
pub(super) const MIN_PASSWORD_CHARS: usize = 8;

/// Maximum length of a password in bytes. The limit is far above practical lengths and bounds the time of Argon2, which
/// processes the whole password.
pub(super) const MAX_PASSWORD_LEN: usize = 1024;

/// Error messages for an invalid single-line string and an invalid multi-line string.
pub(super) const NO_LINE: &str = "must not contain line breaks or control characters";
pub(super) const NO_PROSE: &str = "must not contain control characters";

/// Validates a new account. Returns its normalised domains, or `None` if it has none.
pub(super) fn check(account: &NewAccount) -> Result<Option<String>, FieldErrors> {
    let mut errors = FieldErrors::new();
    let mut rule = |holds: bool, field: &'static str, why: &str| {
        if !holds {
            errors.insert(field, why.to_owned());
        }
    };
    let chars = |text: &str| text.trim().chars().count();
    rule(is_email(account.email.trim()), "email", "is not an e-mail address");
    rule(account.password.chars().count() >= MIN_PASSWORD_CHARS, "password", "needs at least 8 characters");
    rule(account.password.len() <= MAX_PASSWORD_LEN, "password", "is too long");
    rule((1..=50).contains(&chars(&account.service_name)), "serviceName", "needs 1 to 50 characters");
    rule(is_a_line(&account.service_name), "serviceName", NO_LINE);
    rule(chars(&account.service_expl) <= 200, "serviceExpl", "may have at most 200 characters");
    rule(is_prose(&account.service_expl), "serviceExpl", NO_PROSE);
    let domains = normalize_domains(account.service_domain.as_deref().unwrap_or_default());
    if let Err(error) = &domains {
        rule(false, "serviceDomain", &error.to_string());
    }
    match domains {
        Ok(domains) if errors.is_empty() => Ok(domains),
        _ => Err(errors),
    }
}

/// Returns whether a string is a single line that contains neither control characters nor bidirectional control
/// characters. Names must satisfy this condition, because they appear in e-mails, file names and lists.
pub(super) fn is_a_line(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() || is_override(c) || crate::domain::text::is_line_break(c))
}

/// Returns whether a string contains no control characters except tabs and line breaks. Bidirectional control
/// characters are not permitted.
pub(super) fn is_prose(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() && !"\n\r\t".contains(c) || is_override(c))
}

/// Returns whether a character is a bidirectional control character. Such a character can make a string look different
/// from its content.
fn is_override(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns whether a string has the form of an e-mail address. Only a delivered e-mail proves that the address exists.
pub(crate) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let plain =
        |part: &str| !part.contains(|c: char| c.is_whitespace() || c.is_control() || "@,;<>\"()[]\\".contains(c));
    text.chars().count() <= MAX_EMAIL_LEN
        && (1..=64).contains(&local.len())
        && plain(local)
        && plain(domain)
        && domain.split('.').all(|label| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-'))
        // This check rejects addresses that cannot be used as a recipient.
        && idna::domain_to_ascii(domain).is_ok_and(|domain| Address::new(local, &domain).is_ok())
}
