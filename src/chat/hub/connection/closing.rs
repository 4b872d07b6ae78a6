//! State of a socket's close: pending, or deferred until the socket is up to date.
//!
//! **Invariant:** the first pending close is final. A deferred close takes effect at most once.

use bytes::Bytes;

use crate::protocol::Close;

#[derive(Debug, Default)]
pub(super) struct Closing {
    pending: Option<Close>,
    /// Last frame and close, deferred until the socket is up to date.
    deferred: Option<(Option<Bytes>, Close)>,
}

impl Closing {
    /// Makes a close pending if none is.
    pub(super) fn close(&mut self, close: Close) {
        self.pending.get_or_insert(close);
    }

    /// Defers a close and its last frame if none is deferred yet.
    pub(super) fn defer(&mut self, last: Option<Bytes>, close: Close) {
        self.deferred.get_or_insert((last, close));
    }

    /// Removes and returns the deferred close. Returns `None` if a close is already pending.
    pub(super) fn take_deferred(&mut self) -> Option<(Option<Bytes>, Close)> {
        self.deferred.take().filter(|_| self.pending.is_none())
    }

    pub(super) fn pending(&self) -> Option<Close> {
        self.pending
    }

    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_close_is_final() {
        let mut closing = Closing::default();
        closing.close(Close::Unauthenticated);
        closing.close(Close::Normal);
        assert_eq!(closing.pending(), Some(Close::Unauthenticated));
    }

    #[test]
    fn a_deferred_close_is_returned_once_and_not_after_a_pending_one() {
        let mut closing = Closing::default();
        closing.defer(None, Close::Normal);
        closing.defer(Some("late".into()), Close::NotFound);
        assert_eq!(closing.take_deferred(), Some((None, Close::Normal)));
        assert_eq!(closing.take_deferred(), None);
        closing.defer(None, Close::Normal);
        closing.close(Close::Unavailable);
        assert_eq!(closing.take_deferred(), None);
    }
}
