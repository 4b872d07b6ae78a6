//! Domain vocabulary: identifiers, hosts, rooms, messages, origins, and the sender's wall clock.
//!
//! Depends on std, serde, chrono and other crates without I/O. **Invariant:** no I/O, no tasks, and no clock is read in
//! this layer; the current time is a parameter.

mod host;
mod ids;
mod message;
mod nickname;
mod origin;
mod room;
mod wall_clock;
mod webhook;

pub use host::{Host, HostConfig};
pub use ids::{
    ChatroomId, ConnectionId, HostId, HostUuid, InstallationId, MessageId, NodeId, ParseIdError, RoomName, Seq,
};
pub use message::{Message, Side};
pub use nickname::nickname;
pub use origin::{InvalidDomain, Origin, normalize_domains};
pub use room::{Room, RoomChange, RoomCounts, RoomKey, RoomState};
pub use wall_clock::{WallClock, WireOffset};
pub use webhook::{Closing, EventKind, EventKinds, UnknownEvent};
