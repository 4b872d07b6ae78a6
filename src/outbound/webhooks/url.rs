//! Rules for the URLs of webhooks.

use std::net::IpAddr;

use url::{Host, Url};

use super::address::{IsAllowed, is_public};

/// Maximum length of a URL in bytes.
pub(super) const MAX_URL: usize = 2_000;

/// Reason why a URL is not allowed. The message completes the sentence "The URL …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlProblem {
    /// The string is not an absolute HTTP URL.
    #[error("must be one such as https://shop.example/hooks")]
    NotAUrl,
    /// The URL is longer than 2,000 bytes.
    #[error("must have at most 2000 characters")]
    TooLong,
    /// The URL contains a user name, a password or a fragment.
    #[error("must have no user, password or fragment")]
    Userinfo,
    /// The scheme is not `https`, and the operator does not allow `http` for the address.
    #[error("must begin with https://")]
    Insecure,
    /// The URL contains an IP address that is neither public nor allowed by the operator.
    #[error("must not lead to a private address")]
    Private,
}

/// Checks a URL and returns its normalised form. A host name is not resolved here: its addresses are checked at each
/// connection.
pub(super) fn check(url: &str, is_allowed: Option<&IsAllowed>) -> Result<Url, UrlProblem> {
    let url = Url::parse(url.trim()).map_err(|_| UrlProblem::NotAUrl)?;
    let is_secure = match url.scheme() {
        "https" => true,
        "http" => false,
        _ => return Err(UrlProblem::NotAUrl),
    };
    if url.as_str().len() > MAX_URL {
        return Err(UrlProblem::TooLong);
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(UrlProblem::Userinfo);
    }
    if !is_secure && is_allowed.is_none() {
        return Err(UrlProblem::Insecure);
    }
    let address = match url.host().ok_or(UrlProblem::NotAUrl)? {
        Host::Domain(_) => return Ok(url),
        Host::Ipv4(address) => IpAddr::V4(address),
        Host::Ipv6(address) => IpAddr::V6(address),
    };
    match (is_allowed.is_some_and(|is_allowed| is_allowed(address)), is_public(address)) {
        (true, _) => Ok(url),
        (false, true) if is_secure => Ok(url),
        (false, true) => Err(UrlProblem::Insecure),
        (false, false) => Err(UrlProblem::Private),
    }
}
