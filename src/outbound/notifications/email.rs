//! Content of the notifier's e-mails, and the links in them.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::HostId;
use crate::outbound::contacts::MailLinks;
use crate::outbound::mail::{EmailContent, Language, RoomText};
use crate::store::{ConsentPair, ConsentRequest, GuestDigest, HostDigest, OutgoingMail, WriteMail, mailbox_key};

/// Maximum age at which an e-mail about missed messages is still sent.
const TTL: TimeDelta = TimeDelta::days(1);

/// Maximum age at which a request for consent is still sent.
const CONSENT_TTL: TimeDelta = TimeDelta::days(7);

/// Writes the notifier's e-mails. Clones share the configuration.
#[derive(Clone)]
pub struct NotificationWriter {
    /// URL of the admin page.
    admin_url: Arc<str>,
    /// URL of the page for guests if the host has no domain without a wildcard.
    public_url: Arc<str>,
    links: MailLinks,
    /// Language of e-mails to hosts.
    language: Language,
}

impl NotificationWriter {
    /// Creates the writer. E-mails to hosts link to `admin_url` and are written in `language`.
    pub fn new(admin_url: &str, public_url: &str, links: MailLinks, language: Language) -> Self {
        Self { admin_url: admin_url.into(), public_url: public_url.into(), links, language }
    }

    /// Returns a writer of e-mails whose age counts from `now`.
    pub(super) fn at(&self, now: DateTime<Utc>) -> DatedWriter<'_> {
        DatedWriter { writer: self, now }
    }

    /// Returns the domain that names a service in a request for consent. For a service without a domain, returns the
    /// domain of this installation.
    fn domain_of(&self, domains: Option<&str>) -> String {
        service_domain(domains).unwrap_or_else(|| {
            let url = url::Url::parse(&self.public_url).ok();
            url.as_ref().and_then(url::Url::host_str).unwrap_or("PinTalk").to_owned()
        })
    }

    /// Returns the URL of the page for guests. The URL contains the first domain without a wildcard. If there is no
    /// such domain, the URL is `public_url`.
    fn page_of(&self, domains: Option<&str>) -> String {
        let names = domains.unwrap_or_default().split(',').map(str::trim);
        match names.into_iter().find(|name| !name.is_empty() && !name.contains('*')) {
            Some(name) if is_this_machine(name) => format!("http://{name}/"),
            Some(name) => format!("https://{name}/"),
            None => self.public_url.to_string(),
        }
    }
}

/// Writes e-mails whose age counts from `now`.
pub(super) struct DatedWriter<'a> {
    writer: &'a NotificationWriter,
    now: DateTime<Utc>,
}

impl WriteMail for DatedWriter<'_> {
    fn guest_digest(&self, digest: &GuestDigest) -> Option<OutgoingMail> {
        let NotificationWriter { links, .. } = self.writer;
        let unsubscribe = links.unsubscribe(&pair(digest.host.id, &digest.address))?;
        let email = EmailContent::GuestDigest {
            service: digest.host.service_name.clone(),
            room: RoomText {
                room: digest.room.id,
                guest: digest.room.guest.clone(),
                messages: digest.messages.clone(),
                more: digest.more,
            },
            link: self.writer.page_of(digest.host.service_domain.as_deref()),
            unsubscribe: unsubscribe.clone(),
        };
        let language = language(digest.language.as_deref());
        let mail = email.write(&digest.address, language, self.now, self.now + TTL)?;
        Some(OutgoingMail { host: Some(digest.host.id), unsubscribe_url: Some(unsubscribe), ..mail })
    }

    fn host_digest(&self, digest: &HostDigest) -> Option<OutgoingMail> {
        let rooms = digest.rooms.iter().map(|missed| RoomText {
            room: missed.room.id,
            guest: missed.room.guest.clone(),
            messages: missed.messages.clone(),
            more: missed.more,
        });
        let email = EmailContent::HostDigest {
            service: digest.host.service_name.clone(),
            rooms: rooms.collect(),
            others: digest.others,
            link: self.writer.admin_url.to_string(),
        };
        let mail = email.write(&digest.host.email, self.writer.language, self.now, self.now + TTL)?;
        Some(OutgoingMail { host: Some(digest.host.id), ..mail })
    }

    fn consent_request(&self, request: &ConsentRequest) -> Option<OutgoingMail> {
        let email = EmailContent::Consent {
            domain: self.writer.domain_of(request.host.service_domain.as_deref()),
            link: self.writer.links.consent(&pair(request.host.id, &request.address))?,
        };
        let language = language(request.language.as_deref());
        let mail = email.write(&request.address, language, self.now, self.now + CONSENT_TTL)?;
        Some(OutgoingMail { host: Some(request.host.id), ..mail })
    }
}

/// Returns the domain that names a service: the first domain without a wildcard, or else the base of the first wildcard
/// domain. Returns `None` if there are no domains.
pub fn service_domain(domains: Option<&str>) -> Option<String> {
    let names = || domains.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
    let name = names().find(|name| !name.contains('*')).or_else(|| names().next())?;
    Some(name.trim_start_matches("*.").to_owned())
}

fn pair(host: HostId, address: &str) -> ConsentPair {
    ConsentPair { host, mailbox: mailbox_key(address) }
}

fn language(code: Option<&str>) -> Language {
    code.and_then(|code| code.parse().ok()).unwrap_or_default()
}

fn is_this_machine(domain: &str) -> bool {
    let name = domain.rsplit_once(':').map_or(domain, |(name, _)| name);
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_links_to_the_domain_of_the_service() {
        let links = MailLinks::new("https://chat.example", [b"secret".to_vec()]);
        let writer = NotificationWriter::new("https://admin.example", "https://chat.example", links, Language::Korean);
        for (domains, page) in [
            (Some("shop.example"), "https://shop.example/"),
            (Some("*.shop.example, www.shop.example:8443"), "https://www.shop.example:8443/"),
            (Some("localhost:3000"), "http://localhost:3000/"),
            (Some("*.shop.example"), "https://chat.example"),
            (None, "https://chat.example"),
        ] {
            assert_eq!(writer.page_of(domains), page, "{domains:?}");
        }
        for (domains, named) in [
            (Some("*.a.example, www.shop.example:8443"), "www.shop.example:8443"),
            (Some("*.shop.example"), "shop.example"),
            (Some(""), "chat.example"),
            (None, "chat.example"),
        ] {
            assert_eq!(writer.domain_of(domains), named, "{domains:?}");
        }
    }
}
