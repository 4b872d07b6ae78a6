//! Decoder: converts the bytes of a client, in chunks of any size, into [`Event`]s.

use std::mem::take;

use super::{BINARY, CLOSE, CONTINUATION, Event, FIN, FrameError, MAX_CONTROL, PING, PONG, TEXT};
use FrameError::{InvalidUtf8, Protocol, TooLarge};

/// Bits reserved for extensions. No extension is negotiated.
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
/// Maximum length of a header in bytes: two, plus eight for the payload length and four for the mask.
const MAX_HEADER: usize = 14;

/// Decodes the client's side of one WebSocket.
///
/// Buffers only the bytes of incomplete messages. Memory is not reserved based on the length in a header, so memory use
/// grows only with bytes that the client has sent.
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    end: End,
    /// Incomplete header.
    head: [u8; MAX_HEADER],
    head_len: u8,
    /// Frame whose payload is incomplete.
    frame: Option<PartialFrame>,
    /// Incomplete fragmented message. Control frames may arrive between its frames.
    message: Option<PartialMessage>,
    /// Text received so far.
    text: Vec<u8>,
    /// Payload of a ping or close frame received so far.
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
    /// Kind of the frame. For a continuation frame, the kind of the message that it continues.
    kind: FrameKind,
    fin: bool,
    /// Mask, rotated so that its first byte applies to the next payload byte.
    mask: [u8; 4],
    /// Number of payload bytes not yet received.
    left: usize,
}

#[derive(Debug, Clone, Copy)]
struct PartialMessage {
    kind: FrameKind,
    /// Length that the headers declare so far, in bytes.
    len: usize,
}

impl Decoder {
    /// Creates a decoder for a new socket. `max_message` limits the bytes of a message over all its fragments.
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

    /// Consumes bytes from the front of `input` until an event is complete. Returns `None` once `input` is consumed
    /// without a complete event.
    ///
    /// After [`Event::Close`], further bytes are discarded. After an error, every call returns the same error.
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
                // If the whole payload is available, this allocates once with the exact size, and the `String` reuses
                // the buffer.
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

    /// Returns the header of the next frame, or `None` while it is incomplete.
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
            // Lengths that use more bytes than necessary are accepted.
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

    /// Moves bytes into `head` until it contains `len` bytes. Returns whether it contains them.
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

    /// Returns the event that a frame with a complete payload completes, if any.
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
    // The codes 1004 to 1006 and 1015 are never sent, and 1016 to 2999 are unassigned.
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
    /// Returns the capacity of the buffers on the heap, in bytes.
    pub(super) fn held(&self) -> usize {
        self.text.capacity() + self.control.capacity()
    }
}
