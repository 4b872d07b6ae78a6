//! PinTalk: a self-hosted live-chat server. Guests and hosts talk over plain WebSockets; any node serves any client.
//!
//! # The floors
//!
//! A floor uses the floors below it and its neighbours, never one above.
//!
//! | floor | modules | knows |
//! |---|---|---|
//! | ground | [`domain`], [`protocol`], [`control`], [`clock`], [`metric`], [`trace`] | words; no tokio, no I/O |
//! | ports | [`broker`], [`presence`], [`lease`], [`throttle`], [`store`], [`media`] (and [`redis`], the clients that drivers share, `tls`, and [`turns`]) | what is kept, and where |
//! | services | [`hub`], [`relay`], [`history`], [`hosts`], [`rooms`], [`accounts`], [`profile_images`], [`statuses`], [`standing`], [`inbox`], [`session`], [`archive`], [`leader`], [`duties`], [`limits`], [`skew`], [`mail`], [`webhooks`], [`contacts`], [`notifier`] | ports, never a driver, never a socket |
//! | transport | [`http`], [`ws`], [`web`] | warp and sockets |
//! | roof | [`config`], [`telemetry`], [`shutdown`], [`app`], [`cli`] | everything; [`app`] alone names drivers |
//!
//! # One message, from socket to socket
//!
//! 1. `ws::pump` reads a frame and hands its text to the sender's [`session`]. The session checks it, gives it an id if it has
//!    none, writes its JSON once up to the place of its number, and [submits](relay::Relay::submit) it.
//! 2. The partition's acceptor puts it into the next batch; one call to [`broker::Broker::accept`] numbers the batch, stores
//!    it (in Redis, or in SQL on a single node) and publishes it, in one step.
//! 3. Every node hears the publication ([`relay::Deliveries`]). The [`hub`] frames it once and queues it for each connection
//!    of the room, unless the connection is catching up: then it only learns that there is more to read.
//! 4. `ws::pump` of each receiver writes what is queued. When the sender reads his own message back, it is stored.
//! 5. In a cluster the partition's archiver ([`archive`]) writes it to SQL in a batch, marks it, and trims the log.
//!
//! # What always holds
//!
//! - A message is stored before anybody is sent it, and readable somewhere from then on ([`history`]).
//! - A connection is queued each number of its room once, in rising order ([`hub::Connection`]).
//! - A host is online while a node that lives, or may, has a socket of his; each change has a version ([`presence`], [`statuses`]).
//! - A room's state is decided in SQL under a rising version, and then told ([`rooms`]).
//! - Nothing waits without a limit, and no queue grows without one; what is dropped is told and counted.

pub mod accounts;
pub mod app;
pub mod archive;
pub mod broker;
pub mod cli;
pub mod clock;
mod coalesce;
pub mod config;
pub mod contacts;
pub mod control;
pub mod domain;
pub mod duties;
pub mod history;
pub mod hosts;
pub mod http;
pub mod hub;
pub mod inbox;
pub mod leader;
pub mod lease;
pub mod limits;
pub mod mail;
pub mod media;
pub mod metric;
pub mod notifier;
pub mod presence;
pub mod profile_images;
pub mod protocol;
pub mod recovery;
pub mod redis;
pub mod relay;
pub mod rooms;
pub mod session;
pub mod shutdown;
pub mod skew;
pub mod standing;
pub mod statuses;
pub mod store;
pub mod telemetry;
pub mod text;
pub mod throttle;
mod tls;
pub mod trace;
pub mod turns;
pub mod web;
pub mod webhooks;
pub mod ws;
