//! Accounts: who a host is, and how he proves it (SPEC 2).
//!
//! A **login** is one row that every token of one log-in hangs on, by its `sid`. An access token is good while its login
//! lives; a refresh token names the login and its generation, and each use brings the login to the next one.
//!
//! **Invariant:** what ends a login is told to all nodes ([`Announce`]), so that its sockets close and no cache outlives it.

mod device;
mod django;
mod hashing;
mod keys;
mod operator;
pub mod passwords;
mod profile;
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

use crate::clock::{Chance, Clock};
use crate::control::Control;
use crate::domain::{Host, HostUuid};
use crate::mail::{Language, Letter, Waker};
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
pub use sign_up::{CHECK_TTL, SignUpError};
pub use temporary::readable_password;
pub use tokens::AccessClaims;
use tokens::{ACCESS_TTL, REFRESH_TTL, TokenError, TokenKeys};

/// How long the refresh token just spent may come back, as two tabs do, before it means theft (SPEC 2).
const REFRESH_GRACE: Duration = Duration::from_secs(10);

/// How long a login that was seen alive is believed to be, should its end not be announced to this node.
const ALIVE_TTL: TimeDelta = TimeDelta::seconds(5);

/// How long the end of a login is remembered: no access token of it lives longer.
const ENDED_TTL: TimeDelta = ACCESS_TTL;

/// How long SQL may take to tell whether a login lives.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most logins remembered: some 10 MB. Reaching it forgets what is stale.
const MAX_REMEMBERED: usize = 100_000;

/// How often a password is checked that is changed, or whose hash is renewed, while it is checked.
const LOGIN_TRIES: usize = 3;

/// Tells all nodes. It never fails for the caller: what was announced is already true in SQL, and nodes look there again.
pub type Announce = Arc<dyn Fn(Control) -> BoxFuture<'static, ()> + Send + Sync>;

/// Sign-in, tokens and new hosts.
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

/// When a login was last looked up, and what was found.
#[derive(Clone, Copy)]
struct Seen {
    at: DateTime<Utc>,
    alive: bool,
}

/// The two tokens of a login.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    /// For `Authorization: Bearer`.
    pub access: String,
    /// For the cookie.
    pub refresh: String,
}

/// Somebody logged in.
pub struct Login {
    /// Who.
    pub host: Host,
    /// With what.
    pub tokens: Tokens,
}

/// A host that is to be made.
pub struct NewAccount {
    /// Address he logs in with.
    pub email: String,
    /// At least 8 characters.
    pub password: String,
    /// At most 50 characters.
    pub service_name: String,
    /// At most 200 characters.
    pub service_expl: String,
    /// Domains as typed.
    pub service_domain: Option<String>,
}

/// Something beneath failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Come back.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// It will not get better by itself.
    #[error("internal: {0}")]
    Internal(String),
}

/// Why somebody is not logged in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// No such address, or another password: never say which.
    #[error("wrong e-mail or password")]
    WrongCredentials,
    /// The password is right, the account is deactivated.
    #[error("the account is deactivated")]
    Deactivated,
    /// See [`Fault`].
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why a token opens nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Not one of ours, or of another kind.
    #[error("the token is invalid")]
    Invalid,
    /// It was good once.
    #[error("the token has expired")]
    Expired,
    /// Its login is over.
    #[error("the login has ended")]
    Ended,
    /// See [`Fault`].
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why no host was made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateHostError {
    /// Fields that break a rule.
    #[error("invalid: {0:?}")]
    Invalid(FieldErrors),
    /// The address has an account.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// See [`Fault`].
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
    /// Over `store`, with tokens under `keys`.
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

    /// Wakes whoever sends the mails that are written here.
    pub fn mail_waker(&self) -> Waker {
        self.mail.clone()
    }

    /// Checks a password and begins a login. An unknown address takes as long as a wrong password.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn login(&self, email: &str, password: &str) -> Result<Login, LoginError> {
        self.login_from(Source::default(), email, password).await
    }

    /// [`login`](Self::login) of a caller whose passwords wait behind those of other callers.
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

    /// `None`: what was checked was changed meanwhile.
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

    /// Spends a refresh token for the next pair. One that was spent within the last 10 s gets the current pair; an older one
    /// means theft, and the login ends for everybody (SPEC 2).
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

    /// Ends a login, here and on all nodes. Ending it twice is no error.
    ///
    /// # Errors
    /// [`Fault`]: it may go on.
    pub async fn logout(&self, sid: &str) -> Result<(), Fault> {
        self.store.end_login(sid, self.clock.now()).await?;
        self.ended(sid.to_owned()).await;
        Ok(())
    }

    /// Whose access token this is. It must be ours, not expired, and of a login that lives.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn authenticate(&self, access_token: &str) -> Result<AccessClaims, AuthError> {
        let claims = self.keys.read_access(access_token, self.clock.now())?;
        if self.is_alive(&claims.sid).await? { Ok(claims) } else { Err(AuthError::Ended) }
    }

    /// Whether a login lives: asked of SQL at most every 5 s. While SQL is away a login is believed to live unless its end was
    /// told: whoever asks has a token of ours that has not expired, and a host who comes back is not to wait for SQL.
    ///
    /// # Errors
    /// [`Fault`]: SQL does not take the question.
    pub async fn is_alive(&self, sid: &str) -> Result<bool, Fault> {
        let now = self.clock.now();
        let seen = self.logins.get(sid).map(|seen| *seen);
        // An ended login never comes back.
        if let Some(seen) = seen.filter(|seen| !seen.alive || (now - seen.at).abs() < ALIVE_TTL) {
            return Ok(seen.alive);
        }
        match tokio::time::timeout(PATIENCE, self.store.login_is_alive(sid, now)).await {
            Ok(Ok(alive)) => {
                self.remember(sid.to_owned(), Seen { at: now, alive });
                Ok(alive)
            }
            Ok(Err(StoreError::Unavailable(_))) | Err(_) => {
                // Not asked again for each of his sockets.
                self.remember(sid.to_owned(), Seen { at: now, alive: true });
                Ok(true)
            }
            Ok(Err(error)) => Err(error.into()),
        }
    }

    /// Another node announced that this login is over.
    pub fn login_ended(&self, sid: &str) {
        self.remember(sid.to_owned(), Seen { at: self.clock.now(), alive: false });
    }

    /// Makes a host, with keys of his own.
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
        // An ended login never comes back.
        self.logins.entry(sid).and_modify(|old| *old = if old.alive { seen } else { *old }).or_insert(seen);
    }

    /// 22 url-safe characters: 128 random bits.
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
