//! Decoder for the bytes that a client sends.

use std::mem::take;

use super::{BINARY, CLOSE, CONTINUATION, Event, FIN, FrameError, MAX_CONTROL, PING, PONG, TEXT};
use FrameError::{InvalidUtf8, Protocol, TooLarge};

/// Bits that are reserved for extensions. The server negotiates no extensions, so these bits must be 0.
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
/// Maximum length of a frame header in bytes: two fixed bytes, eight bytes of extended length and a mask of four bytes.
const MAX_HEADER: usize = 14;

/// Converts the bytes that a client sends on one WebSocket into [`Event`]s. The bytes may arrive in chunks of any size.
///
/// The decoder buffers only bytes of incomplete messages. It does not reserve memory for the length that a header
/// declares. A client can therefore increase the memory use only by sending bytes.
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    end: End,
    /// Received bytes of an incomplete header.
    head: [u8; MAX_HEADER],
    head_len: u8,
    /// Frame whose payload is incomplete.
    frame: Option<PartialFrame>,
    /// Text or binary message that is incomplete. Control frames may arrive between the frames of the message.
    message: Option<PartialMessage>,
    /// Received bytes of an incomplete text message.
    text: Vec<u8>,
    /// Received payload of an incomplete ping or close frame.
    control: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Open,
    Closed,
    Failed(FrameError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    Text,
    Binary,
    Ping,
    Pong,
    Close,
}

#[derive(Debug, Clone, Copy)]
struct PartialFrame {
    /// Kind of the frame. A continuation frame has the kind of the message that it continues.
    kind: FrameKind,
    fin: bool,
    /// Mask of the frame. It is rotated so that its first byte applies to the next payload byte.
    mask: [u8; 4],
    /// Number of payload bytes that have not been received yet.
    left: usize,
}

#[derive(Debug, Clone, Copy)]
struct PartialMessage {
    kind: FrameKind,
    /// Length that the headers of the message's frames have declared so far, in bytes.
    len: usize,
}

impl Decoder {
    /// Creates a decoder for a new socket. `max_message` is the maximum size of a message in bytes. The size of a
    /// fragmented message is the total size of its fragments.
    pub fn new(max_message: usize) -> Self {
        Self {
            max_message,
            end: End::Open,
            head: [0; MAX_HEADER],
            head_len: 0,
            frame: None,
            message: None,
            text: Vec::new(),
            control: Vec::new(),
        }
    }

    /// Consumes bytes from the front of `input` until an event is complete, and returns the event. Returns `None` if
    /// `input` is consumed before an event is complete.
    ///
    /// After [`Event::Close`], the decoder discards all further bytes. After an error, every call returns the same
    /// error.
    ///
    /// ```
    /// # use pintalk::protocol::frame::{Decoder, Event, FrameError};
    /// # fn read(decoder: &mut Decoder, bytes: &[u8]) -> Result<(), FrameError> {
    /// let mut input = bytes;
    /// while let Some(event) = decoder.next_event(&mut input)? {
    ///     // …
    /// }
    /// # Ok(()) }
    /// ```
    pub fn next_event(&mut self, input: &mut &[u8]) -> Result<Option<Event>, FrameError> {
        match self.end {
            End::Open => {}
            End::Closed => {
                *input = &[];
                return Ok(None);
            }
            End::Failed(error) => return Err(error),
        }
        let outcome = self.advance(input);
        match outcome {
            Ok(Some(Event::Close { .. })) => self.end(End::Closed),
            Ok(_) => {}
            Err(error) => self.end(End::Failed(error)),
        }
        outcome
    }

    fn end(&mut self, end: End) {
        *self = Self { end, ..Self::new(self.max_message) };
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Event>, FrameError> {
        loop {
            let Some(mut frame) = self.frame.take().map_or_else(|| self.header(input), |frame| Ok(Some(frame)))? else {
                return Ok(None);
            };
            let payload = split_off_front(input, frame.left);
            match frame.kind {
                // If the whole payload is in `input`, this call allocates a buffer of exactly the required size.
                // `finish` converts the buffer to a `String` without copying it.
                FrameKind::Text => append_unmasked(&mut self.text, payload, frame.mask),
                FrameKind::Ping | FrameKind::Close => append_unmasked(&mut self.control, payload, frame.mask),
                FrameKind::Binary | FrameKind::Pong => {}
            }
            frame.left -= payload.len();
            if frame.left > 0 {
                frame.mask.rotate_left(payload.len() % 4);
                self.frame = Some(frame);
                return Ok(None);
            }
            if let Some(event) = self.finish(frame)? {
                return Ok(Some(event));
            }
        }
    }

    /// Returns the header of the next frame. Returns `None` if the header is incomplete.
    fn header(&mut self, input: &mut &[u8]) -> Result<Option<PartialFrame>, FrameError> {
        if !self.fill_head(2, input) {
            return Ok(None);
        }
        let (first, second) = (self.head[0], self.head[1]);
        if first & RESERVED != 0 {
            return Err(Protocol("reserved bits are set"));
        }
        if second & MASKED == 0 {
            return Err(Protocol("a client's frame must be masked"));
        }
        let extended = match second & !MASKED {
            127 => 8,
            126 => 2,
            _ => 0,
        };
        if !self.fill_head(2 + extended + 4, input) {
            return Ok(None);
        }
        self.head_len = 0;
        let len = match extended {
            0 => u64::from(second & !MASKED),
            // A length that is encoded in more bytes than necessary is accepted.
            _ => self.head[2..2 + extended].iter().fold(0, |len, &byte| len << 8 | u64::from(byte)),
        };
        if len >> 63 != 0 {
            return Err(Protocol("a length has 63 bits"));
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.head[2 + extended..2 + extended + 4]);
        let fin = first & FIN != 0;
        let (kind, left) = match first & 0x0F {
            CONTINUATION => match self.message {
                Some(message) => self.data(message, len)?,
                None => return Err(Protocol("nothing to continue")),
            },
            TEXT => self.first_data(FrameKind::Text, len)?,
            BINARY => self.first_data(FrameKind::Binary, len)?,
            CLOSE => control(FrameKind::Close, fin, len)?,
            PING => control(FrameKind::Ping, fin, len)?,
            PONG => control(FrameKind::Pong, fin, len)?,
            _ => return Err(Protocol("unknown opcode")),
        };
        Ok(Some(PartialFrame { kind, fin, mask, left }))
    }

    /// Moves bytes from `input` into `head` until `head` contains `len` bytes. Returns whether `head` contains `len`
    /// bytes.
    fn fill_head(&mut self, len: usize, input: &mut &[u8]) -> bool {
        let have = usize::from(self.head_len);
        let came = split_off_front(input, len.saturating_sub(have));
        self.head[have..have + came.len()].copy_from_slice(came);
        self.head_len += came.len() as u8;
        usize::from(self.head_len) >= len
    }

    fn first_data(&mut self, kind: FrameKind, len: u64) -> Result<(FrameKind, usize), FrameError> {
        match self.message {
            Some(_) => Err(Protocol("a message inside another")),
            None => self.data(PartialMessage { kind, len: 0 }, len),
        }
    }

    fn data(&mut self, message: PartialMessage, len: u64) -> Result<(FrameKind, usize), FrameError> {
        let limit = self.max_message;
        // The sum cannot overflow: `len` has at most 63 bits, and `message.len` is within the limit.
        let total = message.len as u64 + len;
        if total > limit as u64 {
            return Err(TooLarge { len: total, limit });
        }
        self.message = Some(PartialMessage { len: total as usize, ..message });
        Ok((message.kind, len as usize))
    }

    /// Returns the event that is complete with this frame. Returns `None` if the message continues in another frame.
    /// The payload of the frame must be complete.
    fn finish(&mut self, frame: PartialFrame) -> Result<Option<Event>, FrameError> {
        let event = match frame.kind {
            FrameKind::Text | FrameKind::Binary if !frame.fin => return Ok(None),
            FrameKind::Text => {
                self.message = None;
                Event::Text(String::from_utf8(take(&mut self.text)).map_err(|_| InvalidUtf8)?)
            }
            FrameKind::Binary => {
                self.message = None;
                Event::Binary
            }
            FrameKind::Ping => Event::Ping(take(&mut self.control)),
            FrameKind::Pong => Event::Pong,
            FrameKind::Close => Event::Close { code: close_code(&take(&mut self.control))? },
        };
        Ok(Some(event))
    }
}

fn control(kind: FrameKind, fin: bool, len: u64) -> Result<(FrameKind, usize), FrameError> {
    if !fin {
        return Err(Protocol("a control frame is not fragmented"));
    }
    if len > MAX_CONTROL as u64 {
        return Err(Protocol("a control frame has at most 125 bytes"));
    }
    Ok((kind, len as usize))
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, FrameError> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(Protocol("half a close code")),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    // The codes 1004 to 1006 and 1015 must not be sent in a frame. The codes 1016 to 2999 are unassigned.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Protocol("no such close code"));
    }
    std::str::from_utf8(reason).map_err(|_| InvalidUtf8)?;
    Ok(Some(code))
}

/// Removes up to `len` bytes from the front of `input` and returns them.
fn split_off_front<'a>(input: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (front, rest) = input.split_at(len.min(input.len()));
    *input = rest;
    front
}

fn append_unmasked(to: &mut Vec<u8>, payload: &[u8], mask: [u8; 4]) {
    let start = to.len();
    to.extend_from_slice(payload);
    let mask = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (words, tail) = to[start..].as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ mask).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(mask.to_ne_bytes()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
impl Decoder {
    /// Returns the total capacity of the decoder's heap buffers, in bytes.
    pub(super) fn held(&self) -> usize {
        self.text.capacity() + self.control.capacity()
    }
}
