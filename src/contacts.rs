//! Contacts: addresses that guests leave so that answers reach them while they are absent, and the consent of their owners
//! (SPEC 8).

mod link;

use std::sync::Arc;

use crate::clock::Clock;
use crate::mail::{Language, Waker};
use crate::store::{ConsentPair, RoomRow, Store, StoreError, mailbox_key};

pub use link::MailLinks;
use link::Unsubscription;

/// The service.
#[derive(Clone)]
pub struct Contacts {
    store: Store,
    clock: Arc<dyn Clock>,
    links: MailLinks,
    mail: Waker,
}

impl std::fmt::Debug for Contacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contacts").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Contacts {
    /// Over a store; `links` are what e-mails carry, and `mail` wakes the sender.
    pub fn new(store: Store, clock: Arc<dyn Clock>, links: MailLinks, mail: Waker) -> Self {
        Self { store, clock, links, mail }
    }

    /// Notes where a room's guest is reached. `false`: there is no such room.
    ///
    /// # Errors
    /// As of the store.
    pub async fn set(&self, room: impl Into<RoomRow>, email: &str, language: Language) -> Result<bool, StoreError> {
        self.store.set_contact(room, email, language.code(), self.clock.now()).await
    }

    /// What the token of an unsubscribe link is for; `None` if this installation did not sign it. Nothing is looked up.
    pub fn read_unsubscribe(&self, token: &str) -> Option<Unsubscription> {
        self.links.read_unsubscribe(token)
    }

    /// The pair that the token of a consent link is for; `None` if this installation did not sign it. Nothing is looked up.
    pub fn read_consent(&self, token: &str) -> Option<ConsentPair> {
        self.links.read_consent(token)
    }

    /// The link by which the owner of a mailbox consents.
    pub fn consent_link(&self, pair: &ConsentPair) -> Option<String> {
        self.links.consent(pair)
    }

    /// Records consent and releases what waits for it. Doing it twice is harmless.
    ///
    /// # Errors
    /// As of the store.
    pub async fn consent(&self, pair: &ConsentPair) -> Result<(), StoreError> {
        self.store.grant_consent(pair, self.clock.now()).await?;
        self.mail.wake();
        Ok(())
    }

    /// Withdraws the consent of a mailbox to e-mail from a host. Doing it twice is harmless. Returns the pair; `None` if the
    /// link is one of an earlier release whose room has another address by now, or is gone.
    ///
    /// # Errors
    /// As of the store.
    pub async fn unsubscribe(&self, asked: &Unsubscription) -> Result<Option<ConsentPair>, StoreError> {
        let pair = match asked {
            Unsubscription::Pair(pair) => pair.clone(),
            Unsubscription::Room(of_room) => {
                let Some(email) = self.store.contact(of_room.room).await?.filter(|email| of_room.is_of(email)) else {
                    return Ok(None);
                };
                let Some(room) = self.store.room(of_room.room).await? else { return Ok(None) };
                ConsentPair { host: room.host, mailbox: mailbox_key(&email) }
            }
        };
        self.store.withdraw_consent(&pair, self.clock.now()).await?;
        Ok(Some(pair))
    }
}
