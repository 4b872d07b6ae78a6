//! Access and refresh tokens: JWTs with HS256 (SPEC 2).
//!
//! **Invariant:** expiry is checked against the `now` that the caller passes. The time checks of the JWT library are
//! disabled.

use std::sync::Once;

use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use signature::{Signer, Verifier};

use crate::domain::HostId;

/// Lifetime of an access token.
pub const ACCESS_TTL: TimeDelta = TimeDelta::minutes(60);

/// Lifetime of a login, counted from its last refresh.
pub const REFRESH_TTL: TimeDelta = TimeDelta::days(7);

/// Maximum length of a token that is parsed. Tokens of this server are about 300 bytes long.
const MAX_TOKEN_LEN: usize = 2048;

/// Claims of an access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessClaims {
    /// Host that the token was issued to.
    pub host: HostId,
    /// Login that the token was issued for.
    pub sid: String,
    /// Expiry time.
    pub exp: DateTime<Utc>,
}

/// Claims of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshClaims {
    /// Host that the token was issued to.
    pub host: HostId,
    /// Login that the token was issued for.
    pub sid: String,
    /// Number of refreshes of the login before this token was issued.
    pub generation: u64,
}

/// Reason why a token was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token is malformed, not signed by this server, or of another type.
    #[error("the token is invalid")]
    Invalid,
    /// The token was valid, but has expired.
    #[error("the token has expired")]
    Expired,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    user_id: HostId,
    token_type: String,
    jti: String,
    sid: String,
    iat: i64,
    exp: i64,
}

/// Signing secrets. The first secret signs tokens, and all secrets verify them, so that rotating a secret revokes no
/// login.
#[derive(Clone)]
pub struct TokenKeys {
    sign: EncodingKey,
    verify: Vec<DecodingKey>,
}

impl TokenKeys {
    /// Creates the keys from a list of secrets. Returns `None` if the list is empty.
    pub fn new<S: AsRef<[u8]>>(secrets: &[S]) -> Option<Self> {
        install_provider();
        let sign = EncodingKey::from_secret(secrets.first()?.as_ref());
        Some(Self { sign, verify: secrets.iter().map(|secret| DecodingKey::from_secret(secret.as_ref())).collect() })
    }

    /// Signs a new access token. `jti` must be random.
    ///
    /// # Errors
    /// Returns [`TokenError::Invalid`] if signing fails.
    pub fn access(&self, host: HostId, sid: &str, jti: String, now: DateTime<Utc>) -> Result<String, TokenError> {
        self.sign(host, "access", sid, jti, now, ACCESS_TTL)
    }

    /// Signs the refresh token of one generation of a login. The result is deterministic, so that the current token can
    /// be issued again.
    ///
    /// # Errors
    /// Returns [`TokenError::Invalid`] if signing fails.
    pub fn refresh(
        &self,
        host: HostId,
        sid: &str,
        generation: u64,
        made_at: DateTime<Utc>,
    ) -> Result<String, TokenError> {
        self.sign(host, "refresh", sid, format!("{sid}.{generation}"), made_at, REFRESH_TTL)
    }

    /// Verifies an access token and returns its claims.
    ///
    /// # Errors
    /// Returns a [`TokenError`] if the token is invalid or has expired.
    pub fn read_access(&self, token: &str, now: DateTime<Utc>) -> Result<AccessClaims, TokenError> {
        let claims = self.read(token, "access", now)?;
        let exp = DateTime::from_timestamp(claims.exp, 0).ok_or(TokenError::Invalid)?;
        Ok(AccessClaims { host: claims.user_id, sid: claims.sid, exp })
    }

    /// Verifies a refresh token and returns its claims.
    ///
    /// # Errors
    /// Returns a [`TokenError`] if the token is invalid or has expired.
    pub fn read_refresh(&self, token: &str, now: DateTime<Utc>) -> Result<RefreshClaims, TokenError> {
        Self::refresh_claims(self.read(token, "refresh", now)?)
    }

    /// Verifies the signature and type of a refresh token and returns its claims. The token may have expired.
    ///
    /// # Errors
    /// Returns [`TokenError::Invalid`] if the token is invalid.
    pub fn read_any_refresh(&self, token: &str) -> Result<RefreshClaims, TokenError> {
        match self.read_claims::<Claims>(token)? {
            claims if claims.token_type == "refresh" => Self::refresh_claims(claims),
            _ => Err(TokenError::Invalid),
        }
    }

    /// Derives 32 bytes from `purpose`, `text` and the first secret. The NUL after `purpose` keeps the input different
    /// from that of a token signature.
    pub(super) fn derive(&self, purpose: &str, text: &str) -> [u8; 32] {
        let mac = Hmac::<Sha256>::new_from_slice(self.sign.as_bytes());
        let mac = mac.unwrap_or_else(|_| unreachable!("HMAC takes a key of any length"));
        mac.chain_update(purpose).chain_update([0]).chain_update(text).finalize().into_bytes().into()
    }

    fn refresh_claims(claims: Claims) -> Result<RefreshClaims, TokenError> {
        let generation = claims
            .jti
            .strip_prefix(claims.sid.as_str())
            .and_then(|rest| rest.strip_prefix('.'))
            .and_then(|generation| generation.parse().ok())
            .ok_or(TokenError::Invalid)?;
        Ok(RefreshClaims { host: claims.user_id, sid: claims.sid, generation })
    }

    fn sign(
        &self,
        host: HostId,
        kind: &str,
        sid: &str,
        jti: String,
        at: DateTime<Utc>,
        ttl: TimeDelta,
    ) -> Result<String, TokenError> {
        let iat = at.timestamp();
        let claims = Claims {
            user_id: host,
            token_type: kind.to_owned(),
            jti,
            sid: sid.to_owned(),
            iat,
            exp: iat + ttl.num_seconds(),
        };
        self.sign_claims(&claims)
    }

    /// Signs a token with the given claims.
    ///
    /// # Errors
    /// Returns [`TokenError::Invalid`] if signing fails.
    pub(super) fn sign_claims(&self, claims: &impl Serialize) -> Result<String, TokenError> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.sign).map_err(|_| TokenError::Invalid)
    }

    /// Verifies the signature of a token and returns its claims. The caller must check the token type and the times.
    ///
    /// # Errors
    /// Returns [`TokenError::Invalid`] if the token is invalid.
    pub(super) fn read_claims<T: DeserializeOwned>(&self, token: &str) -> Result<T, TokenError> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(TokenError::Invalid);
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        let read = |key| jsonwebtoken::decode::<T>(token, key, &validation).ok();
        self.verify.iter().find_map(read).map(|token| token.claims).ok_or(TokenError::Invalid)
    }

    fn read(&self, token: &str, kind: &str, now: DateTime<Utc>) -> Result<Claims, TokenError> {
        let claims: Claims = self.read_claims(token)?;
        match (claims.token_type == kind, now.timestamp() < claims.exp) {
            (false, _) => Err(TokenError::Invalid),
            (true, false) => Err(TokenError::Expired),
            (true, true) => Ok(claims),
        }
    }
}

/// Installs an HMAC-SHA256 provider for jsonwebtoken, which is built without a provider. No other algorithm is used.
fn install_provider() {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: |algorithm, key| {
            key_of(algorithm, Ok(key.as_bytes())).map(|hs| Box::new(hs) as Box<dyn JwtSigner>)
        },
        verifier_factory: |algorithm, key| {
            key_of(algorithm, key.try_get_as_bytes()).map(|hs| Box::new(hs) as Box<dyn JwtVerifier>)
        },
        key_utils: KeyUtils::new_unimplemented(),
    };
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if PROVIDER.install_default().is_err() {
            tracing::warn!("jwt crypto provider already installed");
        }
    });
}

struct Hs256(Hmac<Sha256>);

fn key_of(algorithm: &Algorithm, secret: Result<&[u8], Error>) -> Result<Hs256, Error> {
    match algorithm {
        Algorithm::HS256 => {
            Hmac::new_from_slice(secret?).map(Hs256).map_err(|_| Error::from(ErrorKind::InvalidKeyFormat))
        }
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(self.0.clone().chain_update(message).finalize().into_bytes().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        // `verify_slice` compares in constant time.
        self.0.clone().chain_update(message).verify_slice(signature).map_err(|_| signature::Error::new())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    const SID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

    fn keys() -> TokenKeys {
        TokenKeys::new(&["a secret of thirty-two characters"]).unwrap()
    }

    fn noon() -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000, 0).unwrap()
    }

    #[test]
    fn access_token_is_valid_for_an_hour() {
        let token = keys().access(HostId(7), SID, "j".into(), noon()).unwrap();
        let claims = keys().read_access(&token, noon() + TimeDelta::seconds(3599)).unwrap();
        assert_eq!(claims, AccessClaims { host: HostId(7), sid: SID.into(), exp: noon() + ACCESS_TTL });
        assert_eq!(keys().read_access(&token, noon() + ACCESS_TTL), Err(TokenError::Expired));
    }

    #[test]
    fn token_of_one_type_is_rejected_as_the_other() {
        let refresh = keys().refresh(HostId(7), SID, 3, noon()).unwrap();
        assert_eq!(keys().read_access(&refresh, noon()), Err(TokenError::Invalid));
        let access = keys().access(HostId(7), SID, "j".into(), noon()).unwrap();
        assert_eq!(keys().read_refresh(&access, noon()), Err(TokenError::Invalid));
    }

    #[test]
    fn refresh_token_is_reproducible_and_contains_its_generation() {
        let token = keys().refresh(HostId(7), SID, 3, noon()).unwrap();
        assert_eq!(keys().refresh(HostId(7), SID, 3, noon()).unwrap(), token);
        assert_eq!(
            keys().read_refresh(&token, noon()),
            Ok(RefreshClaims { host: HostId(7), sid: SID.into(), generation: 3 })
        );
    }

    #[test]
    fn an_old_secret_still_verifies_and_the_first_signs() {
        let old = keys().access(HostId(7), SID, "j".into(), noon()).unwrap();
        let both = TokenKeys::new(&["a new secret of thirty-two chars.", "a secret of thirty-two characters"]).unwrap();
        assert!(both.read_access(&old, noon()).is_ok());
        let new = both.access(HostId(7), SID, "j".into(), noon()).unwrap();
        assert_eq!(keys().read_access(&new, noon()), Err(TokenError::Invalid));
    }

    #[test]
    fn a_token_without_a_signature_or_with_a_changed_claim_is_invalid() {
        let token = keys().access(HostId(7), SID, "j".into(), noon()).unwrap();
        let parts: Vec<_> = token.split('.').collect();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        let other = URL_SAFE_NO_PAD.encode(claims.replace("\"user_id\":7", "\"user_id\":8"));
        let absurd = "x".repeat(100_000);
        for forged in [
            format!("{none}.{}.", parts[1]),
            format!("{}.{other}.{}", parts[0], parts[2]),
            format!("{}.{}.", parts[0], parts[1]),
            String::new(),
            "..".into(),
            "not a token".into(),
            absurd,
        ] {
            assert_eq!(keys().read_access(&forged, noon()), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn expired_refresh_token_identifies_its_device_and_a_forged_one_does_not() {
        let token = keys().refresh(HostId(7), SID, 3, noon()).unwrap();
        assert_eq!(keys().read_refresh(&token, noon() + REFRESH_TTL), Err(TokenError::Expired));
        assert_eq!(keys().read_any_refresh(&token).unwrap().sid, SID);
        let forged = TokenKeys::new(&["another secret of thirty-two char"]).unwrap();
        let forged = forged.refresh(HostId(7), SID, 3, noon()).unwrap();
        let access = keys().access(HostId(7), SID, "j".into(), noon()).unwrap();
        for bad in [forged.as_str(), access.as_str(), "x"] {
            assert_eq!(keys().read_any_refresh(bad), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn derived_value_depends_on_secret_purpose_and_text() {
        let other = TokenKeys::new(&["another secret of thirty-two char"]).unwrap();
        assert_eq!(keys().derive("a", "b"), keys().derive("a", "b"));
        for different in [keys().derive("a", "c"), keys().derive("ab", ""), other.derive("a", "b")] {
            assert_ne!(keys().derive("a", "b"), different);
        }
    }

    #[test]
    fn keys_need_a_secret() {
        assert!(TokenKeys::new::<&str>(&[]).is_none());
    }
}
