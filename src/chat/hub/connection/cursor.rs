//! Position of one socket in the log of its room.
//!
//! A socket is either **up to date** or **catching up**. If it is up to date, publications are queued on arrival. If it
//! is catching up, its task reads the log after the last queued sequence number, and a publication only raises the
//! target. The target is the sequence number up to which the task must read.
//!
//! **Invariant:** a publication is queued only if its sequence number directly follows `sent`. Each sequence number is
//! therefore queued once, in ascending order.

use crate::domain::Seq;

#[derive(Debug, Default)]
pub(super) struct ReadCursor {
    /// Highest sequence number that was queued, or that the client had received before it reconnected.
    sent: Seq,
    /// Lowest sequence number that was queued; 0 before the first message.
    first: Seq,
    /// Sequence number up to which the task must read the log. `None` if the socket is up to date.
    target: Option<Seq>,
}

/// Required handling of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// The publication is the next message and must be queued.
    Queue,
    /// The publication was queued before.
    Duplicate,
    /// The socket is catching up and reads the message from the log.
    ReadLater,
    /// A preceding message may be missing, so the socket starts to catch up.
    Gap,
}

impl ReadCursor {
    /// Returns how a publication must be handled. `prev` is the preceding sequence number in the room. If the result is
    /// [`Offer::Queue`], the publication is recorded as queued.
    pub(super) fn offer(&mut self, prev: Seq, seq: Seq) -> Offer {
        if self.target.is_some() {
            self.catch_up(seq);
            Offer::ReadLater
        } else if seq <= self.sent {
            Offer::Duplicate
        } else if prev > self.sent || seq - prev > 1 {
            // A message between `sent` and `seq` was missed, or was lost when the broker began a new epoch.
            self.target = Some(seq);
            Offer::Gap
        } else {
            self.queued(seq, seq);
            Offer::Queue
        }
    }

    /// Records that the messages from `first` to `through` were queued.
    pub(super) fn queued(&mut self, first: Seq, through: Seq) {
        self.sent = self.sent.max(through);
        self.queued_older(first);
    }

    /// Records that a page of older messages was queued. `seq` is the lowest sequence number of the page.
    pub(super) fn queued_older(&mut self, seq: Seq) {
        self.first = if self.first == 0 { seq } else { self.first.min(seq) };
    }

    /// Starts to catch up, or raises the target.
    pub(super) fn catch_up(&mut self, target: Seq) {
        self.target = Some(self.target.map_or(target, |known| known.max(target)));
    }

    /// Starts to catch up after `seq`.
    pub(super) fn start_after(&mut self, seq: Seq) {
        self.sent = seq;
        self.target = Some(seq);
    }

    /// Returns the sequence number after which the log must be read, and the target; `None` if the socket is up to
    /// date.
    pub(super) fn next_read(&self) -> Option<(Seq, Seq)> {
        self.target.map(|target| (self.sent, target))
    }

    /// Records that a read of the log ended at `through`. `target` is the value that [`next_read`](Self::next_read)
    /// returned before the read. Returns whether the socket has become up to date. It has not if the target was raised
    /// above `target` and above the last queued sequence number. Messages up to `target` that are missing from the log
    /// were lost when the broker began a new epoch.
    pub(super) fn caught_up(&mut self, through: Seq, target: Seq) -> bool {
        self.sent = self.sent.max(through);
        let is_done = self.target.is_some_and(|known| known <= target.max(self.sent));
        if is_done {
            self.target = None;
        }
        is_done
    }

    pub(super) fn is_catching_up(&self) -> bool {
        self.target.is_some()
    }

    pub(super) fn sent(&self) -> Seq {
        self.sent
    }

    /// Returns the lowest sequence number that was queued; `None` before the first message.
    pub(super) fn first(&self) -> Option<Seq> {
        Some(self.first).filter(|first| *first > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_direct_successor_is_queued() {
        let mut cursor = ReadCursor::default();
        assert_eq!(cursor.offer(0, 1), Offer::Queue);
        assert_eq!(cursor.offer(0, 1), Offer::Duplicate);
        assert_eq!(cursor.offer(2, 3), Offer::Gap);
        assert_eq!(cursor.offer(1, 2), Offer::ReadLater);
        assert_eq!((cursor.sent(), cursor.next_read()), (1, Some((1, 3))));
    }

    #[test]
    fn a_number_announced_during_a_read_requires_another_read() {
        let mut cursor = ReadCursor::default();
        cursor.start_after(5);
        cursor.catch_up(7);
        cursor.queued(6, 6);
        assert!(!cursor.caught_up(6, 5));
        assert_eq!(cursor.next_read(), Some((6, 7)));
        // The target of the second read is 7. Message 7 is missing from the log, so the read ends at 6.
        assert!(cursor.caught_up(6, 7) && !cursor.is_catching_up());
    }

    #[test]
    fn a_page_of_older_messages_lowers_the_first_number_only() {
        let mut cursor = ReadCursor::default();
        assert_eq!(cursor.first(), None);
        cursor.queued(51, 100);
        cursor.queued_older(1);
        assert_eq!((cursor.first(), cursor.sent()), (Some(1), 100));
    }
}
