//! Accounts: sign-up, login, tokens, passwords and keys of hosts (SPEC 2).
//!
//! A **login** is one row in the database, and its tokens refer to it by `sid`. An access token is valid until it
//! expires or its login ends. A refresh token contains the `sid` and the generation of its login. Each use increments
//! the generation.
//!
//! **Invariants:** every revocation of a login is published to all nodes ([`PublishControl`]), so that the sockets of
//! the login close and no cache keeps it active. Every operation that changes a host removes the host from this node's
//! cache ([`hosts`]) and publishes the change. Callers do not have to do so.

mod device;
mod django;
mod hashing;
pub mod hosts;
mod keys;
mod legacy_hashes;
pub mod limits;
mod logins;
pub(crate) mod metrics;
mod operator;
pub mod passwords;
mod profile;
pub mod profile_images;
mod recovery;
mod rules;
mod sign_up;
mod temporary;
pub mod tokens;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use futures_util::future::BoxFuture;
use hex::encode as hex;

use crate::domain::Control;
use crate::domain::Rng;
use crate::domain::clock::Clock;
use crate::domain::{Host, HostId, HostUuid};
use crate::outbound::mail::{EmailContent, Language, MailWaker};
use crate::protocol::api::FieldErrors;
use crate::store::{NewHost, OutgoingMail, Store, StoreError};

pub use hashing::Source;
use hosts::Hosts;
pub use keys::DEFAULT_KEY_GRACE;
use logins::SeenLogin;
pub use logins::{AuthError, Login, LoginError, Tokens};
pub use operator::SetPasswordError;
use passwords::{PasswordError, Passwords};
pub use profile::{ProfileChangeError, Profiles};
pub use recovery::{PasswordChangeError, RecoveryKind};
pub(crate) use rules::is_email;
pub use sign_up::{CHECK_TTL, SignUp, SignUpError};
pub use temporary::readable_password;
pub use tokens::AccessClaims;
use tokens::TokenKeys;

/// Function that publishes an account change to all nodes. It reports no error to the caller: the change is already
/// committed, and nodes read the database again when their caches expire.
pub type PublishControl = Arc<dyn Fn(Control) -> BoxFuture<'static, ()> + Send + Sync>;

/// Creates hosts, logs them in and issues their tokens. Clones share the login cache.
#[derive(Clone)]
pub struct Accounts {
    store: Store,
    hosts: Hosts,
    clock: Arc<dyn Clock>,
    rng: Rng,
    keys: Arc<TokenKeys>,
    passwords: Passwords,
    key_grace: Duration,
    publish: PublishControl,
    mail: MailWaker,
    logins: Arc<DashMap<String, SeenLogin>>,
}

/// Fields of an account to be created.
pub struct NewAccount {
    /// E-mail address, also the login name. At most 254 characters.
    pub email: String,
    /// Password in plain text: at least 8 characters, at most 1,024 bytes.
    pub password: String,
    /// Service name, 1 to 50 characters.
    pub service_name: String,
    /// Service description, at most 200 characters.
    pub service_expl: String,
    /// Domains as entered, separated by commas; normalised before they are stored.
    pub service_domain: Option<String>,
}

/// Error of a dependency: the database, the media store, password hashing or signing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The dependency is temporarily unavailable. The caller may retry later.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// An internal error occurred. A retry does not help.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Reason why a host could not be created.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateHostError {
    /// One or more fields are invalid.
    #[error("invalid: {0:?}")]
    Invalid(FieldErrors),
    /// The e-mail address already has an account.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// A dependency failed; see [`Fault`].
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(why) => Fault::Unavailable(why.to_string()),
            StoreError::Conflict => Fault::Internal("the value of a unique key is already in use".to_owned()),
            StoreError::Data(why) => Fault::Internal(why),
        }
    }
}

impl From<PasswordError> for Fault {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Fault::Unavailable(error.to_string()),
            PasswordError::Failed => Fault::Internal(error.to_string()),
        }
    }
}

impl Accounts {
    /// Creates the service over `store`. Tokens are signed and verified with `keys`.
    pub fn new(store: Store, clock: Arc<dyn Clock>, rng: Rng, keys: TokenKeys, publish: PublishControl) -> Self {
        Self {
            hosts: Hosts::new(store.clone()),
            store,
            clock,
            passwords: Passwords::new(rng.clone()),
            rng,
            keys: Arc::new(keys),
            key_grace: DEFAULT_KEY_GRACE,
            publish,
            mail: MailWaker::default(),
            logins: Arc::default(),
        }
    }

    /// Returns the host cache of this node.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Returns a host from the cache, or `None` if the host does not exist or is deactivated.
    ///
    /// # Errors
    /// Returns a [`Fault`] if a dependency fails.
    pub async fn active_host(&self, id: HostId) -> Result<Option<Arc<Host>>, Fault> {
        Ok(self.hosts.by_id(id).await?.filter(|host| !host.is_deleted))
    }

    /// Reads a host from the database, or returns `None` if it does not exist. The cache is not used, because another
    /// node may have just changed the host.
    ///
    /// # Errors
    /// Returns a [`Fault`] if a dependency fails.
    pub async fn read_host(&self, id: HostId) -> Result<Option<Host>, Fault> {
        Ok(self.store.hosts().get(id).await?)
    }

    /// Removes a changed host from the cache of this node and publishes the change to all nodes.
    pub async fn host_changed(&self, host: HostId) {
        self.hosts.evict(host);
        (self.publish)(Control::ConfigChanged { host }).await;
    }

    /// Returns the handle that wakes the mail dispatcher after an e-mail was written to the outbox.
    pub fn mail_waker(&self) -> MailWaker {
        self.mail.clone()
    }

    /// Creates a host with a new pair of service keys.
    ///
    /// # Errors
    /// Returns a [`CreateHostError`] if a field is invalid, the address is taken or a dependency fails.
    pub async fn create_host(&self, account: NewAccount) -> Result<Host, CreateHostError> {
        let service_domain = rules::check(&account).map_err(CreateHostError::Invalid)?;
        let host = self.new_host(account, service_domain).await?;
        self.store.hosts().create(host, self.clock.now()).await.map_err(|error| match error {
            StoreError::Conflict => CreateHostError::EmailTaken,
            StoreError::Unavailable(_) | StoreError::Data(_) => CreateHostError::Fault(error.into()),
        })
    }

    async fn new_host(&self, account: NewAccount, service_domain: Option<String>) -> Result<NewHost, Fault> {
        let password_hash = self.passwords.hash(&account.password).await?;
        let keys = self.new_keys();
        Ok(NewHost {
            email: account.email.trim().to_owned(),
            uuid: HostUuid::from_random(self.rng.bytes()),
            password_hash,
            access_key: keys.access_key,
            secret_key: keys.secret_key,
            service_name: account.service_name.trim().to_owned(),
            service_expl: account.service_expl.trim().to_owned(),
            service_domain,
        })
    }

    fn letter(
        &self,
        letter: &EmailContent,
        to: &str,
        language: Language,
        until: DateTime<Utc>,
    ) -> Result<OutgoingMail, Fault> {
        let mail = letter.write(to, language, self.clock.now(), until);
        mail.ok_or_else(|| Fault::Internal("failed to render an e-mail template".to_owned()))
    }

    /// Returns a random URL-safe string of 22 characters (128 bits).
    fn random_token(&self) -> String {
        HostUuid::from_random(self.rng.bytes()).to_string()
    }
}

#[cfg(test)]
mod tests;
