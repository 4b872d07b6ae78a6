//! Control events, which report account changes to all nodes. The nodes apply them to open sockets and caches at once.

use serde::{Deserialize, Serialize};

use crate::domain::HostId;

/// Event published to all nodes. Applying it twice has no further effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Control {
    /// A login session was revoked, for example by a logout, a password change or a detected theft. Its sockets are
    /// closed with 4001.
    LoginEnded {
        /// Id of the login session.
        sid: String,
    },
    /// A host or an operator deactivated an account. All sockets of the host are closed with 4001.
    HostDisabled {
        /// The deactivated host.
        host: HostId,
    },
    /// A host's profile, domains, keys or settings changed, or the account was reactivated. Nodes drop their cached
    /// copies. If the online status was switched off, the host's status sockets are closed with 4009.
    ConfigChanged {
        /// The changed host.
        host: HostId,
    },
}
