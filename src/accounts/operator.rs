//! Operator actions on an account: disable, enable, set the password.
//!
//! Each action has several steps, of which the first commits the change. All steps are idempotent: after a [`Fault`]
//! the action must be repeated.

use super::rules::{MAX_PASSWORD_LEN, MIN_PASSWORD_CHARS};
use super::{Accounts, Fault};
use crate::domain::Control;
use crate::domain::{Host, HostId};
use crate::store::DeactivatedBy;

/// Why a password could not be set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetPasswordError {
    /// The password is too short or too long.
    #[error("the password {0}")]
    Invalid(&'static str),
    /// A dependency failed; the password may have been set. See [`Fault`].
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Accounts {
    /// Deactivates an account until an operator enables it: the host cannot restore it. Returns `None` if there is no
    /// such host.
    ///
    /// # Errors
    /// Returns a [`Fault`] if a dependency fails.
    pub async fn disable_host(&self, id: HostId) -> Result<Option<Host>, Fault> {
        self.deactivate(id, DeactivatedBy::Operator).await
    }

    /// Deactivates an account: its keys and tokens become invalid, its logins end, its sockets close. Returns `None` if
    /// there is no such host.
    pub(super) async fn deactivate(&self, id: HostId, by: DeactivatedBy) -> Result<Option<Host>, Fault> {
        let now = self.clock.now();
        self.store.hosts().deactivate(id, by, now).await?;
        let ended = self.store.logins().end_others(id, None, now).await?;
        self.hosts.evict(id);
        (self.publish)(Control::HostDisabled { host: id }).await;
        // Otherwise, a node with a cached login would accept the login again if the account is enabled within seconds.
        for sid in ended {
            self.ended(sid).await;
        }
        Ok(self.store.hosts().get(id).await?)
    }

    /// Reactivates an account, whether the host or an operator deactivated it. The host has to log in again. Returns
    /// `None` if there is no such host.
    ///
    /// # Errors
    /// Returns a [`Fault`] if a dependency fails.
    pub async fn enable_host(&self, id: HostId) -> Result<Option<Host>, Fault> {
        self.store.hosts().activate(id, self.clock.now()).await?;
        self.host_changed(id).await;
        Ok(self.store.hosts().get(id).await?)
    }

    /// Sets a password and ends all logins of the account. Returns `None` if there is no such host.
    ///
    /// # Errors
    /// Returns a [`SetPasswordError`] if the password is too short or too long, or a dependency fails.
    pub async fn set_password(&self, id: HostId, password: &str) -> Result<Option<Host>, SetPasswordError> {
        if password.chars().count() < MIN_PASSWORD_CHARS {
            return Err(SetPasswordError::Invalid("needs at least 8 characters"));
        }
        if password.len() > MAX_PASSWORD_LEN {
            return Err(SetPasswordError::Invalid("is too long"));
        }
        let hash = self.passwords.hash(password).await.map_err(Fault::from)?;
        self.store.passwords().set_hash(id, &hash).await.map_err(Fault::from)?;
        self.end_logins(id, None).await?;
        Ok(self.store.hosts().get(id).await.map_err(Fault::from)?)
    }
}
