//! Mail senders: one sends over SMTP, and one writes to the log.

use std::time::Duration;

use async_trait::async_trait;
use lettre::address::AddressError;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};

use crate::domain::text::{is_hidden, is_line_break};
use crate::store::OutgoingMail;

/// Timeout per command to the mail server.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Reason why an e-mail was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// The mail server is unavailable or requests a retry at a later time.
    #[error("{0}")]
    Temporary(String),
    /// The connection failed during sending, so the mail server may have accepted the e-mail.
    #[error("{0}")]
    Unknown(String),
    /// The mail server will never accept this e-mail.
    #[error("{0}")]
    Permanent(String),
}

/// Transport that sends e-mails.
#[async_trait]
pub trait MailSender: Send + Sync {
    /// Sends an e-mail. On success, the mail server has accepted it.
    async fn send(&self, mail: &OutgoingMail) -> Result<(), MailError>;
}

/// SMTP client with pooled connections.
pub struct SmtpSender {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl SmtpSender {
    /// Creates a client from a URL in the format of lettre: `smtps://user:password@host`, or `smtp://…?tls=required`.
    /// `from` is the sender address.
    ///
    /// # Errors
    /// Returns a description of the problem if the URL is invalid.
    pub fn new(url: &str, from: Mailbox) -> Result<Self, String> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url).map_err(|error| error.to_string())?;
        Ok(Self { transport: transport.timeout(Some(TIMEOUT)).build(), from })
    }
}

#[async_trait]
impl MailSender for SmtpSender {
    async fn send(&self, mail: &OutgoingMail) -> Result<(), MailError> {
        let permanent = |error: &dyn std::fmt::Display| MailError::Permanent(without_addresses(error));
        let to = address(&mail.recipient).map_err(|error| permanent(&error))?;
        let is_ascii = AsRef::<str>::as_ref(&to).is_ascii();
        // For an at-most-once e-mail, the connection is tested first, because an error before sending starts permits a
        // retry.
        if mail.at_most_once {
            match self.transport.test_connection().await {
                Ok(true) => {}
                Ok(false) => {
                    return Err(MailError::Temporary("the mail server rejected a test of the connection".to_owned()));
                }
                Err(error) => return Err(MailError::Temporary(without_addresses(&error))),
            }
        }
        let mut message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(mail.subject.clone())
            .message_id(None)
            .header(ContentType::TEXT_PLAIN);
        for header in unsubscribe_headers(mail.unsubscribe_url.as_deref()) {
            message = message.raw_header(header);
        }
        let message = message.body(mail.body.clone()).map_err(|error| permanent(&error))?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => Err(permanent(&error)),
            // The server does not support non-ASCII addresses, so a retry would fail as well.
            Err(error) if error.is_client() && !is_ascii => Err(permanent(&error)),
            Err(error) if error.is_transient() => Err(MailError::Temporary(without_addresses(&error))),
            Err(error) => Err(MailError::Unknown(without_addresses(&error))),
        }
    }
}

/// Formats a mail server's response as a single line without addresses, for the log.
fn without_addresses(response: &dyn std::fmt::Display) -> String {
    let response = response.to_string();
    let words: Vec<String> = response
        .split(|character| character == ' ' || is_line_break(character))
        .filter(|word| !word.is_empty())
        .map(|word| {
            if word.contains('@') {
                "…".to_owned()
            } else {
                word.chars().filter(|character| !is_hidden(*character)).collect()
            }
        })
        .collect();
    words.join(" ")
}

/// Parses an address and converts its domain to ASCII.
fn address(text: &str) -> Result<Address, AddressError> {
    let (local, domain) = text.rsplit_once('@').ok_or(AddressError::MissingParts)?;
    Address::new(local, idna::domain_to_ascii(domain).map_err(|_| AddressError::InvalidDomain)?)
}

/// Returns the headers for unsubscribing with one click (RFC 2369, RFC 8058). Returns no headers if there is no valid
/// URL.
fn unsubscribe_headers(url: Option<&str>) -> Vec<HeaderValue> {
    // The value is written without encoding, because the library's encoding would fold long lines. The URL must
    // therefore contain only URL characters.
    let Some(url) = url.filter(|url| url.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>".contains(&byte))) else {
        return Vec::new();
    };
    let header = |name, value: String| HeaderValue::dangerous_new_pre_encoded(name, value.clone(), value);
    vec![
        header(HeaderName::new_from_ascii_str("List-Unsubscribe"), format!("<{url}>")),
        header(HeaderName::new_from_ascii_str("List-Unsubscribe-Post"), "List-Unsubscribe=One-Click".to_owned()),
    ]
}

/// Mail sender without a mail server. It logs the subject of each e-mail, but not its content.
#[derive(Clone, Copy, Debug)]
pub struct LogSender;

#[async_trait]
impl MailSender for LogSender {
    async fn send(&self, mail: &OutgoingMail) -> Result<(), MailError> {
        tracing::info!(subject = mail.subject, "e-mail not sent: --smtp-url is not set");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_of_mail_server_is_logged_without_addresses() {
        let response = "permanent error (550): 5.1.1 <guest@mail.example>: Recipient address rejected";
        assert_eq!(without_addresses(&response), "permanent error (550): 5.1.1 … Recipient address rejected");
        let response = "550 no\r\n2026-11-30 ERROR \u{1b}[31mforged\u{2028}line";
        assert_eq!(without_addresses(&response), "550 no 2026-11-30 ERROR [31mforged line");
    }
}
