//! Limits on the messages kept in Redis.

/// Limits per partition and per room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Maximum number of messages in the archive queue of a partition.
    pub queue_messages: u32,
    /// Maximum total size of the frames in the archive queue of a partition, in bytes. If messages are long, this limit
    /// is reached before `queue_messages`.
    pub queue_bytes: u64,
    /// Maximum total size of the archived messages in the log of a room, in bytes. Messages that are not archived do
    /// not count.
    pub log_bytes: u64,
}

impl Capacity {
    /// Default limits. With 300 bytes per message, a full queue uses about 300 MB, and a log contains about 200
    /// archived messages.
    pub const DEFAULT: Self = Self { queue_messages: 1_000_000, queue_bytes: 512 * 1024 * 1024, log_bytes: 64 * 1024 };

    /// Returns the used share of the limit of an archive queue, in messages or bytes, whichever is larger.
    pub(super) fn share(&self, messages: u64, bytes: u64) -> f64 {
        let of_messages = messages as f64 / f64::from(self.queue_messages);
        of_messages.max(bytes as f64 / self.queue_bytes as f64)
    }
}
