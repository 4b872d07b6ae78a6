//! Connections to the database: pools, time limits, retries, faults and the SQLite files. The only table accessed here
//! is the one of the write probe.

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
