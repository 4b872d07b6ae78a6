//! Connections to the database: pools, timeouts, retries, faults and the SQLite files. This module writes only to the
//! table of the write probe.

pub(super) mod clock;
pub(super) mod connect;
pub(super) mod error;
pub(super) mod fault;
pub(super) mod files;
pub(super) mod lock;
pub(super) mod monitor;
mod operation;
pub(super) mod permissions;
pub(super) mod recycle;
pub(super) mod server;
