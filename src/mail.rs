//! Mail: what it says, and how it leaves.
//!
//! A mail is written into the outbox with what causes it, in one transaction, and sent by whichever node comes first
//! ([`Postman`]). What a mail says is in files, one a language; a subject never holds anything that a user wrote.

mod postman;
mod smtp;
mod template;

pub use postman::{Postman, Waker};
pub use smtp::{Delivery, Failure, Log, Sender, Smtp};
pub use template::{Language, Letter, RoomText};
