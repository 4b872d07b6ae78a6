//! Password change, forgotten passwords, leaving and restoring an account (SPEC 2).
//!
//! A reset request does not replace the password. It e-mails a temporary password ([`temporary`](super::temporary)).
//! Logging in with the temporary password replaces the permanent one.

use chrono::TimeDelta;
use subtle::ConstantTimeEq as _;

use super::rules::{MAX_PASSWORD_LEN, MIN_PASSWORD_CHARS, is_email};
use super::temporary::temporary_hash;
use super::{Accounts, Fault};
use crate::domain::{Host, HostId};
use crate::outbound::mail::{EmailContent, Language};
use crate::protocol::api::FieldErrors;
use crate::store::{Credentials, DeactivatedBy, PasswordReplacement, StoreError, TemporaryPassword};

/// Lifetime of an e-mailed temporary password.
const TEMPORARY_TTL: TimeDelta = TimeDelta::hours(1);

/// Purpose of an e-mailed temporary password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryKind {
    /// Access to an active account.
    Password,
    /// Reactivation of an account that its host deactivated.
    Account,
}

/// Reason why a password change or a deactivation was rejected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordChangeError {
    /// The current password is wrong, or another call changed it during the check.
    #[error("wrong password")]
    WrongPassword,
    /// The new password is invalid.
    #[error("invalid: {0:?}")]
    Invalid(FieldErrors),
    /// A dependency failed; see [`Fault`].
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<StoreError> for PasswordChangeError {
    fn from(error: StoreError) -> Self {
        Fault::from(error).into()
    }
}

/// Result of comparing a password with the temporary password of an account.
pub(super) enum TemporaryLogin {
    /// The password matched and is now the host's password. Contains the host and the new hash.
    Accepted(Box<Host>, String),
    /// The password matched, but another call used or replaced the temporary password first.
    Superseded,
    /// The password did not match, or the account has no valid temporary password.
    Rejected,
}

impl Accounts {
    /// E-mails a temporary password that is valid for an hour, if a matching account exists. The result does not reveal
    /// whether the account exists.
    ///
    /// # Errors
    /// Returns a [`Fault`] if a dependency fails.
    pub async fn mail_password(&self, email: &str, recovery: RecoveryKind, language: Language) -> Result<(), Fault> {
        if !is_email(email) {
            return Ok(());
        }
        let now = self.clock.now();
        let known = self.store.hosts().credentials(email).await?;
        let password = self.temporary_password(known.as_ref(), now);
        let temporary = TemporaryPassword { hash: temporary_hash(&password), until: now + TEMPORARY_TTL };
        let letter = match recovery {
            RecoveryKind::Password => EmailContent::PasswordReset { password },
            RecoveryKind::Account => EmailContent::AccountRestore { password },
        };
        let mail = self.letter(&letter, email, language, temporary.until)?;
        let is_deleted = recovery == RecoveryKind::Account;
        self.store.passwords().mail_temporary(email, is_deleted, &temporary, &mail, now).await?;
        self.mail.wake();
        Ok(())
    }

    /// Attempts a login with a temporary password. A matching password becomes the permanent one, reactivates a
    /// deactivated account and revokes all logins.
    pub(super) async fn take_temporary(&self, known: &Credentials, password: &str) -> Result<TemporaryLogin, Fault> {
        let now = self.clock.now();
        let Some(temporary) = known.temporary.as_ref().filter(|temporary| now < temporary.until) else {
            return Ok(TemporaryLogin::Rejected);
        };
        let hash = temporary_hash(password);
        if !bool::from(hash.as_bytes().ct_eq(temporary.hash.as_bytes())) {
            return Ok(TemporaryLogin::Rejected);
        }
        let password_hash = self.passwords.hash(password.trim()).await?;
        if self.store.passwords().accept_temporary(known.host.id, temporary, &password_hash, now).await?
            == PasswordReplacement::Outdated
        {
            return Ok(TemporaryLogin::Superseded);
        }
        self.end_logins(known.host.id, None).await?;
        self.host_changed(known.host.id).await;
        let host = self.store.hosts().get(known.host.id).await?;
        Ok(host.map_or(TemporaryLogin::Rejected, |host| TemporaryLogin::Accepted(Box::new(host), password_hash)))
    }

    /// Changes a password and revokes all logins except `sid`.
    ///
    /// # Errors
    /// Returns a [`PasswordChangeError`] if the current password is wrong, the new one is invalid, or a dependency
    /// fails.
    pub async fn change_password(
        &self,
        id: HostId,
        sid: &str,
        current: &str,
        new: &str,
    ) -> Result<Host, PasswordChangeError> {
        let known = self.check_password(id, current).await?;
        let wrong = |why: &str| PasswordChangeError::Invalid(FieldErrors::from([("newPassword", why.to_owned())]));
        if new == current {
            return Err(wrong("is the current password"));
        }
        if new.chars().count() < MIN_PASSWORD_CHARS {
            return Err(wrong("needs at least 8 characters"));
        }
        if new.len() > MAX_PASSWORD_LEN {
            return Err(wrong("is too long"));
        }
        let hash = self.passwords.hash(new).await.map_err(Fault::from)?;
        let replaced = self.store.passwords().change(id, &known.password_hash, &hash, self.clock.now()).await?;
        if replaced == PasswordReplacement::Outdated {
            return Err(PasswordChangeError::WrongPassword);
        }
        self.end_logins(id, Some(sid)).await?;
        self.store.hosts().get(id).await?.ok_or(PasswordChangeError::WrongPassword)
    }

    /// Deactivates an account at the request of its host and revokes all its logins.
    ///
    /// # Errors
    /// Returns a [`PasswordChangeError`] if the password is wrong or a dependency fails.
    pub async fn leave(&self, id: HostId, password: &str) -> Result<Host, PasswordChangeError> {
        self.check_password(id, password).await?;
        self.deactivate(id, DeactivatedBy::Host).await?.ok_or(PasswordChangeError::WrongPassword)
    }

    async fn check_password(&self, id: HostId, password: &str) -> Result<Credentials, PasswordChangeError> {
        let known = self.store.hosts().credentials_of(id).await?.ok_or(PasswordChangeError::WrongPassword)?;
        let password = if password.len() > MAX_PASSWORD_LEN { "" } else { password };
        let right = self.passwords.verify(password, Some(known.password_hash.clone())).await.map_err(Fault::from)?;
        if right { Ok(known) } else { Err(PasswordChangeError::WrongPassword) }
    }

    pub(super) async fn end_logins(&self, id: HostId, keep: Option<&str>) -> Result<(), Fault> {
        for sid in self.store.logins().end_others(id, keep, self.clock.now()).await? {
            self.ended(sid).await;
        }
        Ok(())
    }
}
