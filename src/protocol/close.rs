//! Close codes of sockets (SPEC 4).

use std::borrow::Cow;
use std::time::Duration;

/// Reason for closing a socket. RFC 6455 defines the codes below 4000, and PinTalk defines the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Close {
    /// 1000: the room was closed, or the socket was closed for no special reason.
    Normal,
    /// 1002: the client violated RFC 6455.
    Protocol,
    /// 1007: a text message or the reason of a close frame was not UTF-8.
    InvalidUtf8,
    /// 1009: a message exceeded the size limit.
    TooLarge,
    /// 1012: this node is shutting down. No acknowledged message is lost.
    Restarting {
        /// Delay before the client reconnects.
        retry: Duration,
    },
    /// 1013: the client is too slow, or the server temporarily cannot serve it. No acknowledged message is lost.
    TryLater {
        /// Delay before the client reconnects.
        retry: Duration,
    },
    /// 4000: a frame did not have the required format. The field contains the close reason.
    BadForm(&'static str),
    /// 4001: the token is invalid or has expired, the login session has ended, or the account was deactivated.
    Unauthenticated,
    /// 4003: the `Origin` does not match the host's registered domains, the room belongs to another host, or a guest
    /// tried to close the room.
    Forbidden,
    /// 4004: the room or the host does not exist or was deleted, or the status socket belongs to another host.
    NotFound,
    /// 4009: the room is closed, or the host does not show their online status.
    Unavailable,
    /// 4029: too many sockets are open from this address or in this room.
    TooMany,
}

impl Close {
    /// Returns the close code to send.
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

    /// Returns the close reason to send. Clients parse a reason of the form `retry in 1234 ms`. All other reasons are
    /// only informational.
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
