//! Known devices: clients that hold a signed refresh token of an account. The token may have expired.

use super::{Accounts, AuthError, Fault, Tokens};
use crate::store::email_key;

/// Maximum number of refresh tokens examined per call.
const MAX_REFRESH_TOKENS: usize = 16;

impl Accounts {
    /// Returns the `sid` of the first refresh token that belongs to the account of `email`, or `None` if no token does.
    /// The token may have expired, and it may have been used or revoked: its signature alone proves that the device was
    /// once logged in.
    pub async fn device_of(&self, email: &str, refresh_tokens: &[&str]) -> Option<String> {
        for token in refresh_tokens.iter().take(MAX_REFRESH_TOKENS) {
            let Ok(claims) = self.keys.read_any_refresh(token) else { continue };
            match self.store.hosts().get(claims.host).await {
                Ok(Some(host)) if email_key(&host.email) == email_key(email) => return Some(claims.sid),
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "failed to read account of refresh token"),
            }
        }
        None
    }

    /// Refreshes a login like [`refresh`](Self::refresh), but accepts several tokens, because a browser may send
    /// refresh cookies of several domains. Invalid tokens and tokens of logins that have ended are skipped. If the
    /// remaining tokens belong to different accounts, all of them are rejected, because another site under the same
    /// domain may have set one of the cookies.
    ///
    /// # Errors
    /// Returns an [`AuthError`] if no token can be used, the tokens belong to different accounts, or a dependency
    /// fails.
    pub async fn refresh_one_of(&self, refresh_tokens: &[&str]) -> Result<Tokens, AuthError> {
        if let [token] = refresh_tokens {
            return self.refresh(token).await;
        }
        let now = self.clock.now();
        let mut alive = Vec::new();
        for token in refresh_tokens.iter().take(MAX_REFRESH_TOKENS) {
            let Ok(claims) = self.keys.read_refresh(token, now) else { continue };
            if self.store.logins().is_active(&claims.sid, now).await.map_err(Fault::from)? {
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
