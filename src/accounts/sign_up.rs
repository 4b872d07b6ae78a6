//! Signing up (SPEC 2): an address is checked, a code is mailed to it, the code comes back, and there is a host.
//!
//! What has been done so far is in a signed token that the client carries, and what must be counted is in SQL: any node does
//! the next step. **Invariant:** a host is made only of an address that showed its code within [`CONFIRMATION_TTL`], and
//! once.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::rules::{self, is_email};
use super::{Accounts, CreateHostError, Fault, NewAccount, hex};
use crate::domain::Host;
use crate::mail::{Language, Letter};
use crate::protocol::api::FieldErrors;
use crate::store::{CodeOutcome, StoreError, Verification};

/// How long a check is remembered.
pub const CHECK_TTL: TimeDelta = TimeDelta::hours(1);

/// How long a code is good.
const CODE_TTL: TimeDelta = TimeDelta::minutes(5);

/// How long a confirmation is good.
const CONFIRMATION_TTL: TimeDelta = TimeDelta::minutes(10);

/// Codes have six digits.
const CODES: u64 = 1_000_000;

/// What the token of a sign-up is called, so that it is good for nothing else.
const KIND: &str = "sign_up";

/// How far somebody is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    token_type: String,
    /// The address that was free.
    email: String,
    /// The mail that was sent to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ticket: Option<String>,
    exp: i64,
}

/// Why a step cannot be done.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignUpError {
    /// The step before has not been done, or is too long ago.
    #[error("{0}")]
    TooEarly(&'static str),
    /// The code is another.
    #[error("the code is wrong")]
    WrongCode,
    /// As when a host is made.
    #[error(transparent)]
    Create(#[from] CreateHostError),
}

impl From<Fault> for SignUpError {
    fn from(fault: Fault) -> Self {
        Self::Create(fault.into())
    }
}

impl From<StoreError> for SignUpError {
    fn from(error: StoreError) -> Self {
        Fault::from(error).into()
    }
}

impl Accounts {
    /// Whether an address is free. Returns the token that remembers it.
    ///
    /// # Errors
    /// [`CreateHostError`].
    pub async fn check_email(&self, email: &str) -> Result<String, CreateHostError> {
        if !is_email(email) {
            let why = ("email", "is not an e-mail address".to_owned());
            return Err(CreateHostError::Invalid(FieldErrors::from([why])));
        }
        if self.store.credentials(email).await.map_err(Fault::from)?.is_some() {
            return Err(CreateHostError::EmailTaken);
        }
        let exp = (self.clock.now() + CHECK_TTL).timestamp();
        Ok(self.progress_token(email, None, exp)?)
    }

    /// Mails a code to an address that was checked. Returns the token that remembers it.
    ///
    /// # Errors
    /// [`SignUpError`].
    pub async fn mail_code(
        &self,
        email: &str,
        progress: Option<&str>,
        language: Language,
    ) -> Result<String, SignUpError> {
        let now = self.clock.now();
        let progress = self.progress(progress, now).filter(|progress| is_same(&progress.email, email));
        let progress = progress.ok_or(SignUpError::TooEarly("Check this e-mail address first."))?;
        if self.store.credentials(email).await?.is_some() {
            return Err(CreateHostError::EmailTaken.into());
        }
        let (ticket, until) = (self.random_token(), now + CODE_TTL);
        let code = format!("{:06}", self.chance.below(CODES));
        let verification = Verification {
            code_hash: code_hash(&ticket, &code),
            ticket: ticket.clone(),
            email: progress.email.clone(),
            expires_at: until,
        };
        let mail = self.letter(&Letter::Verification { code }, &progress.email, language, until)?;
        self.store.begin_verification(&verification, &mail, now).await?;
        self.mail.wake();
        Ok(self.progress_token(&progress.email, Some(ticket), progress.exp)?)
    }

    /// Takes the code.
    ///
    /// # Errors
    /// [`SignUpError`].
    pub async fn confirm_email(&self, code: &str, progress: Option<&str>) -> Result<(), SignUpError> {
        let now = self.clock.now();
        let ticket = self.progress(progress, now).and_then(|progress| progress.ticket);
        let ticket = ticket.ok_or(SignUpError::TooEarly("Ask for a code first."))?;
        match self.store.try_code(&ticket, &code_hash(&ticket, code.trim()), now).await? {
            CodeOutcome::Right => Ok(()),
            CodeOutcome::Wrong => Err(SignUpError::WrongCode),
            CodeOutcome::Over => Err(SignUpError::TooEarly("This code has ended: ask for another.")),
        }
    }

    /// Makes a host of a confirmed address.
    ///
    /// # Errors
    /// [`SignUpError`].
    pub async fn sign_up(&self, account: NewAccount, progress: Option<&str>) -> Result<Host, SignUpError> {
        let service_domain = rules::check(&account).map_err(CreateHostError::Invalid)?;
        let now = self.clock.now();
        let (too_early, since) = (SignUpError::TooEarly("Confirm this e-mail address first."), now - CONFIRMATION_TTL);
        let progress = self.progress(progress, now).filter(|progress| is_same(&progress.email, &account.email));
        let Some(ticket) = progress.and_then(|progress| progress.ticket) else { return Err(too_early) };
        // Nobody makes the server hash passwords for nothing.
        if !self.store.is_confirmed(&ticket, &account.email, since).await? {
            return Err(too_early);
        }
        let host = self.new_host(account, service_domain).await?;
        match self.store.create_confirmed_host(&host, &ticket, since, now).await {
            Ok(Some(host)) => Ok(host),
            Ok(None) => Err(too_early),
            Err(StoreError::Conflict) => Err(CreateHostError::EmailTaken.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn progress_token(&self, email: &str, ticket: Option<String>, exp: i64) -> Result<String, Fault> {
        let progress = Progress { token_type: KIND.to_owned(), email: email.to_owned(), ticket, exp };
        self.keys.sign_claims(&progress).map_err(|error| Fault::Internal(error.to_string()))
    }

    fn progress(&self, token: Option<&str>, now: DateTime<Utc>) -> Option<Progress> {
        let progress: Progress = self.keys.read_claims(token?).ok()?;
        (progress.token_type == KIND && now.timestamp() < progress.exp).then_some(progress)
    }
}

fn is_same(email: &str, other: &str) -> bool {
    email.to_lowercase() == other.trim().to_lowercase()
}

/// With the ticket, so that nobody has a list of all codes.
fn code_hash(ticket: &str, code: &str) -> String {
    hex(&Sha256::new().chain_update(ticket).chain_update(code).finalize())
}
