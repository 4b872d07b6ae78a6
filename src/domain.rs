//! Domain vocabulary: identifiers, hosts, rooms, messages, origins and the wall-clock times of senders.
//!
//! This layer depends on std, serde, chrono and other crates without I/O. **Invariant:** except for the system clock in
//! [`clock`] and the random source in [`Rng`], this layer performs no I/O and starts no tasks. The current time is a
//! parameter.

pub mod clock;
pub(crate) mod condition;
mod control;
mod host;
mod ids;
mod message;
pub mod metric;
mod nickname;
mod origin;
mod rng;
mod room;
mod store_cause;
pub mod text;
pub mod trace;
mod url;
mod wall_clock;
mod webhook;

pub use control::Control;
pub use host::{Host, HostConfig};
pub use ids::{
    ChatroomId, ConnectionId, HostId, HostUuid, InstallationId, MessageId, NodeId, ParseIdError, RoomName, Seq,
};
pub use message::{Message, Side};
pub use nickname::nickname;
pub use origin::{InvalidDomain, Origin, normalize_domains};
pub use rng::Rng;
pub use room::{Room, RoomChange, RoomCounts, RoomKey, RoomState};
pub use store_cause::{StoreCause, StoreFault};
pub(crate) use url::url_path;
pub use wall_clock::{WallClock, WireOffset};
pub use webhook::{CloseCause, EventKind, EventKinds, UnknownEvent};
