//! Contacts: e-mail addresses that guests leave to be notified of messages while they are absent, and the consent of
//! the owners of these addresses (SPEC 8).

mod link;

use std::sync::Arc;

use crate::domain::clock::Clock;
use crate::outbound::mail::MailWaker;
use crate::store::{Store, StoreError, mailbox_key};

pub use crate::store::ConsentPair;
pub use link::MailLinks;
use link::Unsubscription;

/// Stores contacts and records consent. Clones share the store.
#[derive(Clone)]
pub struct Contacts {
    store: Store,
    clock: Arc<dyn Clock>,
    links: MailLinks,
    mail: MailWaker,
}

impl std::fmt::Debug for Contacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contacts").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Contacts {
    /// Creates the service. `links` signs and verifies the links in e-mails; `mail` wakes the mail dispatcher.
    pub fn new(store: Store, clock: Arc<dyn Clock>, links: MailLinks, mail: MailWaker) -> Self {
        Self { store, clock, links, mail }
    }

    /// Verifies the token of an unsubscribe link and returns what the link refers to, or `None` if its signature is
    /// invalid. Does not access the store.
    pub fn read_unsubscribe(&self, token: &str) -> Option<Unsubscription> {
        self.links.read_unsubscribe(token)
    }

    /// Verifies the token of a consent link and returns its pair of host and mailbox, or `None` if its signature is
    /// invalid. Does not access the store.
    pub fn read_consent(&self, token: &str) -> Option<ConsentPair> {
        self.links.read_consent(token)
    }

    /// Returns the link with which the owner of a mailbox gives consent, or `None` if there is no secret with which to
    /// sign it.
    pub fn consent_link(&self, pair: &ConsentPair) -> Option<String> {
        self.links.consent(pair)
    }

    /// Records consent. The notifications that wait for it become due. Idempotent.
    ///
    /// # Errors
    /// Returns the error of the store if the database fails.
    pub async fn consent(&self, pair: &ConsentPair) -> Result<(), StoreError> {
        self.store.consents().grant(pair, self.clock.now()).await?;
        self.mail.wake();
        Ok(())
    }

    /// Withdraws the consent of a mailbox to e-mail from a host. Idempotent. Returns the pair. Returns `None` if the
    /// link is from an earlier release and its room was deleted, has no address or has another address.
    ///
    /// # Errors
    /// Returns the error of the store if the database fails.
    pub async fn unsubscribe(&self, asked: &Unsubscription) -> Result<Option<ConsentPair>, StoreError> {
        let pair = match asked {
            Unsubscription::Pair(pair) => pair.clone(),
            Unsubscription::Room(of_room) => {
                let Some(email) = self.store.contacts().get(of_room.room).await?.filter(|email| of_room.is_for(email))
                else {
                    return Ok(None);
                };
                let Some(room) = self.store.rooms().get(of_room.room).await? else { return Ok(None) };
                ConsentPair { host: room.host, mailbox: mailbox_key(&email) }
            }
        };
        self.store.consents().withdraw(&pair, self.clock.now()).await?;
        Ok(Some(pair))
    }
}
