//! Limits on the messages kept in Redis.

/// Limits per partition and per room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Maximum number of messages in the archive queue of a partition.
    pub queue_messages: u32,
    /// Maximum bytes of frames in the archive queue of a partition. If messages are long, this limit is reached first.
    pub queue_bytes: u64,
    /// Maximum bytes of archived messages in the log of a room. Messages that are not archived do not count.
    pub log_bytes: u64,
}

impl Capacity {
    /// Limits of about 300 MB of queue at 300 bytes per message, and about 250 messages of usual length per room.
    pub const DEFAULT: Self = Self { queue_messages: 1_000_000, queue_bytes: 512 * 1024 * 1024, log_bytes: 64 * 1024 };
}
