//! Kinds of webhook events, and the reasons that a `RoomClosed` event can give.

use std::fmt;
use std::str::FromStr;

use super::ChatroomId;

/// Kind of a webhook event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A guest created a room.
    RoomCreated,
    /// A guest or a host wrote a message.
    MessageCreated,
    /// A room was closed or deleted. It no longer accepts messages.
    RoomClosed,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::RoomCreated, Self::MessageCreated, Self::RoomClosed];

    /// Returns the name used in event bodies and database rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoomCreated => "room.created",
            Self::MessageCreated => "message.created",
            Self::RoomClosed => "room.closed",
        }
    }

    /// Returns the id of an event of this kind. The id is deterministic, so an event that is recorded twice has the
    /// same id. `number` distinguishes the events of a room. It is the `seq` of a message or the version of a state
    /// change.
    pub fn id(self, room: ChatroomId, number: u64) -> String {
        let room = room.0;
        match self {
            Self::RoomCreated => format!("evt_{room}_created"),
            Self::MessageCreated => format!("evt_{room}_message_{number}"),
            Self::RoomClosed => format!("evt_{room}_closed_{number}"),
        }
    }
}

/// Error for a string that is not the name of an event kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of an event")]
pub struct UnknownEvent;

impl FromStr for EventKind {
    type Err = UnknownEvent;
    fn from_str(word: &str) -> Result<Self, UnknownEvent> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or(UnknownEvent)
    }
}

/// Set of event kinds. Its string form is a comma-separated list of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventKinds([bool; 3]);

impl EventKinds {
    /// All kinds.
    pub const ALL: Self = Self([true; 3]);

    /// Returns whether the set contains a kind.
    pub fn contains(self, kind: EventKind) -> bool {
        self.iter().any(|known| known == kind)
    }

    /// Returns an iterator over the kinds in the set, in the order of [`EventKind::ALL`].
    pub fn iter(self) -> impl Iterator<Item = EventKind> {
        EventKind::ALL.into_iter().zip(self.0).filter_map(|(kind, is_in)| is_in.then_some(kind))
    }
}

impl FromIterator<EventKind> for EventKinds {
    fn from_iter<T: IntoIterator<Item = EventKind>>(kinds: T) -> Self {
        let mut all = Self([false; 3]);
        for kind in kinds {
            for (known, is_in) in EventKind::ALL.into_iter().zip(&mut all.0) {
                *is_in |= known == kind;
            }
        }
        all
    }
}

impl fmt::Display for EventKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iter().map(EventKind::as_str).collect::<Vec<_>>().join(","))
    }
}

impl FromStr for EventKinds {
    type Err = UnknownEvent;
    fn from_str(words: &str) -> Result<Self, UnknownEvent> {
        words.split(',').map(str::parse).collect()
    }
}

/// Reason for closing a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// The host closed the room.
    Host,
    /// The room was closed after a period without messages.
    Idle,
    /// The open room was deleted, because the host left it or it never had a message.
    Deleted,
}

impl CloseCause {
    /// Returns the name used in event bodies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Idle => "idle",
            Self::Deleted => "deleted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_written_as_their_names() {
        assert_eq!(EventKinds::ALL.to_string(), "room.created,message.created,room.closed");
        let some: EventKinds = "room.closed,room.created,room.closed".parse().unwrap();
        assert_eq!(some.to_string(), "room.created,room.closed");
        assert!(some.contains(EventKind::RoomClosed) && !some.contains(EventKind::MessageCreated));
        assert_eq!("room.closed,x".parse::<EventKinds>(), Err(UnknownEvent));
    }

    #[test]
    fn event_id_is_derived_from_its_cause() {
        assert_eq!(EventKind::MessageCreated.id(ChatroomId(3), 9), "evt_3_message_9");
        assert_ne!(EventKind::RoomClosed.id(ChatroomId(3), 1), EventKind::RoomClosed.id(ChatroomId(3), 3));
    }
}
