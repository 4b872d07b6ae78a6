//! What a host's own systems may be told.

use std::fmt;
use std::str::FromStr;

use super::ChatroomId;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A guest opened a room.
    RoomCreated,
    /// Somebody wrote.
    MessageCreated,
    /// A room takes no messages any more, until it is opened again.
    RoomClosed,
}

impl EventKind {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::RoomCreated, Self::MessageCreated, Self::RoomClosed];

    /// Its name on the wire and in rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoomCreated => "room.created",
            Self::MessageCreated => "message.created",
            Self::RoomClosed => "room.closed",
        }
    }

    /// The id of an event of this kind. It follows from what happened: told twice, it is the same. `number` tells the events of a
    /// room apart: a message's `seq`, a change's version.
    pub fn id(self, room: ChatroomId, number: u64) -> String {
        let room = room.0;
        match self {
            Self::RoomCreated => format!("evt_{room}_created"),
            Self::MessageCreated => format!("evt_{room}_message_{number}"),
            Self::RoomClosed => format!("evt_{room}_closed_{number}"),
        }
    }
}

/// A word that names no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of an event")]
pub struct UnknownEvent;

impl FromStr for EventKind {
    type Err = UnknownEvent;
    fn from_str(word: &str) -> Result<Self, UnknownEvent> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or(UnknownEvent)
    }
}

/// Some kinds of events, written as their names with commas between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventKinds([bool; 3]);

impl EventKinds {
    /// All of them.
    pub const ALL: Self = Self([true; 3]);

    /// Whether a kind is among them.
    pub fn contains(self, kind: EventKind) -> bool {
        self.iter().any(|known| known == kind)
    }

    /// One after the other.
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

/// Why a room takes no messages any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Its host closed it.
    Host,
    /// Nobody wrote for too long.
    Idle,
    /// Its host left it for good while it was open.
    Deleted,
}

impl Closing {
    /// One word.
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
    fn an_id_follows_from_what_happened() {
        assert_eq!(EventKind::MessageCreated.id(ChatroomId(3), 9), "evt_3_message_9");
        assert_ne!(EventKind::RoomClosed.id(ChatroomId(3), 1), EventKind::RoomClosed.id(ChatroomId(3), 3));
    }
}
