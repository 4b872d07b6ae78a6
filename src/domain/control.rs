//! Control events: changes of accounts that all nodes apply to open sockets and caches at once.

use serde::{Deserialize, Serialize};

use crate::domain::HostId;

/// Event published to all nodes. Applying it twice has no further effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Control {
    /// A login ended (logout, password change, theft): its sockets close with 4001.
    LoginEnded {
        /// Id of the login.
        sid: String,
    },
    /// A host or an operator deactivated the account: all sockets of the host close with 4001.
    HostDisabled {
        /// The deactivated host.
        host: HostId,
    },
    /// A host's profile, domains, keys or settings changed: cached copies are dropped. The host's status sockets close
    /// with 4009 if the online status was switched off.
    ConfigChanged {
        /// The changed host.
        host: HostId,
    },
}
