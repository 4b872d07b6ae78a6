//! Bounded queue of frames waiting for one socket.
//!
//! **Invariants:** messages and responses (`frames`) are written in order and none is skipped. If a frame does not fit,
//! the queue overflows and the socket is closed. Notices are written after all frames and are dropped to make space for
//! frames.

use std::collections::VecDeque;

use bytes::Bytes;

use super::notices::{Notices, Topic};
use crate::chat::metrics::OutboxMetrics;

/// Maximum number of frames in an outbox. If it is exceeded, the socket is closed with 1013, and the client reconnects
/// and resumes.
pub const OUTBOX_FRAMES: usize = 256;

/// Maximum bytes in an outbox.
pub const OUTBOX_BYTES: usize = 256 * 1024;

/// Error: a frame did not fit into the queue. The queue was emptied.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overflow;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: VecDeque<Bytes>,
    /// Total size of `frames`, in bytes.
    bytes: usize,
    notices: Notices,
    /// Number of bytes that the last call to [`take`](Self::take) moved. They count as waiting until the next call.
    taken: usize,
}

impl Outbox {
    /// Queues a frame. An empty queue accepts a frame of any size, because a page of history may exceed the limit.
    pub(super) fn push(&mut self, framed: Bytes, metrics: &OutboxMetrics) -> Result<(), Overflow> {
        if self.make_space(framed.len(), metrics) || self.frames.is_empty() {
            self.bytes += framed.len();
            self.frames.push_back(framed);
            return Ok(());
        }
        metrics.slow_closes.increment(1);
        self.frames = VecDeque::new();
        self.bytes = 0;
        Err(Overflow)
    }

    /// Queues a notice and removes a waiting notice of the same topic. If the queue is full, notices are dropped,
    /// oldest first, and counted.
    pub(super) fn push_notice(&mut self, topic: Topic, framed: Bytes, metrics: &OutboxMetrics) {
        self.notices.remove(topic);
        if self.make_space(framed.len(), metrics) {
            self.notices.push(topic, framed);
        } else {
            metrics.notices_skipped.increment(1);
        }
    }

    /// Moves frames to `into` until they total at least `most` bytes or the queue is empty. Returns whether the queue
    /// is now empty.
    pub(super) fn take(&mut self, into: &mut VecDeque<Bytes>, most: usize) -> bool {
        self.taken = 0;
        while self.taken < most {
            let Some(frame) = self.next_frame() else { break };
            self.taken += frame.len();
            into.push_back(frame);
        }
        let is_empty = self.frames.is_empty() && self.notices.len() == 0;
        if is_empty {
            self.frames = VecDeque::new();
        }
        is_empty
    }

    /// Returns the number of bytes that wait for the socket, including frames that its task is writing.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.bytes + self.notices.bytes() + self.taken
    }

    /// Returns whether the queue has capacity for a page of messages. This is the case if only notices wait and no
    /// taken frame is being written.
    pub(super) fn has_capacity(&self) -> bool {
        self.frames.is_empty() && self.taken == 0
    }

    fn next_frame(&mut self) -> Option<Bytes> {
        let Some(frame) = self.frames.pop_front() else { return self.notices.pop() };
        self.bytes -= frame.len();
        Some(frame)
    }

    /// Returns whether `bytes` more bytes are within the limits. Drops waiting notices to make space, oldest first.
    fn make_space(&mut self, bytes: usize, metrics: &OutboxMetrics) -> bool {
        loop {
            let frames = self.frames.len() + self.notices.len();
            if frames < OUTBOX_FRAMES && self.waiting_bytes() + bytes <= OUTBOX_BYTES {
                return true;
            }
            if self.notices.pop().is_none() {
                return false;
            }
            metrics.notices_skipped.increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> Bytes {
        Bytes::from(vec![b'a'; bytes])
    }

    #[test]
    fn a_single_frame_may_exceed_the_limit_and_a_second_overflows() {
        let (mut outbox, metrics) = (Outbox::default(), OutboxMetrics::default());
        assert_eq!(outbox.push(frame(OUTBOX_BYTES + 1), &metrics), Ok(()));
        assert_eq!(outbox.push(frame(1), &metrics), Err(Overflow));
        assert_eq!((outbox.waiting_bytes(), outbox.has_capacity()), (0, true));
    }

    #[test]
    fn notices_are_taken_after_frames_queued_later() {
        let (mut outbox, mut taken, metrics) = (Outbox::default(), VecDeque::new(), OutboxMetrics::default());
        outbox.push_notice(Topic::HostStatus, frame(1), &metrics);
        outbox.push(frame(2), &metrics).unwrap();
        assert!(!outbox.take(&mut taken, 1));
        assert!(outbox.take(&mut taken, 2));
        assert_eq!(taken, [frame(2), frame(1)]);
    }

    #[test]
    fn taken_frames_count_until_the_next_take() {
        let (mut outbox, mut taken, metrics) = (Outbox::default(), VecDeque::new(), OutboxMetrics::default());
        outbox.push(frame(10), &metrics).unwrap();
        assert!(outbox.take(&mut taken, 1));
        assert_eq!((outbox.waiting_bytes(), outbox.has_capacity()), (10, false));
        assert!(outbox.take(&mut taken, 1));
        assert_eq!((outbox.waiting_bytes(), outbox.has_capacity()), (0, true));
    }
}
