//! Links in e-mails to guests: consent and unsubscribe. A link is signed, so that only the recipient of an e-mail has a
//! valid link. A link is also self-contained, so that any node can verify it without a lookup.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use migration::MAILBOX_DIGEST;
use sha2::{Digest as _, Sha256};

use crate::domain::{ChatroomId, HostId};
use crate::store::ConsentPair;

/// Purpose of a link. The purpose is part of the signed string, so that a link is valid for one purpose only.
#[derive(Clone, Copy)]
enum Purpose {
    /// Unsubscribing with a link of an earlier release. Such a link contains a room id and a digest of the address.
    UnsubscribeRoom,
    Unsubscribe,
    Consent,
}

impl Purpose {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::UnsubscribeRoom => b"pintalk unsubscribe 1\0",
            Self::Unsubscribe => b"pintalk unsubscribe 2\0",
            Self::Consent => b"pintalk consent 1\0",
        }
    }
}

/// Lengths in bytes of the row id, the digest, and the signature.
const ID: usize = 8;
const DIGEST: usize = MAILBOX_DIGEST;
const SIGNATURE: usize = 16;

/// Creates and verifies links with the token secrets: the first secret signs, and all secrets verify. Clones share the
/// secrets.
#[derive(Clone)]
pub struct MailLinks {
    public_url: Arc<str>,
    secrets: Arc<[Vec<u8>]>,
}

/// Subject of an unsubscribe link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsubscription {
    /// E-mail from one host to one mailbox.
    Pair(ConsentPair),
    /// A room and the address of its guest, in links of earlier releases.
    Room(OfRoom),
}

/// A room and a digest of its guest's e-mail address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfRoom {
    /// Row id of the room.
    pub room: ChatroomId,
    digest: [u8; DIGEST],
}

impl OfRoom {
    /// Returns whether the link was sent to `email`.
    pub fn is_for(&self, email: &str) -> bool {
        Sha256::digest(email)[..DIGEST] == self.digest
    }
}

impl MailLinks {
    /// Creates the links of a server at `public_url` (without a trailing slash). The first of `secrets` signs.
    pub fn new(public_url: &str, secrets: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { public_url: public_url.into(), secrets: secrets.into_iter().collect() }
    }

    /// Returns the link that withdraws consent, or `None` if there is no secret.
    pub fn unsubscribe(&self, pair: &ConsentPair) -> Option<String> {
        Some(format!("{}/unsubscribe/{}", self.public_url, self.token(Purpose::Unsubscribe, pair)?))
    }

    /// Returns the link to the page where consent is given, or `None` if there is no secret.
    pub fn consent(&self, pair: &ConsentPair) -> Option<String> {
        Some(format!("{}/consent/{}", self.public_url, self.token(Purpose::Consent, pair)?))
    }

    /// Verifies an unsubscribe token and returns its subject, or `None` if the signature is invalid.
    pub fn read_unsubscribe(&self, token: &str) -> Option<Unsubscription> {
        if let Some(pair) = self.pair(Purpose::Unsubscribe, token) {
            return Some(Unsubscription::Pair(pair));
        }
        let (id, digest) = self.read(Purpose::UnsubscribeRoom, token)?;
        Some(Unsubscription::Room(OfRoom { room: ChatroomId(id), digest }))
    }

    /// Verifies a consent token and returns its pair, or `None` if the signature is invalid.
    pub fn read_consent(&self, token: &str) -> Option<ConsentPair> {
        self.pair(Purpose::Consent, token)
    }

    fn pair(&self, purpose: Purpose, token: &str) -> Option<ConsentPair> {
        let (id, digest) = self.read(purpose, token)?;
        Some(ConsentPair { host: HostId(id), mailbox: URL_SAFE_NO_PAD.encode(digest) })
    }

    fn token(&self, purpose: Purpose, pair: &ConsentPair) -> Option<String> {
        let digest = URL_SAFE_NO_PAD.decode(&pair.mailbox).ok().filter(|digest| digest.len() == DIGEST)?;
        let mut token = pair.host.0.to_be_bytes().to_vec();
        token.extend_from_slice(&digest);
        let signature = sign(self.secrets.first()?, purpose, &token)?.finalize().into_bytes();
        token.extend_from_slice(&signature[..SIGNATURE]);
        Some(URL_SAFE_NO_PAD.encode(token))
    }

    fn read(&self, purpose: Purpose, token: &str) -> Option<(i64, [u8; DIGEST])> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok().filter(|bytes| bytes.len() == ID + DIGEST + SIGNATURE)?;
        let (signed, signature) = bytes.split_at_checked(ID + DIGEST)?;
        let is_signed = |secret: &Vec<u8>| {
            sign(secret, purpose, signed).is_some_and(|mac| mac.verify_truncated_left(signature).is_ok())
        };
        if !self.secrets.iter().any(is_signed) {
            return None;
        }
        let (id, digest) = signed.split_at_checked(ID)?;
        Some((i64::from_be_bytes(id.try_into().ok()?), digest.try_into().ok()?))
    }
}

fn sign(secret: &[u8], purpose: Purpose, signed: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(purpose.prefix());
    mac.update(signed);
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::mailbox_key;

    fn links(secrets: &[&str]) -> MailLinks {
        MailLinks::new("https://chat.example", secrets.iter().map(|secret| secret.as_bytes().to_vec()))
    }

    fn pair() -> ConsentPair {
        ConsentPair { host: HostId(42), mailbox: mailbox_key("guest@mail.example") }
    }

    fn token(link: &str) -> &str {
        link.rsplit_once('/').unwrap().1
    }

    #[test]
    fn links_are_valid_on_every_node_and_after_a_change_of_secrets() {
        let (unsubscribe, consent) =
            (links(&["old"]).unsubscribe(&pair()).unwrap(), links(&["old"]).consent(&pair()).unwrap());
        assert!(unsubscribe.starts_with("https://chat.example/unsubscribe/"), "{unsubscribe}");
        assert!(consent.starts_with("https://chat.example/consent/"), "{consent}");
        let both = links(&["new", "old"]);
        assert_eq!(both.read_unsubscribe(token(&unsubscribe)), Some(Unsubscription::Pair(pair())));
        assert_eq!(both.read_consent(token(&consent)), Some(pair()));
        assert_eq!(links(&["new"]).read_unsubscribe(token(&unsubscribe)), None);
        // A link is valid for its own purpose only.
        assert_eq!(both.read_consent(token(&unsubscribe)), None);
        assert_eq!(both.read_unsubscribe(token(&consent)), None);
    }

    #[test]
    fn link_of_earlier_release_refers_to_a_room() {
        let of_room = |secret: &[u8]| {
            let mut token = 7_i64.to_be_bytes().to_vec();
            token.extend_from_slice(&Sha256::digest("guest@mail.example")[..DIGEST]);
            let signature = sign(secret, Purpose::UnsubscribeRoom, &token).unwrap().finalize().into_bytes();
            token.extend_from_slice(&signature[..SIGNATURE]);
            URL_SAFE_NO_PAD.encode(token)
        };
        let read = links(&["secret"]).read_unsubscribe(&of_room(b"secret"));
        let Some(Unsubscription::Room(read)) = read else { panic!("{read:?}") };
        assert!(read.room == ChatroomId(7) && read.is_for("guest@mail.example") && !read.is_for("other@mail.example"));
        assert_eq!(links(&["secret"]).read_consent(&of_room(b"secret")), None);
        assert_eq!(links(&["secret"]).read_unsubscribe(&of_room(b"other")), None);
    }

    #[test]
    fn modified_link_is_invalid() {
        let links = links(&["secret"]);
        let link = links.consent(&pair()).unwrap();
        let whole = URL_SAFE_NO_PAD.decode(token(&link)).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert_eq!(links.read_consent(&URL_SAFE_NO_PAD.encode(&changed)), None);
            assert_eq!(links.read_consent(&URL_SAFE_NO_PAD.encode(&whole[..at])), None);
        }
        for nonsense in ["", "x", "%", "가", &"A".repeat(10_000)] {
            assert_eq!(links.read_consent(nonsense), None);
            assert_eq!(links.read_unsubscribe(nonsense), None);
        }
    }
}
