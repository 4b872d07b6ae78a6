//! E-mail: its templates, and how it leaves.
//!
//! An e-mail is written into the outbox with what causes it, in one transaction, and sent by whichever node takes it first
//! ([`Postman`]). Templates are files, one for each language; a subject holds no text of a user.

mod postman;
mod smtp;
mod template;

pub use postman::{Postman, Waker};
pub use smtp::{Delivery, Failure, Log, Sender, Smtp};
pub use template::{Language, Letter, RoomText};
