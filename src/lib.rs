//! PinTalk is a self-hosted live-chat server. Guests and hosts chat over plain WebSockets. Any node can serve any
//! client.
//!
//! # Layers
//!
//! A layer uses the layers below it and modules of its own layer. It never uses a layer above it.
//!
//! | layer | module | contents |
//! |---|---|---|
//! | vocabulary: no tokio, no I/O | [`domain`] | ids, rooms, messages, clocks, metric types, traces |
//! | | [`protocol`] | frames, request and response bodies, close codes |
//! | ports and storage | [`store`] | the database (SQLite, MySQL, MariaDB) |
//! | | [`backend`] | broker, presence, leases, throttle: the ports and their drivers (Redis, embedded) |
//! | services: use ports, never a driver, never a socket | [`outbound`] | e-mail, notifications, webhooks, object storage |
//! | | [`accounts`] | sign-up, login, tokens, limits |
//! | | [`chat`] | sessions, connections of this node, relay, rooms, history, archive |
//! | transport: the only layer that uses warp and sockets | [`http`], [`ws`], [`web`] | API, WebSockets, widget and console |
//! | wiring: the only layer that names drivers | [`node`] | configuration, start and stop, jobs of the leader, telemetry |
//! | | [`cli`] | the commands |
//!
//! # Path of a message
//!
//! 1. `ws::pump` reads a frame and passes its text to the sender's [`session`](chat::session). The session validates
//!    the message and assigns an id if the message has none. It encodes the message once as JSON, except for the
//!    sequence number, and [submits](chat::relay::Relay::submit) it.
//! 2. The acceptor of the room's partition adds the message to its next batch. One call to
//!    [`MessageLog::accept`](backend::broker::MessageLog::accept) assigns sequence numbers to the batch, stores it and
//!    publishes it in one step. A cluster stores it in Redis, a single node in the database.
//! 3. Every node receives the publication ([`Deliveries`](chat::relay::Deliveries)). The [`hub`](chat::hub) encodes the
//!    WebSocket frame once and queues it for each connection in the room. A connection that is catching up is only
//!    notified that the log has grown.
//! 4. `ws::pump` of each receiver writes the queued frames. The sender also receives the message. For the sender, this
//!    copy is the acknowledgement that the message is stored.
//! 5. In a cluster, the partition's archiver ([`archive`](chat::archive)) writes messages to the database in batches.
//!    It then marks them as archived and trims the log.
//!
//! # Invariants
//!
//! - A message is stored before it is sent to any client. From then on, it is always readable from Redis or the
//!   database ([`history`](chat::history)).
//! - Each sequence number of a room is queued for a connection at most once, in increasing order
//!   ([`Connection`](chat::hub::Connection)).
//! - A host is online while a node that is not considered dead has one of the host's sockets. Each change of the online
//!   status has a version ([`presence`](backend::presence), [`statuses`](chat::statuses)).
//! - The state of a room is committed in the database with an increasing version, and then published
//!   ([`rooms`](chat::rooms)).
//! - Every wait has a timeout and every queue has a maximum length. A dropped message is reported to the client and
//!   counted.

pub mod accounts;
pub mod backend;
pub mod chat;
pub mod cli;
pub mod domain;
pub mod http;
pub mod node;
pub mod outbound;
pub mod protocol;
pub mod store;
pub mod web;
pub mod ws;
