//! E-mail: templates and delivery.
//!
//! An e-mail is written to the outbox in the same transaction as its cause. The node that claims the e-mail sends it
//! ([`MailDispatcher`]). Each template has one file per language. Subjects never contain text written by users.

mod dispatcher;
mod email;
mod smtp;

pub use dispatcher::{MailDispatcher, MailWaker};
pub use email::{EmailContent, Language, RoomText};
pub use smtp::{LogSender, MailError, MailSender, SmtpSender};
