//! E-mail: templates and delivery.
//!
//! An e-mail is written to the outbox in the same transaction as its cause, and sent by the node that takes it first
//! ([`Postman`]). Each template has one file per language. Subjects never contain text written by users.

mod postman;
mod smtp;
mod template;

pub use postman::{Postman, Waker};
pub use smtp::{Delivery, Failure, Log, Sender, Smtp};
pub use template::{Language, Letter, RoomText};
