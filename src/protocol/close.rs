//! Close codes of sockets (SPEC 4), and how clients must respond to them.

use std::borrow::Cow;
use std::time::Duration;

/// Reason for closing a socket. Codes below 4000 are defined by RFC 6455, the others by PinTalk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Close {
    /// 1000: the room was closed, or the socket ended normally.
    Normal,
    /// 1002: the client violated RFC 6455.
    Protocol,
    /// 1007: a text frame was not UTF-8.
    InvalidUtf8,
    /// 1009: a frame exceeded the limit.
    TooLarge,
    /// 1012: this node is shutting down. No message is lost.
    Restarting {
        /// Delay after which the client reconnects.
        retry: Duration,
    },
    /// 1013: the client is too slow, or the server is temporarily unable to serve it. No acknowledged message is lost.
    TryLater {
        /// Delay after which the client reconnects.
        retry: Duration,
    },
    /// 4000: a frame did not have the required form. The value is the close reason.
    BadForm(&'static str),
    /// 4001: the token is invalid or expired, or the login was ended.
    Unauthenticated,
    /// 4003: the `Origin` is not registered for the host, or the room belongs to another host.
    Forbidden,
    /// 4004: the room or the host does not exist, or the room was deleted.
    NotFound,
    /// 4009: the room is closed, or the host does not show their online status.
    Unavailable,
    /// 4029: too many sockets are open from this address or in this room.
    TooMany,
}

impl Close {
    /// Returns the code on the wire.
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

    /// Returns the reason on the wire. Clients parse `retry in 1234 ms`; other reasons are informational.
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
