//! E-mail address of a room's guest (SPEC 8).

use super::{RoomError, Rooms};
use crate::domain::{HostId, RoomName};
use crate::outbound::mail::Language;

impl Rooms {
    /// Sets the e-mail address of the guest in a room of `host`, and the language of the e-mails. Other nodes keep
    /// their cached entry of the room for up to a minute: a guest who reads a message there and leaves within that
    /// minute is e-mailed about it nevertheless.
    ///
    /// # Errors
    /// [`RoomError::NotFound`], [`RoomError::NotYours`], [`RoomError::Unavailable`].
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
