//! Why a socket ends, as a code that a browser can read (SPEC 4), and what it asks of the client.

use std::borrow::Cow;
use std::time::Duration;

/// The end of a socket. Codes below 4000 are the standard's, the others are PinTalk's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Close {
    /// 1000: the room was closed, or a normal end.
    Normal,
    /// 1002: not WebSocket as RFC 6455 has it.
    Protocol,
    /// 1007: a text frame that is not UTF-8.
    InvalidUtf8,
    /// 1009: a frame over the limit.
    TooLarge,
    /// 1012: this node is going away; nothing is lost.
    Restarting {
        /// When to come back.
        retry: Duration,
    },
    /// 1013: too slow, or the server cannot take it now; nothing acknowledged is lost.
    TryLater {
        /// When to come back.
        retry: Duration,
    },
    /// 4000: not of the agreed form.
    BadForm(&'static str),
    /// 4001: token invalid or expired, or the login was ended.
    Unauthenticated,
    /// 4003: an Origin that is not registered for that host, or somebody else's room.
    Forbidden,
    /// 4004: no such room or host, or it has been deleted.
    NotFound,
    /// 4009: the room is closed, or the host does not show his status.
    Unavailable,
    /// 4029: too many sockets of this address or in this room.
    TooMany,
}

impl Close {
    /// The code on the wire.
    pub fn code(self) -> u16 {
        match self {
            Close::Normal => 1000,
            Close::Protocol => 1002,
            Close::InvalidUtf8 => 1007,
            Close::TooLarge => 1009,
            Close::Restarting { .. } => 1012,
            Close::TryLater { .. } => 1013,
            Close::BadForm(_) => 4000,
            Close::Unauthenticated => 4001,
            Close::Forbidden => 4003,
            Close::NotFound => 4004,
            Close::Unavailable => 4009,
            Close::TooMany => 4029,
        }
    }

    /// The reason on the wire: for people, but for `retry in 1234 ms`, which clients read.
    pub fn reason(self) -> Cow<'static, str> {
        match self {
            Close::Normal => "".into(),
            Close::Protocol => "not a valid WebSocket frame".into(),
            Close::InvalidUtf8 => "text is not UTF-8".into(),
            Close::TooLarge => "frame too large".into(),
            Close::Restarting { retry } | Close::TryLater { retry } => {
                format!("retry in {} ms", retry.as_millis()).into()
            }
            Close::BadForm(why) => why.into(),
            Close::Unauthenticated => "token invalid, expired or ended".into(),
            Close::Forbidden => "not allowed here".into(),
            Close::NotFound => "no such room or host".into(),
            Close::Unavailable => "closed, or status switched off".into(),
            Close::TooMany => "too many sockets".into(),
        }
    }
}
