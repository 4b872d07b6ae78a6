//! Sign-up (SPEC 2): check an address, e-mail a code to it, confirm the code, create the host.
//!
//! The client sends its progress in a signed token, and the attempts at a code are counted in the database. Any node
//! can therefore handle the next step. **Invariant:** a host is created only for an address whose code was confirmed
//! within [`CONFIRMATION_TTL`], and only once per confirmation.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::rules::{self, is_email};
use super::{Accounts, CreateHostError, Fault, NewAccount, hex};
use crate::domain::Host;
use crate::outbound::mail::{EmailContent, Language};
use crate::protocol::api::FieldErrors;
use crate::store::{CodeOutcome, PendingVerification, StoreError};

/// Policy for the creation of accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SignUp {
    /// Visitors may create accounts.
    #[default]
    Open,
    /// Only `pintalk user create` creates accounts.
    Closed,
}

impl SignUp {
    /// Returns whether visitors may create accounts.
    pub fn is_open(self) -> bool {
        self == Self::Open
    }
}

/// Time for which an address check is valid.
pub const CHECK_TTL: TimeDelta = TimeDelta::hours(1);

/// Time for which a code is valid.
const CODE_TTL: TimeDelta = TimeDelta::minutes(5);

/// Time for which a confirmation is valid.
const CONFIRMATION_TTL: TimeDelta = TimeDelta::minutes(10);

/// Number of possible codes. A code has six digits.
const CODES: u64 = 1_000_000;

/// Token type of sign-up tokens. Tokens of this type are not valid for other purposes.
const KIND: &str = "sign_up";

/// Progress of a sign-up, as signed in the client's token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    token_type: String,
    /// Address that had no account when it was checked.
    email: String,
    /// Secret id of the verification in the database. `None` until a code has been e-mailed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ticket: Option<String>,
    exp: i64,
}

/// Reason why a step of the sign-up was rejected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignUpError {
    /// The preceding step is missing or has expired.
    #[error("{0}")]
    TooEarly(&'static str),
    /// The code is wrong.
    #[error("the code is wrong")]
    WrongCode,
    /// The address is taken, a field is invalid, or a dependency failed.
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
    /// Checks that an address has no account yet. Returns the token for the next step.
    ///
    /// # Errors
    /// Returns a [`CreateHostError`] if the address is malformed or taken, or if a dependency fails.
    pub async fn check_email(&self, email: &str) -> Result<String, CreateHostError> {
        if !is_email(email) {
            let why = ("email", "is not an e-mail address".to_owned());
            return Err(CreateHostError::Invalid(FieldErrors::from([why])));
        }
        if self.store.hosts().credentials(email).await.map_err(Fault::from)?.is_some() {
            return Err(CreateHostError::EmailTaken);
        }
        let exp = (self.clock.now() + CHECK_TTL).timestamp();
        Ok(self.progress_token(email, None, exp)?)
    }

    /// E-mails a code to an address that was checked. Returns the token for the next step.
    ///
    /// # Errors
    /// Returns a [`SignUpError`] if the preceding step is missing, the address is taken, or a dependency fails.
    pub async fn mail_code(
        &self,
        email: &str,
        progress: Option<&str>,
        language: Language,
    ) -> Result<String, SignUpError> {
        let now = self.clock.now();
        let progress = self.progress(progress, now).filter(|progress| is_same(&progress.email, email));
        let progress = progress.ok_or(SignUpError::TooEarly("Check this e-mail address first."))?;
        if self.store.hosts().credentials(email).await?.is_some() {
            return Err(CreateHostError::EmailTaken.into());
        }
        let (ticket, until) = (self.random_token(), now + CODE_TTL);
        let code = format!("{:06}", self.rng.below(CODES));
        let verification = PendingVerification {
            code_hash: code_hash(&ticket, &code),
            ticket: ticket.clone(),
            email: progress.email.clone(),
            expires_at: until,
        };
        let mail = self.letter(&EmailContent::Verification { code }, &progress.email, language, until)?;
        self.store.verifications().begin(&verification, &mail, now).await?;
        self.mail.wake();
        Ok(self.progress_token(&progress.email, Some(ticket), progress.exp)?)
    }

    /// Checks the code that the client received by e-mail.
    ///
    /// # Errors
    /// Returns a [`SignUpError`] if the preceding step is missing, the code is wrong, or a dependency fails.
    pub async fn confirm_email(&self, code: &str, progress: Option<&str>) -> Result<(), SignUpError> {
        let now = self.clock.now();
        let ticket = self.progress(progress, now).and_then(|progress| progress.ticket);
        let ticket = ticket.ok_or(SignUpError::TooEarly("Request a code first."))?;
        match self.store.verifications().try_code(&ticket, &code_hash(&ticket, code.trim()), now).await? {
            CodeOutcome::Right => Ok(()),
            CodeOutcome::Wrong => Err(SignUpError::WrongCode),
            CodeOutcome::Over => Err(SignUpError::TooEarly("This code has expired: request another.")),
        }
    }

    /// Creates a host for a confirmed address.
    ///
    /// # Errors
    /// Returns a [`SignUpError`] if the preceding step is missing, the address is taken, a field is invalid, or a
    /// dependency fails.
    pub async fn sign_up(&self, account: NewAccount, progress: Option<&str>) -> Result<Host, SignUpError> {
        let service_domain = rules::check(&account).map_err(CreateHostError::Invalid)?;
        let now = self.clock.now();
        let (too_early, since) = (SignUpError::TooEarly("Confirm this e-mail address first."), now - CONFIRMATION_TTL);
        let progress = self.progress(progress, now).filter(|progress| is_same(&progress.email, &account.email));
        let Some(ticket) = progress.and_then(|progress| progress.ticket) else { return Err(too_early) };
        // The confirmation is checked before hashing, so that unconfirmed callers cannot cause hashing load.
        if !self.store.verifications().is_confirmed(&ticket, &account.email, since).await? {
            return Err(too_early);
        }
        let host = self.new_host(account, service_domain).await?;
        match self.store.verifications().create_host(&host, &ticket, since, now).await {
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

/// Returns the hash of a code. The ticket is the salt, so that one precomputed table does not cover all tickets.
fn code_hash(ticket: &str, code: &str) -> String {
    hex(Sha256::new().chain_update(ticket).chain_update(code).finalize())
}
