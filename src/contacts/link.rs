//! The link that ends mails: signed, so that nobody ends another's, and complete in itself, so that any node reads it without
//! looking anything up.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::domain::ChatroomId;

/// What is signed is for nothing else that these secrets sign.
const PURPOSE: &[u8] = b"pintalk unsubscribe 1\0";

/// Bytes of the room, of the address's digest, and of the signature.
const ROOM: usize = 8;
const DIGEST: usize = 16;
const SIGNATURE: usize = 16;

/// Makes and reads links, under the secrets of the tokens: the first signs, each verifies.
#[derive(Clone)]
pub struct UnsubscribeLinks {
    public_url: Arc<str>,
    secrets: Arc<[Vec<u8>]>,
}

/// What a link asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscription {
    /// The room.
    pub room: ChatroomId,
    digest: [u8; DIGEST],
}

impl Unsubscription {
    /// Whether it was mailed to this address.
    pub fn is_of(&self, email: &str) -> bool {
        digest(email) == self.digest
    }
}

impl UnsubscribeLinks {
    /// Under `secrets`, on a server that is reached at `public_url` (no slash at its end).
    pub fn new(public_url: &str, secrets: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { public_url: public_url.into(), secrets: secrets.into_iter().collect() }
    }

    /// The link that ends mails to an address about a room. `None` without a secret.
    pub fn link(&self, room: ChatroomId, email: &str) -> Option<String> {
        let mut token = room.0.to_be_bytes().to_vec();
        token.extend_from_slice(&digest(email));
        let signature = sign(self.secrets.first()?, &token)?.finalize().into_bytes();
        token.extend_from_slice(&signature[..SIGNATURE]);
        Some(format!("{}/unsubscribe/{}", self.public_url, URL_SAFE_NO_PAD.encode(token)))
    }

    /// What a token asks for; `None` if it is none of ours.
    pub fn read(&self, token: &str) -> Option<Unsubscription> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok().filter(|bytes| bytes.len() == ROOM + DIGEST + SIGNATURE)?;
        let (signed, signature) = bytes.split_at_checked(ROOM + DIGEST)?;
        let is_ours =
            |secret: &Vec<u8>| sign(secret, signed).is_some_and(|mac| mac.verify_truncated_left(signature).is_ok());
        if !self.secrets.iter().any(is_ours) {
            return None;
        }
        let (room, digest) = signed.split_at_checked(ROOM)?;
        Some(Unsubscription {
            room: ChatroomId(i64::from_be_bytes(room.try_into().ok()?)),
            digest: digest.try_into().ok()?,
        })
    }
}

fn sign(secret: &[u8], signed: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(PURPOSE);
    mac.update(signed);
    Some(mac)
}

fn digest(email: &str) -> [u8; DIGEST] {
    let mut digest = [0; DIGEST];
    digest.copy_from_slice(&Sha256::digest(email)[..DIGEST]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(secrets: &[&str]) -> UnsubscribeLinks {
        UnsubscribeLinks::new("https://chat.example", secrets.iter().map(|secret| secret.as_bytes().to_vec()))
    }

    fn token(link: &str) -> &str {
        link.strip_prefix("https://chat.example/unsubscribe/").unwrap()
    }

    #[test]
    fn a_link_says_on_every_node_which_room_and_whose_address_also_after_a_change_of_secrets() {
        let link = links(&["old"]).link(ChatroomId(42), "guest@mail.example").unwrap();
        let read = links(&["new", "old"]).read(token(&link)).unwrap();
        assert_eq!(read.room, ChatroomId(42));
        assert!(read.is_of("guest@mail.example") && !read.is_of("other@mail.example"));
        assert_eq!(links(&["new"]).read(token(&link)), None);
    }

    #[test]
    fn a_link_that_anybody_changed_is_none() {
        let links = links(&["secret"]);
        let link = links.link(ChatroomId(42), "guest@mail.example").unwrap();
        let whole = URL_SAFE_NO_PAD.decode(token(&link)).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert_eq!(links.read(&URL_SAFE_NO_PAD.encode(&changed)), None);
            assert_eq!(links.read(&URL_SAFE_NO_PAD.encode(&whole[..at])), None);
        }
        for nonsense in ["", "x", "%", "가", &"A".repeat(10_000)] {
            assert_eq!(links.read(nonsense), None);
        }
    }
}
