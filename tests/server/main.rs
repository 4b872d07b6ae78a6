//! Tests whole servers through their client protocols. A server is either one embedded node, or two nodes with a real
//! Redis and a real MySQL or MariaDB.

#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admission;
mod bad_input;
mod chat;
mod docs;
mod duties;
mod ends;
mod floods;
mod images;
mod keys;
mod legacy;
mod limits;
mod mail;
mod nginx;
mod notifications;
mod overload;
mod readme;
mod rooms;
mod status;
mod support;
mod webhooks;
