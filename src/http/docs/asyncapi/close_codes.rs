//! Describes the close codes of the chat and status sockets.

use std::time::Duration;

use serde_json::{Value, json};

use crate::protocol::close::Close;

/// Returns every close code with its reason and its meaning.
pub(super) fn close_codes() -> Value {
    let retry = Duration::from_millis(1_234);
    let all = [
        Close::Normal,
        Close::Protocol,
        Close::InvalidUtf8,
        Close::TooLarge,
        Close::Restarting { retry },
        Close::TryLater { retry },
        Close::BadForm("not a frame of the agreed form"),
        Close::Unauthenticated,
        Close::Forbidden,
        Close::NotFound,
        Close::Unavailable,
        Close::TooMany,
    ];
    all.iter()
        .map(|close| json!({"code": close.code(), "reason": close.reason(), "meaning": meaning(*close)}))
        .collect()
}

fn meaning(close: Close) -> &'static str {
    match close {
        Close::Normal => "The room was closed, or a normal end.",
        Close::Protocol => "The client violated the WebSocket protocol.",
        Close::InvalidUtf8 => "A text frame is not UTF-8.",
        Close::TooLarge => "A frame exceeds 32 KiB, or the limit that the operator has set.",
        Close::Restarting { .. } => {
            "This node is shutting down: reconnect after the time in the reason. Nothing is lost."
        }
        Close::TryLater { .. } => {
            "The client is too slow, or the server is temporarily unable to serve it: reconnect after the time in the \
             reason. Nothing that was acknowledged is lost."
        }
        Close::BadForm(_) => "A frame does not have the agreed form, or is binary.",
        Close::Unauthenticated => "The token is invalid or expired, or the login has ended.",
        Close::Forbidden => {
            "The page is not on a registered domain, the room belongs to another host, or only the host may do this."
        }
        Close::NotFound => "No such room or host, or it has been deleted.",
        Close::Unavailable => {
            "For a host: the room is closed. For a guest: the host does not show their online status."
        }
        Close::TooMany => "Too many sockets from this address, or in this room.",
    }
}
