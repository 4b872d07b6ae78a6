//! Canonical form of a mailbox. Addresses with the same form count as one mailbox for consent and limits (SPEC 8).
//!
//! - The domain is lower case and in its ASCII form (IDN), without a final dot; `googlemail.com` becomes `gmail.com`.
//! - The local part is lower case, without the sub-address that starts at the first `+`. A local part that begins with
//!   `+` is kept whole.
//! - For Gmail, the dots of the local part are removed.
//!
//! E-mail is sent to the original address; only comparisons use this form. The code is in this crate because the
//! migration that introduces consent also needs it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// Length of a mailbox digest in bytes.
pub const MAILBOX_DIGEST: usize = 16;

/// Returns the canonical form of an address.
pub fn canonical_mailbox(address: &str) -> String {
    let address = address.trim();
    let Some((local, domain)) = address.rsplit_once('@') else { return address.to_lowercase() };
    let domain = domain.trim_end_matches('.');
    let domain = idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_lowercase());
    let local = local.to_lowercase();
    let local = match local.split_once('+') {
        Some((user, _)) if !user.is_empty() => user,
        _ => local.as_str(),
    };
    match domain.as_str() {
        "gmail.com" | "googlemail.com" => format!("{}@gmail.com", local.replace('.', "")),
        _ => format!("{local}@{domain}"),
    }
}

/// Returns the digest of an address's canonical form.
pub fn mailbox_digest(address: &str) -> [u8; MAILBOX_DIGEST] {
    let digest = Sha256::digest(canonical_mailbox(address));
    std::array::from_fn(|at| digest[at])
}

/// Returns the [`mailbox_digest`] in base64url (22 characters), as columns contain it. Tables whose rows are kept
/// longer than the e-mail store this key instead of the address.
pub fn mailbox_key(address: &str) -> String {
    URL_SAFE_NO_PAD.encode(mailbox_digest(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_mailbox_have_one_form() {
        for (address, canonical) in [
            ("Guest@Mail.Example", "guest@mail.example"),
            (" guest+shop@mail.example ", "guest@mail.example"),
            ("guest+a+b@mail.example.", "guest@mail.example"),
            ("g.u.e.s.t@mail.example", "g.u.e.s.t@mail.example"),
            ("G.u.est+x@GoogleMail.com", "guest@gmail.com"),
            ("guest@gmail.com", "guest@gmail.com"),
            ("guest@한국.example", "guest@xn--3e0b707e.example"),
            ("guest@XN--3E0B707E.example", "guest@xn--3e0b707e.example"),
            ("guest@ｍａｉｌ.example", "guest@mail.example"),
            ("+tag@mail.example", "+tag@mail.example"),
            ("ÄRGER@mail.example", "ärger@mail.example"),
        ] {
            assert_eq!(canonical_mailbox(address), canonical, "{address}");
            assert_eq!(canonical_mailbox(canonical), canonical);
        }
        assert_eq!(mailbox_key("Guest+1@mail.example"), mailbox_key("guest@mail.example"));
        assert_ne!(mailbox_key("guest@mail.example"), mailbox_key("guests@mail.example"));
        assert_eq!(mailbox_key("guest@mail.example").len(), 22);
    }
}
