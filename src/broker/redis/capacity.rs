//! How much Redis keeps.

/// How much Redis keeps, of a partition and of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Messages that the archive queue of a partition may hold.
    pub queue_messages: u32,
    /// Bytes of frames that the archive queue of a partition may hold. Reached first where messages are long.
    pub queue_bytes: u64,
    /// Bytes of archived messages that the log of a room keeps beside those that are not archived.
    pub log_bytes: u64,
}

impl Capacity {
    /// About 300 MB of queue at 300 bytes per message, and some 250 usual messages of a room.
    pub const DEFAULT: Self = Self { queue_messages: 1_000_000, queue_bytes: 512 * 1024 * 1024, log_bytes: 64 * 1024 };
}
