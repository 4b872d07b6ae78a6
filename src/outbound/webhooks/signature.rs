//! Secrets and signatures of events, in the format of the "Standard Webhooks" specification. Existing libraries can
//! verify these signatures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::domain::Rng;

/// Prefix of secrets.
const PREFIX: &str = "whsec_";

/// Creates a secret of 32 random bytes.
pub(super) fn new_secret(rng: &Rng) -> String {
    format!("{PREFIX}{}", STANDARD.encode(rng.bytes::<32>()))
}

/// Signs a body sent with `id` at `timestamp` (seconds since 1970). Returns `None` if the secret has the wrong form.
fn signature(secret: &str, id: &str, timestamp: i64, body: &str) -> Option<String> {
    let key = STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body.as_bytes());
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// Returns the value of the signature header: one signature per secret. A replaced secret also signs until it expires.
pub(super) fn signatures<'a>(
    secrets: impl IntoIterator<Item = &'a str>,
    id: &str,
    timestamp: i64,
    body: &str,
) -> String {
    let all: Vec<String> = secrets.into_iter().filter_map(|secret| signature(secret, id, timestamp, body)).collect();
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_random_and_signs_id_timestamp_and_body() {
        let rng = Rng::from_seed(1);
        let (one, other) = (new_secret(&rng), new_secret(&rng));
        assert!(one != other && one.starts_with("whsec_") && one.len() == 6 + 44);
        let header = signatures([one.as_str(), other.as_str()], "evt_1", 1_700_000_000, "{}");
        let parts: Vec<&str> = header.split(' ').collect();
        assert!(parts.len() == 2 && parts[0] != parts[1] && parts.iter().all(|part| part.starts_with("v1,")));
        for (id, at, body) in
            [("evt_2", 1_700_000_000, "{}"), ("evt_1", 1_700_000_001, "{}"), ("evt_1", 1_700_000_000, "{ }")]
        {
            assert_ne!(signatures([one.as_str()], id, at, body), parts[0], "id, timestamp and body are signed");
        }
    }

    /// The expected signature was computed with `printf '%s' 'evt_1.1700000000.{"a":1}' | openssl dgst -sha256 -mac
    /// HMAC -macopt hexkey:… -binary | base64`. The key consists of the bytes 0 to 31.
    #[test]
    fn signature_matches_openssl() {
        let secret = format!("whsec_{}", STANDARD.encode((0..32).collect::<Vec<u8>>()));
        assert_eq!(
            signatures([secret.as_str()], "evt_1", 1_700_000_000, r#"{"a":1}"#),
            "v1,hUVxIYXs8Zy9GDiZD1uQbBwXoZGMAB6RVLdZZ3ffmek="
        );
    }
}
