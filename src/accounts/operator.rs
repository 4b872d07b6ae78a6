//! What an operator does to an account, without its owner: switch it off and on, give it another password.
//!
//! Everything here may be repeated, and has to be after a [`Fault`]: it is done in steps, of which the first decides.

use super::rules::{MAX_PASSWORD_LEN, MIN_PASSWORD_CHARS};
use super::{Accounts, Fault};
use crate::control::Control;
use crate::domain::{Host, HostId};
use crate::store::By;

/// Why an account has no new password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetPasswordError {
    /// The password breaks a rule.
    #[error("the password {0}")]
    Invalid(&'static str),
    /// See [`Fault`]: it may have been set.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Accounts {
    /// Deactivates an account until an operator takes it back: its owner cannot restore it. `None` if there is no such host.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn disable_host(&self, id: HostId) -> Result<Option<Host>, Fault> {
        self.deactivate(id, By::Operator).await
    }

    /// His keys and tokens open nothing, his logins end, his sockets close. `None` if there is no such host.
    pub(super) async fn deactivate(&self, id: HostId, by: By) -> Result<Option<Host>, Fault> {
        let now = self.clock.now();
        self.store.deactivate(id, by, now).await?;
        let ended = self.store.end_other_logins(id, None, now).await?;
        (self.announce)(Control::HostDisabled { host: id }).await;
        // Else a node that remembers a login would take it for alive, should the account be active again in a moment.
        for sid in ended {
            self.ended(sid).await;
        }
        Ok(self.store.host(id).await?)
    }

    /// Takes a deactivation back, whoever it came from. He has to log in again. `None` if there is no such host.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn enable_host(&self, id: HostId) -> Result<Option<Host>, Fault> {
        self.store.activate(id, self.clock.now()).await?;
        (self.announce)(Control::ConfigChanged { host: id }).await;
        Ok(self.store.host(id).await?)
    }

    /// Sets a password and ends all logins that began with the one before. `None` if there is no such host.
    ///
    /// # Errors
    /// [`SetPasswordError`].
    pub async fn set_password(&self, id: HostId, password: &str) -> Result<Option<Host>, SetPasswordError> {
        if password.chars().count() < MIN_PASSWORD_CHARS {
            return Err(SetPasswordError::Invalid("needs at least 8 characters"));
        }
        if password.len() > MAX_PASSWORD_LEN {
            return Err(SetPasswordError::Invalid("is too long"));
        }
        let hash = self.passwords.hash(password).await.map_err(Fault::from)?;
        self.store.set_password_hash(id, &hash).await.map_err(Fault::from)?;
        self.end_logins(id, None).await?;
        Ok(self.store.host(id).await.map_err(Fault::from)?)
    }
}
