//! WebSocket frames (RFC 6455) as a client writes and reads them. Written frames are masked.
//!
//! **Invariant**: frames are passed on without being copied, except in a read that continues an incomplete frame. Only
//! incomplete frames are buffered.

/// Mask of all frames. It may be constant, because masking only protects faulty intermediaries, and these connections
/// have no intermediary.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
/// Maximum payload of a received frame in bytes. A larger frame is a protocol violation.
const MAX_PAYLOAD: u64 = 16 * 1024 * 1024;

const FIN: u8 = 0x80;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// Frame that was received from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Text(&'a [u8]),
    /// Ping with the payload that [`pong`] must return.
    Ping(&'a [u8]),
    Pong,
    /// Close code. It is 1005 if the frame contains no code.
    Close(u16),
}

/// Violation of the WebSocket protocol by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("WebSocket protocol violation by the server: {0}")]
pub(crate) struct Violation(pub(crate) &'static str);

/// Returns a masked text frame and the offset of its payload.
pub(crate) fn text(payload: &[u8]) -> (Vec<u8>, usize) {
    client_frame(TEXT, payload)
}

pub(crate) fn ping() -> Vec<u8> {
    client_frame(PING, b"").0
}

pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    client_frame(PONG, payload).0
}

pub(crate) fn close(code: u16) -> Vec<u8> {
    client_frame(CLOSE, &code.to_be_bytes()).0
}

/// Overwrites payload bytes of a frame from this module. `payload_at` is the offset of the payload in the frame, and
/// `at` is the offset in the payload.
pub(crate) fn patch(frame: &mut [u8], payload_at: usize, at: usize, bytes: &[u8]) {
    for (offset, (to, byte)) in frame[payload_at + at..].iter_mut().zip(bytes).enumerate() {
        *to = byte ^ MASK[(at + offset) % 4];
    }
}

fn client_frame(opcode: u8, payload: &[u8]) -> (Vec<u8>, usize) {
    let mut frame = vec![FIN | opcode];
    match payload.len() {
        len @ ..=125 => frame.push(0x80 | len as u8),
        len @ ..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    let payload_at = frame.len();
    frame.resize(payload_at + payload.len(), 0);
    patch(&mut frame, payload_at, 0, payload);
    (frame, payload_at)
}

/// Decoder for the frames of one connection. It holds no heap memory between complete frames.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// First part of a frame that is not complete yet.
    cut: Vec<u8>,
}

impl Decoder {
    /// Decodes received bytes and passes each complete frame to `receive`, in order.
    pub(crate) fn read(&mut self, input: &[u8], mut receive: impl FnMut(Frame<'_>)) -> Result<(), Violation> {
        if self.cut.is_empty() {
            let rest = read_whole_frames(input, &mut receive)?;
            self.cut.extend_from_slice(rest);
            return Ok(());
        }
        let mut joined = std::mem::take(&mut self.cut);
        joined.extend_from_slice(input);
        let rest = read_whole_frames(&joined, &mut receive)?.len();
        if rest > 0 {
            joined.drain(..joined.len() - rest);
            self.cut = joined;
        }
        Ok(())
    }
}

/// Decodes all complete frames and returns the remaining bytes.
fn read_whole_frames<'a>(mut input: &'a [u8], receive: &mut impl FnMut(Frame<'_>)) -> Result<&'a [u8], Violation> {
    while let Some((opcode, header, len)) = read_header(input)? {
        let Some(payload) = input.get(header..header + len) else { break };
        match opcode {
            TEXT => receive(Frame::Text(payload)),
            PING => receive(Frame::Ping(payload)),
            PONG => receive(Frame::Pong),
            CLOSE => receive(Frame::Close(match payload {
                [high, low, ..] => u16::from_be_bytes([*high, *low]),
                _ => 1005,
            })),
            _ => return Err(Violation("neither a text frame nor a control frame")),
        }
        input = &input[header + len..];
    }
    Ok(input)
}

/// Returns opcode, header length and payload length. Returns `None` if the header is incomplete.
fn read_header(input: &[u8]) -> Result<Option<(u8, usize, usize)>, Violation> {
    let &[first, second, ..] = input else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(Violation("reserved bits are set"));
    }
    if first & FIN == 0 {
        return Err(Violation("fragmented message"));
    }
    if second & 0x80 != 0 {
        return Err(Violation("masked frame"));
    }
    let (header, len) = match second {
        126 => (4, input.get(2..4).map(big_endian)),
        127 => (10, input.get(2..10).map(big_endian)),
        len => (2, Some(u64::from(len))),
    };
    match len {
        None => Ok(None),
        Some(len) if len > MAX_PAYLOAD => Err(Violation("frame above 16 MiB")),
        Some(len) => Ok(Some((first & 0x0F, header, len as usize))),
    }
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![FIN | opcode];
        match payload.len() {
            len @ ..=125 => frame.push(len as u8),
            len @ ..=0xFFFF => {
                frame.push(126);
                frame.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                frame.push(127);
                frame.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    fn unmask(frame: &[u8], payload_at: usize) -> Vec<u8> {
        let mask = &frame[payload_at - 4..payload_at];
        frame[payload_at..].iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect()
    }

    #[test]
    fn client_frames_are_masked_and_contain_their_length() {
        for (len, header) in [(0, 6), (125, 6), (126, 8), (65_535, 8), (65_536, 14)] {
            let payload = vec![b'x'; len];
            let (frame, payload_at) = text(&payload);
            assert_eq!((frame[0], frame[1] & 0x80, payload_at), (0x81, 0x80, header), "{len}");
            assert_eq!(unmask(&frame, payload_at), payload);
        }
    }

    #[test]
    fn patched_frame_decodes_to_the_patched_text() {
        let (mut frame, payload_at) = text(b"number 0000 of many");
        patch(&mut frame, payload_at, 7, b"1234");
        assert_eq!(unmask(&frame, payload_at), b"number 1234 of many");
    }

    #[test]
    fn frames_split_at_any_byte_are_decoded() {
        let stream = [
            server_frame(TEXT, b"one"),
            server_frame(PING, b"?"),
            server_frame(TEXT, &[b'x'; 300]),
            server_frame(TEXT, &vec![b'y'; 70_000]),
            server_frame(PONG, b""),
            server_frame(CLOSE, &[0x0F, 0xA3, b'n', b'o']),
        ]
        .concat();
        for step in [1, 2, 3, 7, 1000, stream.len()] {
            let mut decoder = Decoder::default();
            let mut events = Vec::new();
            for piece in stream.chunks(step) {
                decoder
                    .read(piece, |frame| {
                        events.push(match frame {
                            Frame::Text(text) => format!("text {}", text.len()),
                            other => format!("{other:?}"),
                        });
                    })
                    .unwrap();
            }
            assert_eq!(events, ["text 3", "Ping([63])", "text 300", "text 70000", "Pong", "Close(4003)"], "{step}");
            assert_eq!(decoder.cut.capacity(), 0);
        }
    }

    #[test]
    fn close_without_a_code_is_1005() {
        Decoder::default().read(&server_frame(CLOSE, b""), |frame| assert_eq!(frame, Frame::Close(1005))).unwrap();
    }

    #[test]
    fn protocol_violations_are_reported() {
        for bytes in
            [&[0x01, 0x00][..], &[0x81, 0x80], &[0xC1, 0x00], &[0x82, 0x00], &[0x81, 127, 1, 0, 0, 0, 0, 0, 0, 0]]
        {
            assert!(Decoder::default().read(bytes, |_| ()).is_err(), "{bytes:?}");
        }
    }
}
