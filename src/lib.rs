//! PinTalk: a self-hosted live-chat server. Guests and hosts chat over plain WebSockets; any node serves any client.
//!
//! # Layers
//!
//! A layer uses the layers below it and modules of the same layer, never one above.
//!
//! | layer | modules | uses |
//! |---|---|---|
//! | vocabulary | [`domain`], [`protocol`], [`control`], [`clock`], [`metric`], [`trace`] | no tokio, no I/O |
//! | ports and storage | [`broker`], [`presence`], [`lease`], [`throttle`], [`store`], [`media`] (and [`redis`], the clients that drivers share, `tls`, and [`turns`]) | Redis, SQL, object storage |
//! | services | [`hub`], [`relay`], [`history`], [`hosts`], [`rooms`], [`accounts`], [`profile_images`], [`statuses`], [`standing`], [`inbox`], [`session`], [`archive`], [`leader`], [`duties`], [`limits`], [`skew`], [`mail`], [`webhooks`], [`contacts`], [`notifier`] | ports, never a driver, never a socket |
//! | transport | [`http`], [`ws`], [`web`] | warp and sockets |
//! | wiring | [`config`], [`telemetry`], [`shutdown`], [`app`], [`cli`] | everything; [`app`] alone names drivers |
//!
//! # Path of a message
//!
//! 1. `ws::pump` reads a frame and passes its text to the sender's [`session`]. The session validates it, assigns an id
//!    if it has none, serialises its JSON once except for the sequence number, and [submits](relay::Relay::submit) it.
//! 2. The partition's acceptor adds it to the next batch. One call to [`broker::Broker::accept`] numbers the batch,
//!    stores it (in Redis, or in SQL on a single node) and publishes it, in one step.
//! 3. Every node receives the publication ([`relay::Deliveries`]). The [`hub`] frames it once and queues it for each
//!    connection of the room. A connection that is catching up is only notified that the log has grown.
//! 4. `ws::pump` of each receiver writes the queued frames. The copy that the sender receives is the acknowledgement:
//!    the message is stored.
//! 5. In a cluster the partition's archiver ([`archive`]) writes it to SQL in a batch, marks it as archived, and trims
//!    the log.
//!
//! # Invariants
//!
//! - A message is stored before it is sent to any client, and from then on it is always readable from some store
//!   ([`history`]).
//! - Each sequence number of a room is queued for a connection at most once, in rising order ([`hub::Connection`]).
//! - A host is online while a node that is not known to be dead holds one of the host's sockets; each change has a
//!   version ([`presence`], [`statuses`]).
//! - The state of a room is decided in SQL under a rising version, and then published ([`rooms`]).
//! - Every wait has a time limit and every queue a bound; a drop is reported to the client and counted.

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
