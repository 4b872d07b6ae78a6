//! Identifiers. Each kind has a separate type, so the compiler rejects an identifier of the wrong kind.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Row id of a `user`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostId(pub i64);

/// Row id of a `chatroom`. It is never sent to guests. They identify a room by its [`RoomName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChatroomId(pub i64);

/// Sequence number of a message in its room. Numbers start at 1, increase, and are never reused (SPEC 4).
pub type Seq = u64;

/// Identifies a connection within this process. Ids are never reused, so a delayed disconnect cannot evict a different
/// connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Error for a string that is not an identifier of the requested kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid identifier")]
pub struct ParseIdError;

fn is_url_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// Defines a type for identifiers of 22 characters from `[A-Za-z0-9_-]`. The characters encode 128 random bits and are
/// stored inline.
macro_rules! token22 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 22]);

        impl $name {
            /// Length in characters.
            pub const LEN: usize = 22;

            /// Encodes 16 random bytes as base64url without padding.
            pub fn from_random(bytes: [u8; 16]) -> Self {
                use base64::Engine as _;
                let mut text = [0; 22];
                // The encoding of 16 bytes is exactly 22 characters long, so all of `text` is overwritten.
                let written = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
                debug_assert_eq!(written, Ok(Self::LEN));
                Self(text)
            }

            /// Returns the identifier as a string.
            pub fn as_str(&self) -> &str {
                // The constructors accept only ASCII, so the conversion never fails.
                std::str::from_utf8(&self.0).unwrap_or_default()
            }

            /// Returns the identifier as ASCII bytes.
            pub fn as_bytes(&self) -> &[u8; 22] {
                &self.0
            }

            /// Parses exactly 22 characters from `[A-Za-z0-9_-]`.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, ParseIdError> {
                let text: [u8; 22] = bytes.try_into().map_err(|_| ParseIdError)?;
                if text.iter().copied().all(is_url_safe) { Ok(Self(text)) } else { Err(ParseIdError) }
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Self::from_bytes(text.as_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

token22! {
    /// Public, unguessable name of a chatroom (SPEC 3).
    RoomName
}

token22! {
    /// Identifies an installation: one database and, in a cluster, its Redis. The id is created once and stored in the
    /// database.
    InstallationId
}

token22! {
    /// Public identifier of a host. Guests use it in the path of the status socket (SPEC 5).
    HostUuid
}

/// Id of a message, chosen by the client or assigned by the server. It has 1 to 64 characters from `[A-Za-z0-9_-]`
/// (SPEC 4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct MessageId(Box<str>);

impl MessageId {
    /// Maximum length of an id, in characters.
    pub const MAX_LEN: usize = 64;

    /// Returns the id as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Creates a server-assigned id from 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(RoomName::from_random(bytes).as_str().into())
    }
}

impl FromStr for MessageId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let fits = (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(is_url_safe);
        if fits { Ok(Self(text.into())) } else { Err(ParseIdError) }
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identifies one run of a server process: 22 random characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(HostUuid);

impl NodeId {
    /// Creates an id from 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(HostUuid::from_random(bytes))
    }

    /// Returns the id as a string.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_name_is_22_url_safe_characters() {
        let name = RoomName::from_random([0xff; 16]);
        assert_eq!(name.as_str(), "_____________________w");
        assert_eq!(name.as_str().parse(), Ok(name));
        for absurd in ["", "short", "has space in the name!", "twenty-three-characters", "열여섯글자이지만안됩니다"]
        {
            assert_eq!(absurd.parse::<RoomName>(), Err(ParseIdError), "{absurd}");
        }
    }

    #[test]
    fn a_message_id_has_1_to_64_safe_characters() {
        assert!("a".repeat(64).parse::<MessageId>().is_ok());
        assert!("a".repeat(65).parse::<MessageId>().is_err());
        assert!("".parse::<MessageId>().is_err());
        assert!("a:b".parse::<MessageId>().is_err());
    }
}
