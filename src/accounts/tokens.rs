//! Access and refresh tokens: JWTs under HS256 (SPEC 2).
//!
//! **Invariant:** a token is judged by the clock it is given, never by the machine's; the library's own check of times is off.

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

/// How long an access token is good.
pub const ACCESS_TTL: TimeDelta = TimeDelta::minutes(60);

/// How long a login lasts after its last refresh.
pub const REFRESH_TTL: TimeDelta = TimeDelta::days(7);

/// The longest token that is looked at. Ours have some 300 characters.
const MAX_TOKEN_LEN: usize = 2048;

/// What an access token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessClaims {
    /// Whose it is.
    pub host: HostId,
    /// The login it came from.
    pub sid: String,
    /// When it ends.
    pub exp: DateTime<Utc>,
}

/// What a refresh token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshClaims {
    /// Whose it is.
    pub host: HostId,
    /// The login.
    pub sid: String,
    /// How often the login had been refreshed when it was made.
    pub generation: u64,
}

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not ours, not of this kind, or no token at all.
    #[error("the token is invalid")]
    Invalid,
    /// It was good once.
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

/// The secrets behind all tokens: the first signs, each verifies, so that a secret can be changed without logging anybody out.
#[derive(Clone)]
pub struct TokenKeys {
    sign: EncodingKey,
    verify: Vec<DecodingKey>,
}

impl TokenKeys {
    /// From a list of secrets; `None` when it is empty.
    pub fn new<S: AsRef<[u8]>>(secrets: &[S]) -> Option<Self> {
        install_provider();
        let sign = EncodingKey::from_secret(secrets.first()?.as_ref());
        Some(Self { sign, verify: secrets.iter().map(|secret| DecodingKey::from_secret(secret.as_ref())).collect() })
    }

    /// A new access token; `jti` is random.
    ///
    /// # Errors
    /// [`TokenError::Invalid`], should signing fail.
    pub fn access(&self, host: HostId, sid: &str, jti: String, now: DateTime<Utc>) -> Result<String, TokenError> {
        self.sign(host, "access", sid, jti, now, ACCESS_TTL)
    }

    /// The refresh token of one generation of a login. The same arguments make the same token: it can be told again.
    ///
    /// # Errors
    /// [`TokenError::Invalid`], should signing fail.
    pub fn refresh(
        &self,
        host: HostId,
        sid: &str,
        generation: u64,
        made_at: DateTime<Utc>,
    ) -> Result<String, TokenError> {
        self.sign(host, "refresh", sid, format!("{sid}.{generation}"), made_at, REFRESH_TTL)
    }

    /// Reads an access token.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn read_access(&self, token: &str, now: DateTime<Utc>) -> Result<AccessClaims, TokenError> {
        let claims = self.read(token, "access", now)?;
        let exp = DateTime::from_timestamp(claims.exp, 0).ok_or(TokenError::Invalid)?;
        Ok(AccessClaims { host: claims.user_id, sid: claims.sid, exp })
    }

    /// Reads a refresh token.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn read_refresh(&self, token: &str, now: DateTime<Utc>) -> Result<RefreshClaims, TokenError> {
        Self::refresh_claims(self.read(token, "refresh", now)?)
    }

    /// Reads a refresh token, expired or not.
    ///
    /// # Errors
    /// [`TokenError::Invalid`].
    pub fn read_any_refresh(&self, token: &str) -> Result<RefreshClaims, TokenError> {
        match self.read_claims::<Claims>(token)? {
            claims if claims.token_type == "refresh" => Self::refresh_claims(claims),
            _ => Err(TokenError::Invalid),
        }
    }

    /// 32 bytes that follow from `text` and the first secret, and that cannot be computed without it. No token is signed over
    /// such a text: it begins with a word and a NUL.
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

    /// A token of any claims.
    ///
    /// # Errors
    /// [`TokenError::Invalid`], should signing fail.
    pub(super) fn sign_claims(&self, claims: &impl Serialize) -> Result<String, TokenError> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.sign).map_err(|_| TokenError::Invalid)
    }

    /// Reads the claims of a token of ours. Their kind and their times are the caller's to check.
    ///
    /// # Errors
    /// [`TokenError::Invalid`].
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

/// jsonwebtoken comes here without a backend: HMAC-SHA256 is all that our tokens need.
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
            tracing::warn!("token backend already installed");
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
        // In constant time.
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
    fn an_access_token_is_good_for_an_hour() {
        let token = keys().access(HostId(7), SID, "j".into(), noon()).unwrap();
        let claims = keys().read_access(&token, noon() + TimeDelta::seconds(3599)).unwrap();
        assert_eq!(claims, AccessClaims { host: HostId(7), sid: SID.into(), exp: noon() + ACCESS_TTL });
        assert_eq!(keys().read_access(&token, noon() + ACCESS_TTL), Err(TokenError::Expired));
    }

    #[test]
    fn a_token_of_one_kind_is_not_taken_for_the_other() {
        let refresh = keys().refresh(HostId(7), SID, 3, noon()).unwrap();
        assert_eq!(keys().read_access(&refresh, noon()), Err(TokenError::Invalid));
        let access = keys().access(HostId(7), SID, "j".into(), noon()).unwrap();
        assert_eq!(keys().read_refresh(&access, noon()), Err(TokenError::Invalid));
    }

    #[test]
    fn a_refresh_token_can_be_made_again_and_names_its_generation() {
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
    fn an_expired_refresh_token_shows_its_device_and_a_forged_one_does_not() {
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
    fn what_is_derived_follows_from_the_secret_the_purpose_and_the_text() {
        let other = TokenKeys::new(&["another secret of thirty-two char"]).unwrap();
        assert_eq!(keys().derive("a", "b"), keys().derive("a", "b"));
        for different in [keys().derive("a", "c"), keys().derive("ab", ""), other.derive("a", "b")] {
            assert_ne!(keys().derive("a", "b"), different);
        }
    }

    #[test]
    fn without_a_secret_there_are_no_keys() {
        assert!(TokenKeys::new::<&str>(&[]).is_none());
    }
}
