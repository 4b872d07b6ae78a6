//! HTTP client of the server.

pub(crate) mod tls;
