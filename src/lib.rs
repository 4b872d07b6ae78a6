//! PinTalk: a self-hosted live-chat server. Guests and hosts chat over plain WebSockets; any node serves any client.
//!
//! # Layers
//!
//! A layer uses the layers below it and modules of the same layer, never one above.
//!
//! | layer | module | contents |
//! |---|---|---|
//! | vocabulary: no tokio, no I/O | [`domain`] | ids, rooms, messages, clocks, types of metrics, traces |
//! | | [`protocol`] | frames, request and response bodies, close codes |
//! | ports and storage | [`store`] | SQL |
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
//!    it, assigns an id if it has none, serialises its JSON once except for the sequence number, and
//!    [submits](chat::relay::Relay::submit) it.
//! 2. The partition's acceptor adds it to the next batch. One call to
//!    [`MessageLog::accept`](backend::broker::MessageLog::accept) numbers the batch, stores it (in Redis, or in SQL on
//!    a single node) and publishes it, in one step.
//! 3. Every node receives the publication ([`Deliveries`](chat::relay::Deliveries)). The [`hub`](chat::hub) frames it
//!    once and queues it for each connection of the room. A connection that is catching up is only notified that the
//!    log has grown.
//! 4. `ws::pump` of each receiver writes the queued frames. The copy that the sender receives is the acknowledgement:
//!    the message is stored.
//! 5. In a cluster the partition's archiver ([`archive`](chat::archive)) writes it to SQL in a batch, marks it as
//!    archived, and trims the log.
//!
//! # Invariants
//!
//! - A message is stored before it is sent to any client, and from then on it is always readable from some store
//!   ([`history`](chat::history)).
//! - Each sequence number of a room is queued for a connection at most once, in rising order
//!   ([`Connection`](chat::hub::Connection)).
//! - A host is online while a node that is not known to be dead holds one of the host's sockets; each change has a
//!   version ([`presence`](backend::presence), [`statuses`](chat::statuses)).
//! - The state of a room is decided in SQL under a rising version, and then published ([`rooms`](chat::rooms)).
//! - Every wait has a time limit and every queue a bound; a drop is reported to the client and counted.

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
