//! Verifies that every message arrives in its room, exactly once and in order.
//!
//! Each writer numbers its messages 1, 2, 3 and so on, and each receiver tracks the numbers of each writer. Gaps,
//! duplicates and reordering are detected on arrival. Lost messages are counted at the end of the run.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::message::{MessageId, Run};

/// Number of sides of a room, which are the guest and the host.
pub(crate) const SIDES: usize = 2;

/// Number of violations, summed over all receivers. In a correct run, every field is zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// Messages that a receiver with an open socket did not receive.
    pub(crate) lost: u64,
    /// Messages that the same receiver received more than once.
    pub(crate) doubled: u64,
    /// Messages that were received after a later message of the same writer.
    pub(crate) reordered: u64,
    /// Messages that were received in a room other than the one they were sent to, or whose id is not of this run.
    pub(crate) misrouted: u64,
    /// Messages whose `seq` is not higher than every `seq` that the receiver has received before.
    pub(crate) unsequenced: u64,
}

impl Verdict {
    pub(crate) fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.misrouted += other.misrouted;
        self.unsequenced += other.unsequenced;
    }
}

/// Message numbers of one writer, as received by one receiver.
#[derive(Debug, Clone, Default)]
struct Stream {
    /// Highest number that was received.
    highest: u32,
    /// Numbers below `highest` that have not been received.
    missing: BTreeSet<u32>,
}

impl Stream {
    /// Records a message number. Returns whether it has not been received before.
    fn receive(&mut self, number: u32, verdict: &mut Verdict) -> bool {
        if number > self.highest {
            self.missing.extend(self.highest + 1..number);
            self.highest = number;
            true
        } else if self.missing.remove(&number) {
            verdict.reordered += 1;
            true
        } else {
            verdict.doubled += 1;
            false
        }
    }

    /// Returns how many of the numbers from 1 to `sent` have not been received.
    fn lost(&self, sent: u32) -> u64 {
        u64::from(sent.saturating_sub(self.highest)) + self.missing.range(..=sent).count() as u64
    }
}

/// Messages that one socket has received.
#[derive(Debug)]
pub(crate) struct Receiver {
    run: Run,
    room: u32,
    streams: [Stream; SIDES],
    seq: u64,
}

impl Receiver {
    pub(crate) fn new(run: Run, room: u32) -> Self {
        Self { run, room, streams: Default::default(), seq: 0 }
    }

    /// Records a message. Returns its id if it belongs to this room and has not been received before.
    pub(crate) fn receive(
        &mut self,
        id: Option<MessageId>,
        seq: Option<u64>,
        verdict: &mut Verdict,
    ) -> Option<MessageId> {
        let ours = id.filter(|id| (id.run, id.room) == (self.run, self.room));
        let Some((id, stream)) = ours.and_then(|id| Some((id, self.streams.get_mut(usize::from(id.side))?))) else {
            verdict.misrouted += 1;
            return None;
        };
        let new = stream.receive(id.number, verdict);
        // A duplicate has the `seq` of the original message, so only new messages are checked.
        if new && seq.is_some_and(|seq| seq <= self.seq) {
            verdict.unsequenced += 1;
        }
        self.seq = self.seq.max(seq.unwrap_or_default());
        new.then_some(id)
    }

    /// Returns the highest message number that was received from a side.
    pub(crate) fn highest(&self, side: u8) -> u32 {
        self.streams.get(usize::from(side)).map_or(0, |stream| stream.highest)
    }

    /// Returns the number of lost messages. `sent` is the number of messages that each side has sent.
    pub(crate) fn lost(&self, sent: [u32; SIDES]) -> u64 {
        self.streams.iter().zip(sent).map(|(stream, sent)| stream.lost(sent)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: MessageId = MessageId { run: 7, room: 1, side: 0, number: 0, due: 0 };
    const HOST: MessageId = MessageId { side: 1, ..GUEST };

    /// Returns the verdict if the guest sends four messages, the host sends none, and these numbers are received.
    fn verdict(numbers: &[u32]) -> Verdict {
        let mut verdict = Verdict::default();
        let mut receiver = Receiver::new(7, 1);
        for (seq, &number) in (1..).zip(numbers) {
            receiver.receive(Some(MessageId { number, ..GUEST }), Some(seq), &mut verdict);
        }
        verdict.lost = receiver.lost([4, 0]);
        verdict
    }

    #[test]
    fn complete_ordered_delivery_is_clean() {
        assert!(verdict(&[1, 2, 3, 4]).is_clean());
    }

    #[test]
    fn lost_message_is_detected_in_the_middle_and_at_the_end() {
        assert_eq!(verdict(&[1, 3, 4]), Verdict { lost: 1, ..Verdict::default() });
        assert_eq!(verdict(&[1, 2]), Verdict { lost: 2, ..Verdict::default() });
        assert_eq!(verdict(&[]), Verdict { lost: 4, ..Verdict::default() });
    }

    #[test]
    fn duplicated_message_is_detected() {
        assert_eq!(verdict(&[1, 2, 2, 3, 4]), Verdict { doubled: 1, ..Verdict::default() });
        assert_eq!(verdict(&[1, 2, 3, 4, 1]), Verdict { doubled: 1, ..Verdict::default() });
    }

    #[test]
    fn reordered_message_is_detected_and_does_not_count_as_lost() {
        assert_eq!(verdict(&[2, 1, 3, 4]), Verdict { reordered: 1, ..Verdict::default() });
        assert_eq!(verdict(&[4, 1, 2, 3]), Verdict { reordered: 3, ..Verdict::default() });
    }

    #[test]
    fn misrouted_message_is_detected_and_counts_as_lost_in_its_room() {
        let mut verdict = Verdict::default();
        let mut receiver = Receiver::new(7, 1);
        for stray in [
            Some(MessageId { room: 2, number: 1, ..GUEST }),
            Some(MessageId { run: 8, number: 1, ..GUEST }),
            Some(MessageId { side: 2, number: 1, ..GUEST }),
            None,
        ] {
            assert_eq!(receiver.receive(stray, Some(1), &mut verdict), None);
        }
        verdict.lost = receiver.lost([1, 0]);
        assert_eq!(verdict, Verdict { misrouted: 4, lost: 1, ..Verdict::default() });
    }

    #[test]
    fn number_that_does_not_increase_is_detected() {
        let mut verdict = Verdict::default();
        let mut receiver = Receiver::new(7, 1);
        receiver.receive(Some(MessageId { number: 1, ..GUEST }), Some(5), &mut verdict);
        receiver.receive(Some(MessageId { number: 1, ..HOST }), Some(5), &mut verdict);
        receiver.receive(Some(MessageId { number: 2, ..HOST }), Some(4), &mut verdict);
        receiver.receive(Some(MessageId { number: 3, ..HOST }), Some(6), &mut verdict);
        assert_eq!(verdict, Verdict { unsequenced: 2, ..Verdict::default() });
        assert_eq!((receiver.highest(0), receiver.highest(1)), (1, 3));
    }

    #[test]
    fn two_writers_of_a_room_are_distinguished() {
        let mut verdict = Verdict::default();
        let mut receiver = Receiver::new(7, 1);
        for (seq, id) in (1..).zip([
            MessageId { number: 1, ..GUEST },
            MessageId { number: 1, ..HOST },
            MessageId { number: 2, ..HOST },
            MessageId { number: 2, ..GUEST },
        ]) {
            assert_eq!(receiver.receive(Some(id), Some(seq), &mut verdict), Some(id));
        }
        verdict.lost = receiver.lost([2, 2]);
        assert!(verdict.is_clean());
    }
}
