//! WebSocket frames (RFC 6455), the server's side of them: bytes in, events out; payloads in, frames out.
//!
//! Whoever drives a socket reads into a buffer of his own, shared by many sockets, and hands what came to that
//! socket's [`Decoder`]. What is written is a [`Bytes`]: encoded once, handed to everybody in a room.
//!
//! **Invariant**: no I/O, no clock, no task is named here, and a decoder between two messages owns no heap memory.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha1::{Digest as _, Sha1};

mod decoder;

pub use decoder::Decoder;

/// The longest payload of a control frame, in bytes (RFC 6455, 5.5).
pub const MAX_CONTROL: usize = 125;
/// The longest reason of a close frame, in bytes: its code takes two.
pub const MAX_REASON: usize = MAX_CONTROL - 2;

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// What a client said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole text message, its fragments joined.
    Text(String),
    /// A whole binary message. Nobody reads those: the payload is dropped as it comes in.
    Binary,
    /// A ping; its payload, at most [`MAX_CONTROL`] bytes, belongs into the [`pong`].
    Ping(Vec<u8>),
    /// A pong, whatever is in it.
    Pong,
    /// The client closes. Whatever comes after is ignored.
    Close {
        /// The code, when the client gave one; always one that may be echoed.
        code: Option<u16>,
    },
}

/// Why a client's bytes cannot be read on. Final: the socket is to be closed with [`FrameError::close_code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The message would be longer than allowed. Known from the frame's header, before its payload came.
    #[error("a message of {len} bytes, {limit} are allowed")]
    TooLarge {
        /// Bytes of the message as far as announced.
        len: u64,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not WebSocket as a client may speak it.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// A text message, or the reason of a close, is not UTF-8.
    #[error("text is not utf-8")]
    InvalidUtf8,
}

impl FrameError {
    /// The close code that tells the client (RFC 6455, 7.4.1).
    pub fn close_code(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => 1009,
            Self::Protocol(_) => 1002,
            Self::InvalidUtf8 => 1007,
        }
    }
}

/// A text frame around `payload`, which must be UTF-8.
pub fn text(payload: &[u8]) -> Bytes {
    frame(TEXT, &[payload])
}

/// One text frame around all `parts` put together, copied once.
pub fn text_from(parts: &[&[u8]]) -> Bytes {
    frame(TEXT, parts)
}

/// A close frame; a reason over [`MAX_REASON`] bytes is cut between two characters.
pub fn close(code: u16, reason: &str) -> Bytes {
    let reason = &reason[..reason.floor_char_boundary(MAX_REASON)];
    frame(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()])
}

/// A ping frame; of the payload at most [`MAX_CONTROL`] bytes.
pub fn ping(payload: &[u8]) -> Bytes {
    frame(PING, &[&payload[..payload.len().min(MAX_CONTROL)]])
}

/// A pong frame, the answer to [`Event::Ping`]; of the payload at most [`MAX_CONTROL`] bytes.
pub fn pong(payload: &[u8]) -> Bytes {
    frame(PONG, &[&payload[..payload.len().min(MAX_CONTROL)]])
}

/// What is inside a frame that this module encoded; empty when it is none.
pub fn payload_of(frame: &[u8]) -> &[u8] {
    let header = match frame.get(1) {
        Some(127) => 10,
        Some(126) => 4,
        _ => 2,
    };
    frame.get(header..).unwrap_or_default()
}

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455, 4.2.2).
pub fn accept_key(sec_websocket_key: &str) -> String {
    const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let digest = Sha1::new().chain_update(sec_websocket_key).chain_update(GUID).finalize();
    STANDARD.encode(digest)
}

fn frame(opcode: u8, parts: &[&[u8]]) -> Bytes {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    // Of exactly the size, so that turning it into `Bytes` neither moves nor allocates.
    let mut frame = Vec::with_capacity(
        len + if len < 126 {
            2
        } else if len < 65_536 {
            4
        } else {
            10
        },
    );
    frame.push(FIN | opcode);
    match len {
        0..126 => frame.push(len as u8),
        126..65_536 => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    for part in parts {
        frame.extend_from_slice(part);
    }
    Bytes::from(frame)
}

#[cfg(test)]
mod tests;
