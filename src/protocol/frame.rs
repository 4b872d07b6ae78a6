//! Server side of WebSocket framing (RFC 6455): decodes bytes into events and encodes payloads into frames.
//!
//! The task of a socket reads bytes into a buffer that many sockets share, and passes them to the [`Decoder`] of the
//! socket. An outgoing frame is encoded once as [`Bytes`]. All sockets in a room share it.
//!
//! **Invariant:** this module performs no I/O, reads no clock and starts no task. Between two messages, a decoder owns
//! no heap memory.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha1::{Digest as _, Sha1};

mod decoder;

pub use decoder::Decoder;

/// Maximum length of the payload of a control frame, in bytes (RFC 6455, 5.5).
pub const MAX_CONTROL: usize = 125;
/// Maximum length of the reason in a close frame, in bytes. The payload of a close frame also contains the close code,
/// which has two bytes.
pub const MAX_REASON: usize = MAX_CONTROL - 2;

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// Event decoded from a client's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Complete text message. Its fragments have been joined.
    Text(String),
    /// Complete binary message. The decoder discards its payload, because the protocol has no binary messages.
    Binary,
    /// Ping with a payload of at most [`MAX_CONTROL`] bytes. The response is a [`pong`] with the same payload.
    Ping(Vec<u8>),
    /// Pong. The decoder discards its payload.
    Pong,
    /// Close frame. The decoder ignores all later bytes.
    Close {
        /// Close code, if the client sent one. The server may send every code that this field contains.
        code: Option<u16>,
    },
}

/// Error in the bytes of a client. After an error, the socket must be closed with [`FrameError::close_code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The message exceeds the size limit. The error is detected from the frame header, before the payload arrives.
    #[error("a message of {len} bytes, {limit} are allowed")]
    TooLarge {
        /// Total length that the headers of the message's frames have declared so far, in bytes.
        len: u64,
        /// Maximum size of a message, in bytes.
        limit: usize,
    },
    /// The client violated RFC 6455.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// The text of a message or the reason of a close frame is not UTF-8.
    #[error("text is not utf-8")]
    InvalidUtf8,
}

impl FrameError {
    /// Returns the close code for this error (RFC 6455, 7.4.1).
    pub fn close_code(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => 1009,
            Self::Protocol(_) => 1002,
            Self::InvalidUtf8 => 1007,
        }
    }
}

/// Encodes a text frame. `payload` must be UTF-8.
pub fn text(payload: &[u8]) -> Bytes {
    frame(TEXT, &[payload])
}

/// Encodes the concatenation of `parts` as one text frame. Each part is copied once.
pub fn text_from(parts: &[&[u8]]) -> Bytes {
    frame(TEXT, parts)
}

/// Encodes a close frame. A reason of more than [`MAX_REASON`] bytes is truncated at a character boundary.
pub fn close(code: u16, reason: &str) -> Bytes {
    let reason = &reason[..reason.floor_char_boundary(MAX_REASON)];
    frame(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()])
}

/// Encodes a ping frame. A payload of more than [`MAX_CONTROL`] bytes is truncated.
pub fn ping(payload: &[u8]) -> Bytes {
    frame(PING, &[&payload[..payload.len().min(MAX_CONTROL)]])
}

/// Encodes a pong frame, which is the response to [`Event::Ping`]. A payload of more than [`MAX_CONTROL`] bytes is
/// truncated.
pub fn pong(payload: &[u8]) -> Bytes {
    frame(PONG, &[&payload[..payload.len().min(MAX_CONTROL)]])
}

/// Returns the payload of a frame that this module has encoded. Returns an empty slice if `frame` is too short.
pub fn payload_of(frame: &[u8]) -> &[u8] {
    let header = match frame.get(1) {
        Some(127) => 10,
        Some(126) => 4,
        _ => 2,
    };
    frame.get(header..).unwrap_or_default()
}

/// Computes `Sec-WebSocket-Accept` from `Sec-WebSocket-Key` (RFC 6455, 4.2.2).
pub fn accept_key(sec_websocket_key: &str) -> String {
    const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let digest = Sha1::new().chain_update(sec_websocket_key).chain_update(GUID).finalize();
    STANDARD.encode(digest)
}

fn frame(opcode: u8, parts: &[&[u8]]) -> Bytes {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    // The exact capacity avoids a reallocation when the vector is converted to `Bytes`.
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
