//! What a notification says, and where its links lead.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::contacts::UnsubscribeLinks;
use crate::domain::Side;
use crate::mail::{Language, Letter};
use crate::store::{Digest, OutgoingMail};

/// How much of a message is shown, in characters.
const SHOWN_CHARS: usize = 300;

/// After this a mail about a message helps nobody.
const TTL: TimeDelta = TimeDelta::days(1);

/// Writes notifications.
#[derive(Clone)]
pub struct Letters {
    /// Where hosts answer.
    admin_url: Arc<str>,
    /// Where guests go whose host has no domain of his own.
    public_url: Arc<str>,
    links: UnsubscribeLinks,
    /// What hosts are written to in.
    language: Language,
}

impl Letters {
    /// Hosts answer at `admin_url`, and are written to in `language`.
    pub fn new(admin_url: &str, public_url: &str, links: UnsubscribeLinks, language: Language) -> Self {
        Self { admin_url: admin_url.into(), public_url: public_url.into(), links, language }
    }

    /// The mail of a digest. `None` if it cannot be written: a template is broken, or a guest's mail could not be ended.
    pub(super) fn write(&self, digest: &Digest, now: DateTime<Utc>) -> Option<OutgoingMail> {
        let (service, excerpt) = (digest.host.service_name.clone(), excerpt(digest));
        let (letter, language, unsubscribe_url) = match digest.to {
            Side::Host => {
                let (guest, link) = (digest.room.guest.clone(), self.admin_url.to_string());
                (Letter::HostDigest { service, guest, excerpt, link }, self.language, None)
            }
            Side::Guest => {
                let unsubscribe = self.links.link(digest.room.id, &digest.address)?;
                let link = self.page_of(digest.host.service_domain.as_deref());
                let language = digest.language.as_deref().and_then(|code| code.parse().ok()).unwrap_or_default();
                let letter = Letter::GuestDigest { service, excerpt, link, unsubscribe: unsubscribe.clone() };
                (letter, language, Some(unsubscribe))
            }
        };
        let mail = letter.write(&digest.address, language, now, now + TTL)?;
        Some(OutgoingMail { at_most_once: true, unsubscribe_url, ..mail })
    }

    /// The first page of a service: the first of its domains that is no pattern.
    fn page_of(&self, domains: Option<&str>) -> String {
        let names = domains.unwrap_or_default().split(',').map(str::trim);
        match names.into_iter().find(|name| !name.is_empty() && !name.contains('*')) {
            Some(name) if is_this_machine(name) => format!("http://{name}/"),
            Some(name) => format!("https://{name}/"),
            None => self.public_url.to_string(),
        }
    }
}

fn is_this_machine(domain: &str) -> bool {
    let name = domain.rsplit_once(':').map_or(domain, |(name, _)| name);
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

/// The messages, each line marked as a quotation.
fn excerpt(digest: &Digest) -> String {
    let mut quoted = String::new();
    for message in &digest.messages {
        let mut shown: String = message.text.chars().take(SHOWN_CHARS).collect();
        if shown.len() < message.text.len() {
            shown.push('…');
        }
        for line in shown.lines() {
            quoted.push_str(&format!("> {line}\n"));
        }
        quoted.push('\n');
    }
    if digest.more {
        quoted.push_str("…\n");
    }
    quoted.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_led_to_the_page_where_he_talked() {
        let links = UnsubscribeLinks::new("https://chat.example", [b"secret".to_vec()]);
        let letters = Letters::new("https://admin.example", "https://chat.example", links, Language::Korean);
        for (domains, page) in [
            (Some("shop.example"), "https://shop.example/"),
            (Some("*.shop.example, www.shop.example:8443"), "https://www.shop.example:8443/"),
            (Some("localhost:3000"), "http://localhost:3000/"),
            (Some("*.shop.example"), "https://chat.example"),
            (None, "https://chat.example"),
        ] {
            assert_eq!(letters.page_of(domains), page, "{domains:?}");
        }
    }
}
