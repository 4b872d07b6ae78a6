//! Messages of one socket that were submitted to the broker and are not acknowledged yet.
//!
//! **Invariant:** each submitted message is removed exactly once, when it is accepted, rejected or dropped.

/// Maximum number of unacknowledged messages per socket. At the limit, the socket is not read.
pub const WINDOW_MESSAGES: u32 = 16;

/// Maximum bytes of unacknowledged messages per socket.
pub const WINDOW_BYTES: u32 = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct InFlightWindow {
    messages: u32,
    bytes: u32,
    is_abandoned: bool,
}

impl InFlightWindow {
    pub(super) fn submitted(&mut self, bytes: u32) {
        self.messages += 1;
        self.bytes += bytes;
    }

    /// Removes a message that was accepted, rejected or dropped. Returns whether the window changed from full to not
    /// full.
    pub(super) fn answered(&mut self, bytes: u32) -> bool {
        let was_full = self.is_full();
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        was_full && !self.is_full()
    }

    pub(super) fn is_full(&self) -> bool {
        self.messages >= WINDOW_MESSAGES || self.bytes >= WINDOW_BYTES
    }

    /// Marks the unacknowledged messages as dropped. The mark is permanent: if a later message were accepted, the order
    /// of the client's messages would change.
    pub(super) fn abandon(&mut self) {
        self.is_abandoned = true;
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.is_abandoned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_a_full_window_reports_that_it_accepts_more() {
        let mut window = InFlightWindow::default();
        (0..WINDOW_MESSAGES).for_each(|_| window.submitted(10));
        assert!(window.is_full());
        assert!(window.answered(10) && !window.is_full());
        assert!(!window.answered(10), "it was not full");
    }

    #[test]
    fn bytes_fill_the_window_as_messages_do() {
        let mut window = InFlightWindow::default();
        window.submitted(WINDOW_BYTES);
        window.submitted(1);
        assert!(!window.answered(1) && window.is_full());
        assert!(window.answered(WINDOW_BYTES));
    }
}
