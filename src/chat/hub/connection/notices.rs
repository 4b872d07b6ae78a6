//! Notices that wait for one socket: the newest of each topic, in order of arrival.
//!
//! A notice describes a state, such as online, typing, or the newest message of a room. A dropped notice therefore
//! loses no information: the next notice or room list contains the newer state.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::domain::RoomName;

/// Subject of a notice. A new notice replaces a waiting notice with the same topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Whether the host is online.
    HostStatus,
    /// A guest is watching the status of the host.
    GuestOnline,
    /// A message arrived in a room.
    Arrival(RoomName),
    /// A notice in a room, such as `typing`. The value is the hash of its JSON before the field `datetime`.
    InRoom(u64),
}

impl Topic {
    /// Returns the topic of a notice in a room. Notices of the same side and kind have the same topic, because their
    /// JSON differs only from `datetime` on.
    pub fn of_notice(json: &[u8]) -> Self {
        const TIME: &[u8] = b"\"datetime\"";
        let end = json.windows(TIME.len()).position(|window| window == TIME).unwrap_or(json.len());
        // The hash function is FNV-1a.
        let hash = json[..end]
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        Self::InRoom(hash)
    }
}

#[derive(Debug, Default)]
pub(super) struct Notices {
    waiting: VecDeque<(Topic, Bytes)>,
    bytes: usize,
}

impl Notices {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, topic: Topic, framed: Bytes) {
        self.bytes += framed.len();
        self.waiting.push_back((topic, framed));
    }

    /// Removes the waiting notice of a topic, if any.
    pub(super) fn remove(&mut self, topic: Topic) {
        if let Some(at) = self.waiting.iter().position(|(waiting, _)| *waiting == topic)
            && let Some((_, framed)) = self.waiting.remove(at)
        {
            self.bytes -= framed.len();
        }
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let (_, framed) = self.waiting.pop_front()?;
        self.bytes -= framed.len();
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        Some(framed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Side;
    use crate::protocol::chat::{read_frame, typing_frame};

    #[test]
    fn notices_of_one_side_and_one_kind_have_one_topic() {
        let (early, late) = ("2023-03-23T08:15:07".parse().unwrap(), "2024-03-23T08:15:07.5".parse().unwrap());
        let of = Topic::of_notice;
        assert_eq!(of(&typing_frame(Side::Guest, &early)), of(&typing_frame(Side::Guest, &late)));
        assert_eq!(of(&read_frame(Side::Guest, 1, &early)), of(&read_frame(Side::Guest, 2, &late)));
        assert_ne!(of(&typing_frame(Side::Guest, &early)), of(&typing_frame(Side::Host, &early)));
        assert_ne!(of(&typing_frame(Side::Guest, &early)), of(&read_frame(Side::Guest, 1, &early)));
    }
}
