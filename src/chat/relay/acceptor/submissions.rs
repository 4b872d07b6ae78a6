//! Messages that were submitted to the acceptor and have no outcome yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backend::broker::Submission;
use crate::chat::hub::Connection;
use crate::domain::Seq;
use crate::domain::trace::TraceSpan;

/// Message whose outcome is not known yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) connection: Arc<Connection>,
    pub(super) submission: Submission,
    pub(super) since: Instant,
    /// Highest sequence number that the sender had received when it submitted the message.
    pub(super) sent: Seq,
    /// Whether an earlier call to the broker contained this message and may have taken effect.
    pub(super) tried: bool,
    /// Span from reading the message to its outcome; `None` if the message is not sampled.
    pub(super) span: Option<TraceSpan>,
}

impl Pending {
    pub(super) fn bytes(&self) -> u32 {
        self.submission.head.len() as u32
    }

    pub(super) fn answered(&self, submissions: &SubmissionQueue) {
        submissions.bytes.fetch_sub(self.bytes() as usize, Ordering::Relaxed);
        self.connection.answered(self.bytes());
    }
}

/// Submitted messages that the acceptor has not collected yet.
#[derive(Debug, Default)]
pub(super) struct SubmissionQueue {
    pub(super) queue: Mutex<VecDeque<Pending>>,
    pub(super) arrived: Notify,
    /// Total bytes of all unacknowledged messages of the partition.
    pub(super) bytes: AtomicUsize,
}
