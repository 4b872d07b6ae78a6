//! Passwords that are changed or forgotten, and accounts that end and come back (SPEC 2).
//!
//! A request does not replace a forgotten password: a second one is e-mailed ([`temporary`](super::temporary)), and takes the
//! first one's place when it is used.

use chrono::TimeDelta;
use subtle::ConstantTimeEq as _;

use super::rules::{MAX_PASSWORD_LEN, MIN_PASSWORD_CHARS, is_email};
use super::temporary::temporary_hash;
use super::{Accounts, Fault};
use crate::control::Control;
use crate::domain::{Host, HostId};
use crate::mail::{Language, Letter};
use crate::protocol::api::FieldErrors;
use crate::store::{By, Credentials, Replaced, StoreError, Temporary};

/// How long a password that was mailed is good.
const TEMPORARY_TTL: TimeDelta = TimeDelta::hours(1);

/// What a mailed password is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// An account that goes on.
    Password,
    /// One that had ended.
    Account,
}

/// Why a password stays.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordChangeError {
    /// The present one is another.
    #[error("wrong password")]
    WrongPassword,
    /// The new one breaks a rule.
    #[error("invalid: {0:?}")]
    Invalid(FieldErrors),
    /// See [`Fault`].
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<StoreError> for PasswordChangeError {
    fn from(error: StoreError) -> Self {
        Fault::from(error).into()
    }
}

/// What became of a password that may be one that was mailed.
pub(super) enum Taken {
    /// It is, and it is the host's password now; its hash.
    Yes(Box<Host>, String),
    /// It was until a moment ago: somebody else was faster, perhaps with the same one.
    Gone,
    /// It is not.
    No,
}

impl Accounts {
    /// Mails a password for an hour, if there is such an account. Nobody is told whether there is.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn mail_password(&self, email: &str, forgotten: Forgotten, language: Language) -> Result<(), Fault> {
        if !is_email(email) {
            return Ok(());
        }
        let now = self.clock.now();
        let known = self.store.credentials(email).await?;
        let password = self.temporary_password(known.as_ref(), now);
        let temporary = Temporary { hash: temporary_hash(&password), until: now + TEMPORARY_TTL };
        let letter = match forgotten {
            Forgotten::Password => Letter::PasswordReset { password },
            Forgotten::Account => Letter::AccountRestore { password },
        };
        let mail = self.letter(&letter, email, language, temporary.until)?;
        let is_deleted = forgotten == Forgotten::Account;
        self.store.mail_temporary_password(email, is_deleted, &temporary, &mail, now).await?;
        self.mail.wake();
        Ok(())
    }

    /// Logs in with a password that was mailed: it takes the old one's place, an account that had ended goes on, and what was
    /// logged in with the old one is not any more.
    pub(super) async fn take_temporary(&self, known: &Credentials, password: &str) -> Result<Taken, Fault> {
        let now = self.clock.now();
        let Some(temporary) = known.temporary.as_ref().filter(|temporary| now < temporary.until) else {
            return Ok(Taken::No);
        };
        let hash = temporary_hash(password);
        if !bool::from(hash.as_bytes().ct_eq(temporary.hash.as_bytes())) {
            return Ok(Taken::No);
        }
        let password_hash = self.passwords.hash(password.trim()).await?;
        if self.store.accept_temporary_password(known.host.id, temporary, &password_hash, now).await? == Replaced::Gone
        {
            return Ok(Taken::Gone);
        }
        self.end_logins(known.host.id, None).await?;
        (self.announce)(Control::ConfigChanged { host: known.host.id }).await;
        let host = self.store.host(known.host.id).await?;
        Ok(host.map_or(Taken::No, |host| Taken::Yes(Box::new(host), password_hash)))
    }

    /// Changes a password; whatever else is logged in with the old one is not any more.
    ///
    /// # Errors
    /// [`PasswordChangeError`].
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
            return Err(wrong("is the present one"));
        }
        if new.chars().count() < MIN_PASSWORD_CHARS {
            return Err(wrong("needs at least 8 characters"));
        }
        if new.len() > MAX_PASSWORD_LEN {
            return Err(wrong("is too long"));
        }
        let hash = self.passwords.hash(new).await.map_err(Fault::from)?;
        let replaced = self.store.change_password(id, &known.password_hash, &hash, self.clock.now()).await?;
        if replaced == Replaced::Gone {
            return Err(PasswordChangeError::WrongPassword);
        }
        self.end_logins(id, Some(sid)).await?;
        self.store.host(id).await?.ok_or(PasswordChangeError::WrongPassword)
    }

    /// Ends an account, and all that is logged in to it.
    ///
    /// # Errors
    /// [`PasswordChangeError`].
    pub async fn leave(&self, id: HostId, password: &str) -> Result<Host, PasswordChangeError> {
        self.check_password(id, password).await?;
        self.deactivate(id, By::Himself).await?.ok_or(PasswordChangeError::WrongPassword)
    }

    async fn check_password(&self, id: HostId, password: &str) -> Result<Credentials, PasswordChangeError> {
        let known = self.store.credentials_of(id).await?.ok_or(PasswordChangeError::WrongPassword)?;
        let password = if password.len() > MAX_PASSWORD_LEN { "" } else { password };
        let right = self.passwords.verify(password, Some(known.password_hash.clone())).await.map_err(Fault::from)?;
        if right { Ok(known) } else { Err(PasswordChangeError::WrongPassword) }
    }

    pub(super) async fn end_logins(&self, id: HostId, keep: Option<&str>) -> Result<(), Fault> {
        for sid in self.store.end_other_logins(id, keep, self.clock.now()).await? {
            self.ended(sid).await;
        }
        Ok(())
    }
}
