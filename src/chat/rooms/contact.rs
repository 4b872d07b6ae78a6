//! Sets the e-mail address of a room's guest (SPEC 8).

use super::{RoomError, Rooms};
use crate::domain::{HostId, RoomName};
use crate::outbound::mail::Language;

impl Rooms {
    /// Sets the e-mail address of the guest in a room of `host`, and the language of the e-mails. Other nodes may use
    /// their cached value of the room for up to a minute. If the guest reads a message on such a node within that
    /// minute, PinTalk may still e-mail them about that message.
    ///
    /// # Errors
    /// Returns [`RoomError::NotFound`], [`RoomError::NotYours`] or [`RoomError::Unavailable`].
    pub async fn set_contact(
        &self,
        host: HostId,
        name: RoomName,
        email: &str,
        language: Language,
    ) -> Result<(), RoomError> {
        let owner = self.owner(name).await?.ok_or(RoomError::NotFound)?;
        if owner.host != host {
            return Err(RoomError::NotYours);
        }
        if !self.store.contacts().set(owner.key, email, language.code(), self.clock.now()).await? {
            return Err(RoomError::NotFound);
        }
        self.owners.invalidate(&name).await;
        Ok(())
    }
}
