//! Operator actions on an account: disable, enable, set the password.
//!
//! The first step of each action commits the change, and the later steps publish it. All steps are idempotent. If an
//! action returns a [`Fault`], the caller must repeat the action.

use super::rules::{MAX_PASSWORD_LEN, MIN_PASSWORD_CHARS};
use super::{Accounts, Fault};
use crate::domain::Control;
use crate::domain::{Host, HostId};
use crate::store::DeactivatedBy;

/// Reason why a password could not be set.
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
    /// Deactivates an account until an operator enables it. The host cannot restore the account. Returns the host, or
    /// `None` if there is no such host.
    ///
    /// # Errors
    /// Returns a [`Fault`] if a dependency fails.
    pub async fn disable_host(&self, id: HostId) -> Result<Option<Host>, Fault> {
        self.deactivate(id, DeactivatedBy::Operator).await
    }

    /// Deactivates an account: its keys and tokens become invalid, its logins are revoked, and its sockets are closed.
    /// Returns the host, or `None` if there is no such host.
    pub(super) async fn deactivate(&self, id: HostId, by: DeactivatedBy) -> Result<Option<Host>, Fault> {
        let now = self.clock.now();
        self.store.hosts().deactivate(id, by, now).await?;
        let ended = self.store.logins().end_others(id, None, now).await?;
        self.hosts.evict(id);
        (self.publish)(Control::HostDisabled { host: id }).await;
        // The revocations are published, because a node may have cached one of these logins as active. If the account
        // is enabled again within seconds, that node would otherwise accept the login.
        for sid in ended {
            self.ended(sid).await;
        }
        Ok(self.store.hosts().get(id).await?)
    }

    /// Reactivates an account, whether the host or an operator deactivated it. The host must log in again. Returns the
    /// host, or `None` if there is no such host.
    ///
    /// # Errors
    /// Returns a [`Fault`] if a dependency fails.
    pub async fn enable_host(&self, id: HostId) -> Result<Option<Host>, Fault> {
        self.store.hosts().activate(id, self.clock.now()).await?;
        self.host_changed(id).await;
        Ok(self.store.hosts().get(id).await?)
    }

    /// Sets a password and revokes all logins of the account. Returns the host, or `None` if there is no such host.
    ///
    /// # Errors
    /// Returns a [`SetPasswordError`] if the password is too short or too long, or if a dependency fails.
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
