//! E-mail: templates and delivery.
//!
//! An e-mail is written to the outbox in the same transaction as its cause, and sent by the node that takes it first
//! ([`Postman`]). Each template has one file per language. Subjects never contain text written by users.

mod dispatcher;
mod email;
mod smtp;

pub use dispatcher::{Postman, Waker};
pub use email::{Language, Letter, RoomText};
pub use smtp::{Delivery, Failure, Log, Sender, Smtp};
