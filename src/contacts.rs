//! Contacts: guests who left an address, so that an answer reaches them when they are gone (SPEC 8), and how they are forgotten
//! again.

mod link;

use std::sync::Arc;

use crate::clock::Clock;
use crate::mail::Language;
use crate::store::{RoomRow, Store, StoreError};

pub use link::UnsubscribeLinks;
use link::Unsubscription;

/// The service.
#[derive(Clone)]
pub struct Contacts {
    store: Store,
    clock: Arc<dyn Clock>,
    links: UnsubscribeLinks,
}

impl std::fmt::Debug for Contacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contacts").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Contacts {
    /// Over a store; `links` are what mails carry.
    pub fn new(store: Store, clock: Arc<dyn Clock>, links: UnsubscribeLinks) -> Self {
        Self { store, clock, links }
    }

    /// Notes where a room's guest is reached. `false`: there is no such room.
    ///
    /// # Errors
    /// As of the store.
    pub async fn set(&self, room: impl Into<RoomRow>, email: &str, language: Language) -> Result<bool, StoreError> {
        self.store.set_contact(room, email, language.code(), self.clock.now()).await
    }

    /// What a link's token asks for; `None` if it is none of ours. Nothing is looked up.
    pub fn read(&self, token: &str) -> Option<Unsubscription> {
        self.links.read(token)
    }

    /// Forgets the address that a link was mailed to. Another that the guest left since stays; doing it twice is harmless.
    ///
    /// # Errors
    /// As of the store.
    pub async fn unsubscribe(&self, asked: &Unsubscription) -> Result<(), StoreError> {
        match self.store.contact(asked.room).await? {
            Some(email) if asked.is_of(&email) => self.store.forget_contact(asked.room, &email).await,
            Some(_) | None => Ok(()),
        }
    }
}
