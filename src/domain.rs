//! The words of PinTalk: identifiers, hosts, rooms, messages, origins, and the sender's wall clock.
//!
//! Everything here is pure: std, serde and chrono only. **Invariant:** no I/O, no task and no clock is
//! read on this floor; the present is a parameter.

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
