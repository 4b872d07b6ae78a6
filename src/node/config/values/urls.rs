//! Option values that are URLs, origins or domains.

use std::fmt;
use std::str::FromStr;

use url::Url;

use super::InvalidValue;
use crate::domain::url_path;

/// Base URL of an OTLP collector: scheme, authority and an optional path, without a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint(String);

impl OtlpEndpoint {
    /// Returns the URL to which traces are sent.
    pub fn traces(&self) -> String {
        format!("{}/v1/traces", self.0)
    }
}

impl FromStr for OtlpEndpoint {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let url = Url::parse(text.trim()).ok().filter(|url| {
            let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
            let plain = plain && !url.path().trim_end_matches('/').ends_with("/v1/traces");
            matches!(url.scheme(), "http" | "https") && url.host_str().is_some() && plain
        });
        let url =
            url.ok_or_else(|| InvalidValue::new("expected a URL such as http://collector:4318, without /v1/traces"))?;
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

/// Origin of a page in the form of the `Origin` header: `https://admin.example`, without a path or a default port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOrigin(String);

impl WebOrigin {
    /// Returns the origin in the form of the `Origin` header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WebOrigin {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = || InvalidValue::new("expected origins such as https://admin.example, separated by commas");
        let url = Url::parse(text.trim()).map_err(|_| invalid())?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        if !matches!(url.scheme(), "http" | "https") || !bare {
            return Err(invalid());
        }
        Ok(Self(url.origin().ascii_serialization()))
    }
}

/// URL at which clients reach this server: scheme, authority and an optional path such as `/chat`, without a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// Returns the URL without a trailing slash, so that an absolute path can be appended.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the path without a trailing slash, such as `/chat`. Returns an empty string for the root.
    pub fn path(&self) -> &str {
        url_path(&self.0)
    }

    /// Returns whether `origin` is the origin of this URL.
    pub fn has_origin(&self, origin: &str) -> bool {
        self.0.strip_suffix(self.path()).is_some_and(|own| own.eq_ignore_ascii_case(origin.trim_end_matches('/')))
    }

    /// Returns whether the scheme is `https`. Cookies can then be `Secure`.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }
}

impl FromStr for PublicUrl {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = || InvalidValue::new("expected a URL such as https://chat.example or https://shop.example/chat");
        let url = Url::parse(text).map_err(|_| invalid())?;
        let is_plain = url.query().is_none() && url.fragment().is_none();
        let is_anonymous = url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() || !is_plain || !is_anonymous {
            return Err(invalid());
        }
        let url = url.as_str().trim_end_matches('/');
        // `Url` resolves backslashes and dot segments, including percent-encoded ones, so the original string is
        // checked for them.
        let is_resolved = text.contains(['\\', '%']) || text.split('/').any(|segment| matches!(segment, "." | ".."));
        if is_resolved || !url_path(url).split('/').skip(1).all(is_path_segment) {
            return Err(InvalidValue::new(
                "expected a path such as /chat, with only letters, digits and -._~ in its segments",
            ));
        }
        Ok(Self(url.to_owned()))
    }
}

/// Returns whether a path segment needs no percent-encoding. It then has the same form in URLs, in the `Path` of
/// cookies and in the configuration of proxies.
fn is_path_segment(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `Domain` attribute of the refresh cookie: a host name without a leading dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieDomain(String);

impl CookieDomain {
    /// Returns the host name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CookieDomain {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let name = text.trim_start_matches('.').to_ascii_lowercase();
        let label =
            |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if name.len() <= 253 && name.split('.').all(label) {
            Ok(Self(name))
        } else {
            Err(InvalidValue::new("expected a host name such as chat.example"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_origin_is_normalised() {
        let origin = |text: &str| text.parse::<WebOrigin>().map(|origin| origin.as_str().to_owned());
        assert_eq!(origin("HTTPS://Admin.Example:443/"), Ok("https://admin.example".into()));
        assert_eq!(origin("http://localhost:3000"), Ok("http://localhost:3000".into()));
        for bad in ["admin.example", "https://admin.example/x", "*", "null", "ftp://a.example", "https://u@a.example"] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn public_url_has_no_trailing_slash() {
        for (text, url, path) in [
            ("https://chat.example", "https://chat.example", ""),
            ("https://chat.example/", "https://chat.example", ""),
            ("https://chat.example:8443/pin/", "https://chat.example:8443/pin", "/pin"),
            ("HTTPS://Chat.Example:443/Pin-2/a.b_c~d//", "https://chat.example/Pin-2/a.b_c~d", "/Pin-2/a.b_c~d"),
            ("http://[::1]:8080/a/b", "http://[::1]:8080/a/b", "/a/b"),
            ("https://채팅.example/chat", "https://xn--ou6bo7j.example/chat", "/chat"),
        ] {
            let parsed: PublicUrl = text.parse().unwrap();
            assert_eq!((parsed.as_str(), parsed.path()), (url, path), "{text}");
            assert_eq!(parsed.is_https(), url.starts_with("https:"));
        }
        for bad in
            ["chat.example", "/chat", "ws://chat.example", "https://me:pw@chat.example", "https://:pw@chat.example"]
        {
            assert!(bad.parse::<PublicUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn public_url_matches_its_origin_with_any_path() {
        for url in ["https://shop.example", "https://shop.example/chat"] {
            let url: PublicUrl = url.parse().unwrap();
            assert!(url.has_origin("https://shop.example") && url.has_origin("https://Shop.example/"));
            assert!(!url.has_origin("http://shop.example") && !url.has_origin("https://admin.shop.example"));
        }
    }

    #[test]
    fn path_of_public_url_needs_no_encoding() {
        for path in [
            "/채팅",
            "/%EC%B1%84",
            "/a%2fb",
            "/a//b",
            "//a",
            "/a/./b",
            "/a/../b",
            "/..",
            "/%2e%2e/a",
            "/a\\b",
            "/a b",
            "/a;b",
            "/a,b",
            "/a'b",
            "/a\"b",
            "/a<b",
            "/a{b}",
            "/a*",
            "/a?",
            "/a?b",
            "/a#",
            "/a@b",
            "/a:b",
            "/a+b",
        ] {
            let error = format!("https://shop.example{path}").parse::<PublicUrl>().expect_err(path);
            assert!(error.to_string().contains("/chat"), "{error}");
        }
    }

    #[test]
    fn cookie_domain_must_be_a_host_name() {
        assert_eq!(".Chat.Example".parse::<CookieDomain>().unwrap().as_str(), "chat.example");
        for bad in ["", "chat.example/", "a b", "chat..example", "chat.example;Secure"] {
            assert!(bad.parse::<CookieDomain>().is_err(), "{bad}");
        }
    }
}
