//! Accounts: sign-up, login, tokens, passwords and keys of hosts (SPEC 2).
//!
//! A **login** is one row in SQL, and its tokens refer to it by `sid`. An access token is valid while its login is
//! active. A refresh token names the login and its generation; each use increments the generation.
//!
//! **Invariant:** every operation that ends a login is announced to all nodes ([`Announce`]), so that its sockets close
//! and no cache keeps it active.

mod device;
mod django;
mod hashing;
pub mod hosts;
mod keys;
pub mod limits;
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

use chrono::{DateTime, TimeDelta, Utc};
use dashmap::DashMap;
use futures_util::future::BoxFuture;

use crate::domain::Control;
use crate::domain::clock::{Chance, Clock};
use crate::domain::{Host, HostUuid};
use crate::outbound::mail::{Language, Letter, Waker};
use crate::protocol::api::FieldErrors;
use crate::store::{Begun, NewHost, OutgoingMail, Rotation, Store, StoreError};

pub use hashing::Source;
pub use keys::DEFAULT_KEY_GRACE;
pub use operator::SetPasswordError;
use passwords::{PasswordError, Passwords};
use recovery::Taken;
pub use recovery::{Forgotten, PasswordChangeError};
pub(crate) use rules::is_email;
use rules::{MAX_EMAIL_LEN, MAX_PASSWORD_LEN};
pub use sign_up::{CHECK_TTL, SignUp, SignUpError};
pub use temporary::readable_password;
pub use tokens::AccessClaims;
use tokens::{ACCESS_TTL, REFRESH_TTL, TokenError, TokenKeys};

/// Period after a refresh token is spent in which its reuse is accepted, as when two tabs refresh at once (SPEC 2).
/// Later reuse is treated as theft.
const REFRESH_GRACE: Duration = Duration::from_secs(10);

/// How long a login found active is cached. It bounds the delay if the announcement of its end does not reach this
/// node.
const ALIVE_TTL: TimeDelta = TimeDelta::seconds(5);

/// How long an ended login is remembered: no access token of the login is valid for longer.
const ENDED_TTL: TimeDelta = ACCESS_TTL;

/// Time limit of the SQL query that checks a login.
const PATIENCE: Duration = Duration::from_secs(2);

/// Maximum number of cached logins, about 10 MB. Once it is reached, entries older than [`ENDED_TTL`] are removed.
const MAX_REMEMBERED: usize = 100_000;

/// Number of attempts at a login whose password or stored hash is changed by another call during the check.
const LOGIN_TRIES: usize = 3;

/// Publishes an account change to all nodes. It reports no error to the caller: the change is already committed in SQL,
/// and nodes query SQL again when their caches expire.
pub type Announce = Arc<dyn Fn(Control) -> BoxFuture<'static, ()> + Send + Sync>;

/// Creates hosts, logs them in and issues their tokens. Clones share the login cache.
#[derive(Clone)]
pub struct Accounts {
    store: Store,
    clock: Arc<dyn Clock>,
    chance: Chance,
    keys: Arc<TokenKeys>,
    passwords: Passwords,
    key_grace: Duration,
    announce: Announce,
    mail: Waker,
    logins: Arc<DashMap<String, Seen>>,
}

/// Cached state of a login and the time of the lookup.
#[derive(Clone, Copy)]
struct Seen {
    at: DateTime<Utc>,
    alive: bool,
}

/// Access token and refresh token of a login.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Access token, sent as `Authorization: Bearer`.
    pub access: String,
    /// Refresh token, stored in a cookie.
    pub refresh: String,
}

/// Result of a successful login.
pub struct Login {
    /// The account that was logged in.
    pub host: Host,
    /// Tokens of the new login.
    pub tokens: Tokens,
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

/// A dependency (SQL, password hashing, signing) failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Temporarily unavailable: retry later.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// Internal error; a retry does not help.
    #[error("internal: {0}")]
    Internal(String),
}

/// Why a login was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Unknown address or wrong password. Responses must not reveal which.
    #[error("wrong e-mail or password")]
    WrongCredentials,
    /// The password is right, but the account is deactivated.
    #[error("the account is deactivated")]
    Deactivated,
    /// A dependency failed; see [`Fault`].
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why a token was rejected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Malformed, not signed by this server, or of another token type.
    #[error("the token is invalid")]
    Invalid,
    /// The token was valid, but has expired.
    #[error("the token has expired")]
    Expired,
    /// The login of the token has ended.
    #[error("the login has ended")]
    Ended,
    /// A dependency failed; see [`Fault`].
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why a host could not be created.
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
            StoreError::Unavailable(why) => Fault::Unavailable(why),
            StoreError::Conflict => Fault::Internal("a unique key is taken".to_owned()),
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

impl From<TokenError> for AuthError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Invalid => AuthError::Invalid,
            TokenError::Expired => AuthError::Expired,
        }
    }
}

impl Accounts {
    /// Creates the service over `store`. Tokens are signed and verified with `keys`.
    pub fn new(store: Store, clock: Arc<dyn Clock>, chance: Chance, keys: TokenKeys, announce: Announce) -> Self {
        Self {
            store,
            clock,
            passwords: Passwords::new(chance.clone()),
            chance,
            keys: Arc::new(keys),
            key_grace: DEFAULT_KEY_GRACE,
            announce,
            mail: Waker::default(),
            logins: Arc::default(),
        }
    }

    /// Returns the handle that wakes the mail dispatcher after an e-mail was written to the outbox.
    pub fn mail_waker(&self) -> Waker {
        self.mail.clone()
    }

    /// Checks a password and starts a login. An unknown address takes as long as a wrong password.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn login(&self, email: &str, password: &str) -> Result<Login, LoginError> {
        self.login_from(Source::default(), email, password).await
    }

    /// [`login`](Self::login) with the origin of the call, which sets its place in the queue for password hashing.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn login_from(&self, source: Source, email: &str, password: &str) -> Result<Login, LoginError> {
        for _ in 0..LOGIN_TRIES {
            if let Some(login) = self.try_login(source, email, password).await? {
                return Ok(login);
            }
        }
        Err(LoginError::WrongCredentials)
    }

    /// Makes one attempt. `None`: the password or its hash was changed by another call during the check.
    async fn try_login(&self, source: Source, email: &str, password: &str) -> Result<Option<Login>, LoginError> {
        let absurd = email.chars().count() > MAX_EMAIL_LEN || password.len() > MAX_PASSWORD_LEN;
        let known = if absurd { None } else { self.store.credentials(email).await.map_err(Fault::from)? };
        let password = if absurd { "" } else { password };
        let hash = known.as_ref().map(|known| known.password_hash.clone());
        let right = self.passwords.of(source).verify(password, hash).await.map_err(Fault::from)?;
        let known = known.ok_or(LoginError::WrongCredentials)?;
        if !passwords::is_readable(&known.password_hash) {
            tracing::error!(host = known.host.id.0, "failed to parse stored password hash, refusing login");
        }
        let (host, hash) = if right && !known.host.is_deleted {
            let hash = self.renew_hash(known.host.id, password, known.password_hash).await;
            (known.host, hash)
        } else {
            match self.take_temporary(&known, password).await? {
                Taken::Yes(host, hash) => (*host, hash),
                Taken::Gone => return Ok(None),
                Taken::No if right => return Err(LoginError::Deactivated),
                Taken::No => return Err(LoginError::WrongCredentials),
            }
        };
        let (sid, now) = (self.random_token(), self.clock.now());
        let begun = self.store.create_login(&sid, host.id, &hash, now, now + REFRESH_TTL).await.map_err(Fault::from)?;
        if begun == Begun::No {
            return Ok(None);
        }
        let tokens = self.tokens(&host, &sid, 0, now)?;
        Ok(Some(Login { host, tokens }))
    }

    /// Spends a refresh token and returns the next pair. A token spent within the last 10 s returns the current pair
    /// again. Reuse of an older token is treated as theft: the login is revoked for all its clients (SPEC 2).
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn refresh(&self, refresh_token: &str) -> Result<Tokens, AuthError> {
        let now = self.clock.now();
        let claims = self.keys.read_refresh(refresh_token, now)?;
        let rotation = self
            .store
            .rotate_login(&claims.sid, claims.generation, now, now + REFRESH_TTL, REFRESH_GRACE)
            .await
            .map_err(Fault::from)?;
        let (host, generation, made_at) = match rotation {
            Rotation::Rotated { host, generation, rotated_at }
            | Rotation::JustRotated { host, generation, rotated_at } => (host, generation, rotated_at),
            Rotation::Theft { host } => {
                tracing::warn!(host = host.0, "spent refresh token reused, login revoked");
                self.ended(claims.sid).await;
                return Err(AuthError::Ended);
            }
            Rotation::Ended => return Err(AuthError::Ended),
        };
        let host = self.store.host(host).await.map_err(Fault::from)?.filter(|host| !host.is_deleted);
        let host = host.ok_or(AuthError::Ended)?;
        Ok(self.tokens(&host, &claims.sid, generation, made_at)?)
    }

    /// Ends a login on this node and announces it to the others. Idempotent.
    ///
    /// # Errors
    /// [`Fault`]: the login may still be active.
    pub async fn logout(&self, sid: &str) -> Result<(), Fault> {
        self.store.end_login(sid, self.clock.now()).await?;
        self.ended(sid.to_owned()).await;
        Ok(())
    }

    /// Verifies an access token and returns its claims. The signature must be valid, the token must not have expired,
    /// and its login must be active.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn authenticate(&self, access_token: &str) -> Result<AccessClaims, AuthError> {
        let claims = self.keys.read_access(access_token, self.clock.now())?;
        if self.is_alive(&claims.sid).await? { Ok(claims) } else { Err(AuthError::Ended) }
    }

    /// Returns whether a login is active. SQL is queried at most every 5 s per login. While SQL is unavailable a login
    /// counts as active unless its end was announced: callers hold a valid access token, and hosts that reconnect
    /// should not depend on SQL.
    ///
    /// # Errors
    /// [`Fault`]: the query failed although SQL is available.
    pub async fn is_alive(&self, sid: &str) -> Result<bool, Fault> {
        let now = self.clock.now();
        let seen = self.logins.get(sid).map(|seen| *seen);
        // An ended login never becomes active again.
        if let Some(seen) = seen.filter(|seen| !seen.alive || (now - seen.at).abs() < ALIVE_TTL) {
            return Ok(seen.alive);
        }
        match tokio::time::timeout(PATIENCE, self.store.login_is_alive(sid, now)).await {
            Ok(Ok(alive)) => {
                self.remember(sid.to_owned(), Seen { at: now, alive });
                Ok(alive)
            }
            Ok(Err(StoreError::Unavailable(_))) | Err(_) => {
                // Cached, so that the other sockets of this login do not query SQL again.
                self.remember(sid.to_owned(), Seen { at: now, alive: true });
                Ok(true)
            }
            Ok(Err(error)) => Err(error.into()),
        }
    }

    /// Records that a login ended, as announced by another node.
    pub fn login_ended(&self, sid: &str) {
        self.remember(sid.to_owned(), Seen { at: self.clock.now(), alive: false });
    }

    /// Creates a host with a new pair of service keys.
    ///
    /// # Errors
    /// [`CreateHostError`].
    pub async fn create_host(&self, account: NewAccount) -> Result<Host, CreateHostError> {
        let service_domain = rules::check(&account).map_err(CreateHostError::Invalid)?;
        let host = self.new_host(account, service_domain).await?;
        self.store.create_host(host, self.clock.now()).await.map_err(|error| match error {
            StoreError::Conflict => CreateHostError::EmailTaken,
            StoreError::Unavailable(_) | StoreError::Data(_) => CreateHostError::Fault(error.into()),
        })
    }

    async fn new_host(&self, account: NewAccount, service_domain: Option<String>) -> Result<NewHost, Fault> {
        let password_hash = self.passwords.hash(&account.password).await?;
        let keys = self.new_keys();
        Ok(NewHost {
            email: account.email.trim().to_owned(),
            uuid: HostUuid::from_random(self.chance.bytes()),
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
        letter: &Letter,
        to: &str,
        language: Language,
        until: DateTime<Utc>,
    ) -> Result<OutgoingMail, Fault> {
        let mail = letter.write(to, language, self.clock.now(), until);
        mail.ok_or_else(|| Fault::Internal("a mail's template is broken".to_owned()))
    }

    fn tokens(&self, host: &Host, sid: &str, generation: u64, made_at: DateTime<Utc>) -> Result<Tokens, Fault> {
        let unsigned = |error: TokenError| Fault::Internal(error.to_string());
        let access = self.keys.access(host.id, sid, self.random_token(), self.clock.now()).map_err(unsigned)?;
        let refresh = self.keys.refresh(host.id, sid, generation, made_at).map_err(unsigned)?;
        Ok(Tokens { access, refresh })
    }

    async fn ended(&self, sid: String) {
        self.login_ended(&sid);
        (self.announce)(Control::LoginEnded { sid }).await;
    }

    fn remember(&self, sid: String, seen: Seen) {
        if self.logins.len() >= MAX_REMEMBERED {
            self.logins.retain(|_, old| seen.at - old.at < ENDED_TTL);
        }
        // An ended login never becomes active again.
        self.logins.entry(sid).and_modify(|old| *old = if old.alive { seen } else { *old }).or_insert(seen);
    }

    /// Random URL-safe string of 22 characters (128 bits).
    fn random_token(&self) -> String {
        HostUuid::from_random(self.chance.bytes()).to_string()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        use std::fmt::Write as _;
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
