//! Logins and their tokens: login, refresh, logout, and the check that a login is active (SPEC 2).

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::recovery::TemporaryLogin;
use super::rules::{MAX_EMAIL_LEN, MAX_PASSWORD_LEN};
use super::tokens::{ACCESS_TTL, AccessClaims, REFRESH_TTL, TokenError};
use super::{Accounts, Fault, Source, passwords};
use crate::domain::{Control, Host};
use crate::store::{LoginCreation, Rotation, StoreError};

/// Grace period of a used refresh token. Within it, reuse is accepted, for example by a second tab (SPEC 2). Later
/// reuse is treated as theft.
const REFRESH_GRACE: Duration = Duration::from_secs(10);

/// Maximum time for which a login is cached as active. A revocation takes effect within this time even if its
/// publication does not reach this node.
const ALIVE_TTL: TimeDelta = TimeDelta::seconds(5);

/// Minimum time for which a revoked login is remembered. All access tokens of the login expire within this time.
const ENDED_TTL: TimeDelta = ACCESS_TTL;

/// Timeout of the query that checks a login.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Number of cached logins at which entries older than [`ENDED_TTL`] are removed. This many logins use about 10 MB.
const MAX_REMEMBERED: usize = 100_000;

/// Maximum number of attempts per login call. An attempt is repeated if another call changes the password or the stored
/// hash during the check.
const LOGIN_TRIES: usize = 3;

/// Cached state of a login and the time of the lookup.
#[derive(Clone, Copy)]
pub(super) struct SeenLogin {
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

/// Reason why a login was rejected.
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

/// Reason why a token was rejected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The token is malformed, not signed by this server, or of another type.
    #[error("the token is invalid")]
    Invalid,
    /// The token was valid, but has expired.
    #[error("the token has expired")]
    Expired,
    /// The login of the token was revoked or has expired.
    #[error("the login has ended")]
    Ended,
    /// A dependency failed; see [`Fault`].
    #[error(transparent)]
    Fault(#[from] Fault),
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
    /// Checks a password and starts a login. The check takes the same time for an unknown address as for a wrong
    /// password.
    ///
    /// # Errors
    /// Returns a [`LoginError`] if the credentials are wrong, the account is deactivated or a dependency fails.
    pub async fn login(&self, email: &str, password: &str) -> Result<Login, LoginError> {
        self.login_from(Source::default(), email, password).await
    }

    /// Logs in like [`login`](Self::login). `source` determines the priority of the call in the queue for password
    /// hashing.
    ///
    /// # Errors
    /// Returns a [`LoginError`] if the credentials are wrong, the account is deactivated or a dependency fails.
    pub async fn login_from(&self, source: Source, email: &str, password: &str) -> Result<Login, LoginError> {
        for _ in 0..LOGIN_TRIES {
            if let Some(login) = self.try_login(source, email, password).await? {
                return Ok(login);
            }
        }
        Err(LoginError::WrongCredentials)
    }

    /// Makes one login attempt. Returns `None` if another call changed the password or the stored hash during the
    /// check.
    async fn try_login(&self, source: Source, email: &str, password: &str) -> Result<Option<Login>, LoginError> {
        let absurd = email.chars().count() > MAX_EMAIL_LEN || password.len() > MAX_PASSWORD_LEN;
        let known = if absurd { None } else { self.store.hosts().credentials(email).await.map_err(Fault::from)? };
        let password = if absurd { "" } else { password };
        let hash = known.as_ref().map(|known| known.password_hash.clone());
        let right = self.passwords.of(source).verify(password, hash).await.map_err(Fault::from)?;
        let known = known.ok_or(LoginError::WrongCredentials)?;
        if !passwords::is_readable(&known.password_hash) {
            tracing::error!(host = known.host.id.0, "failed to parse stored password hash, rejecting login");
        }
        let (host, hash) = if right && !known.host.is_deleted {
            let hash = self.renew_hash(known.host.id, password, known.password_hash).await;
            (known.host, hash)
        } else {
            match self.take_temporary(&known, password).await? {
                TemporaryLogin::Accepted(host, hash) => (*host, hash),
                TemporaryLogin::Superseded => return Ok(None),
                TemporaryLogin::Rejected if right => return Err(LoginError::Deactivated),
                TemporaryLogin::Rejected => return Err(LoginError::WrongCredentials),
            }
        };
        let (sid, now) = (self.random_token(), self.clock.now());
        let begun =
            self.store.logins().create(&sid, host.id, &hash, now, now + REFRESH_TTL).await.map_err(Fault::from)?;
        if begun == LoginCreation::Rejected {
            return Ok(None);
        }
        let tokens = self.tokens(&host, &sid, 0, now)?;
        Ok(Some(Login { host, tokens }))
    }

    /// Uses a refresh token and returns the next pair of tokens. For a token that was used within the last 10 s,
    /// returns the current refresh token again with a new access token. Reuse of an older token is treated as theft:
    /// the login is revoked for all its clients (SPEC 2).
    ///
    /// # Errors
    /// Returns an [`AuthError`] if the token is invalid or expired, its login was revoked, or a dependency fails.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Tokens, AuthError> {
        let now = self.clock.now();
        let claims = self.keys.read_refresh(refresh_token, now)?;
        let rotation = self
            .store
            .logins()
            .rotate(&claims.sid, claims.generation, now, now + REFRESH_TTL, REFRESH_GRACE)
            .await
            .map_err(Fault::from)?;
        let (host, generation, made_at) = match rotation {
            Rotation::Rotated { host, generation, rotated_at }
            | Rotation::JustRotated { host, generation, rotated_at } => (host, generation, rotated_at),
            Rotation::Theft { host } => {
                tracing::warn!(host = host.0, "refresh token reused, login revoked");
                self.ended(claims.sid).await;
                return Err(AuthError::Ended);
            }
            Rotation::Ended => return Err(AuthError::Ended),
        };
        let host = self.store.hosts().get(host).await.map_err(Fault::from)?.filter(|host| !host.is_deleted);
        let host = host.ok_or(AuthError::Ended)?;
        Ok(self.tokens(&host, &claims.sid, generation, made_at)?)
    }

    /// Revokes a login and publishes the revocation to all nodes. Idempotent.
    ///
    /// # Errors
    /// Returns a [`Fault`] if the database fails. The login may still be active.
    pub async fn logout(&self, sid: &str) -> Result<(), Fault> {
        self.store.logins().end(sid, self.clock.now()).await?;
        self.ended(sid.to_owned()).await;
        Ok(())
    }

    /// Verifies an access token and returns its claims. The signature must be valid, the token must not have expired,
    /// and its login must be active.
    ///
    /// # Errors
    /// Returns an [`AuthError`] if the token is invalid or expired, its login was revoked, or a dependency fails.
    pub async fn authenticate(&self, access_token: &str) -> Result<AccessClaims, AuthError> {
        let claims = self.keys.read_access(access_token, self.clock.now())?;
        if self.is_alive(&claims.sid).await? { Ok(claims) } else { Err(AuthError::Ended) }
    }

    /// Returns whether a login is active. An active login is cached for 5 s. While the database is unavailable or slow,
    /// a login counts as active unless this node knows that it has ended. Hosts can therefore reconnect. This is
    /// acceptable, because callers hold a valid access token.
    ///
    /// # Errors
    /// Returns a [`Fault`] if the query failed although the database is available.
    pub async fn is_alive(&self, sid: &str) -> Result<bool, Fault> {
        let now = self.clock.now();
        let seen = self.logins.get(sid).map(|seen| *seen);
        // A revoked login never becomes active again, so its cached state is used regardless of age.
        if let Some(seen) = seen.filter(|seen| !seen.alive || (now - seen.at).abs() < ALIVE_TTL) {
            return Ok(seen.alive);
        }
        match tokio::time::timeout(LOOKUP_TIMEOUT, self.store.logins().is_active(sid, now)).await {
            Ok(Ok(alive)) => {
                self.remember(sid.to_owned(), SeenLogin { at: now, alive });
                Ok(alive)
            }
            Ok(Err(StoreError::Unavailable(_))) | Err(_) => {
                // The result is cached, so that the other sockets of this login do not query the database again.
                self.remember(sid.to_owned(), SeenLogin { at: now, alive: true });
                Ok(true)
            }
            Ok(Err(error)) => Err(error.into()),
        }
    }

    /// Records that a login has ended, so that this node rejects its tokens at once.
    pub fn login_ended(&self, sid: &str) {
        self.remember(sid.to_owned(), SeenLogin { at: self.clock.now(), alive: false });
    }

    fn tokens(&self, host: &Host, sid: &str, generation: u64, made_at: DateTime<Utc>) -> Result<Tokens, Fault> {
        let unsigned = |error: TokenError| Fault::Internal(error.to_string());
        let access = self.keys.access(host.id, sid, self.random_token(), self.clock.now()).map_err(unsigned)?;
        let refresh = self.keys.refresh(host.id, sid, generation, made_at).map_err(unsigned)?;
        Ok(Tokens { access, refresh })
    }

    pub(super) async fn ended(&self, sid: String) {
        self.login_ended(&sid);
        (self.publish)(Control::LoginEnded { sid }).await;
    }

    fn remember(&self, sid: String, seen: SeenLogin) {
        if self.logins.len() >= MAX_REMEMBERED {
            self.logins.retain(|_, old| seen.at - old.at < ENDED_TTL);
        }
        // A revoked login never becomes active again, so its entry is not replaced.
        self.logins.entry(sid).and_modify(|old| *old = if old.alive { seen } else { *old }).or_insert(seen);
    }
}
