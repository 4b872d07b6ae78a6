//! Devices that were logged in to an account before: what a stranger cannot claim to be.

use super::{Accounts, AuthError, Fault, Tokens};
use crate::store::email_key;

/// The most refresh tokens of one call that are looked at.
const MAX_REFRESH_TOKENS: usize = 16;

impl Accounts {
    /// The login that one of these refresh tokens names, if it is a login of the account of `email`. The token may have expired,
    /// have been spent or revoked; its signature shows that the device was logged in once.
    pub async fn device_of(&self, email: &str, refresh_tokens: &[&str]) -> Option<String> {
        for token in refresh_tokens.iter().take(MAX_REFRESH_TOKENS) {
            let Ok(claims) = self.keys.read_any_refresh(token) else { continue };
            match self.store.host(claims.host).await {
                Ok(Some(host)) if email_key(&host.email) == email_key(email) => return Some(claims.sid),
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "failed to look up the account of a refresh token"),
            }
        }
        None
    }

    /// [`refresh`](Self::refresh) with one of several tokens, as a browser sends cookies of several domains. Ones that are dead do
    /// not count. Where two accounts remain, another site of the domain has set one of the cookies; which one is not known, so
    /// none is used.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn refresh_one_of(&self, refresh_tokens: &[&str]) -> Result<Tokens, AuthError> {
        if let [token] = refresh_tokens {
            return self.refresh(token).await;
        }
        let now = self.clock.now();
        let mut alive = Vec::new();
        for token in refresh_tokens.iter().take(MAX_REFRESH_TOKENS) {
            let Ok(claims) = self.keys.read_refresh(token, now) else { continue };
            if self.store.login_is_alive(&claims.sid, now).await.map_err(Fault::from)? {
                alive.push((claims.host, *token));
            }
        }
        if alive.windows(2).any(|pair| pair[0].0 != pair[1].0) {
            return Err(AuthError::Invalid);
        }
        let mut outcome = Err(AuthError::Invalid);
        for (_, token) in alive {
            outcome = self.refresh(token).await;
            if !matches!(outcome, Err(AuthError::Invalid | AuthError::Expired | AuthError::Ended)) {
                break;
            }
        }
        outcome
    }
}
