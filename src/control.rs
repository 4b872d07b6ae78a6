//! What every node must know at once about a host: it acts on sockets that are open.

use serde::{Deserialize, Serialize};

use crate::domain::HostId;

/// News for all nodes. Acting on it twice is harmless.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Control {
    /// A login is over (logout, password change, theft): its sockets close with 4001.
    LoginEnded {
        /// The login.
        sid: String,
    },
    /// A host deactivated his account, or an operator did: all his sockets close with 4001.
    HostDisabled {
        /// Who.
        host: HostId,
    },
    /// A host changed his profile, domains or settings: caches forget him, and his status sockets close with 4009 if he no
    /// longer shows his status.
    ConfigChanged {
        /// Who.
        host: HostId,
    },
}
