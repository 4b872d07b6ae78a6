//! Values of options that clap itself has no type for. Each says in one clause what it expected.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use crate::domain::url_path;

/// A value that is not of the form its option expects. The text completes "invalid value …: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(String);

impl InvalidValue {
    pub(super) fn new(expected: impl Into<String>) -> Self {
        Self(expected.into())
    }
}

/// `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// Yes.
    #[value(aliases = ["true", "yes", "1"])]
    On,
    /// No.
    #[value(aliases = ["false", "no", "0"])]
    Off,
}

impl Switch {
    /// Whether it is `on`.
    pub fn is_on(self) -> bool {
        self == Switch::On
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object a line, for a collector.
    Json,
}

/// Which part of something: from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(pub f64);

impl FromStr for Ratio {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let part = text.parse::<f64>().ok().filter(|part| (0.0..=1.0).contains(part));
        part.map(Self).ok_or_else(|| InvalidValue::new("expected a number from 0 to 1"))
    }
}

/// Where a collector takes OTLP over HTTP: scheme and authority, perhaps a path, never a final slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint(String);

impl OtlpEndpoint {
    /// Where it takes traces.
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

/// A span of time such as `90s`, `15m` or `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_| InvalidValue::new("expected a span of time such as 90s, 15m or 7d"))
    }
}

/// How long replaced keys go on: perhaps not at all, and not so long that nobody lives to see their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyGrace(pub Duration);

impl FromStr for KeyGrace {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text.parse::<Span>()? {
            Span(span) if span > Duration::from_secs(366 * 86_400) => Err(InvalidValue::new("expected at most 366d")),
            Span(span) => Ok(Self(span)),
        }
    }
}

/// A span of time that is not nothing: what a retention must be, where 0 would mean "delete at once".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongSpan(pub Duration);

impl FromStr for LongSpan {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text.parse::<Span>()? {
            Span(span) if span < Duration::from_secs(1) => Err(InvalidValue::new("expected at least a second")),
            Span(span) => Ok(Self(span)),
        }
    }
}

/// A [`LongSpan`], or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanOrOff(pub Option<Duration>);

impl FromStr for SpanOrOff {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "off" => Ok(Self(None)),
            _ => text.parse::<LongSpan>().map(|LongSpan(span)| Self(Some(span))),
        }
    }
}

/// A page's origin exactly as a browser writes it into `Origin`: `https://admin.example`, no path, no default port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOrigin(String);

impl WebOrigin {
    /// The header's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WebOrigin {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let refused = || InvalidValue::new("expected origins such as https://admin.example, separated by commas");
        let url = Url::parse(text.trim()).map_err(|_| refused())?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        if !matches!(url.scheme(), "http" | "https") || !bare {
            return Err(refused());
        }
        Ok(Self(url.origin().ascii_serialization()))
    }
}

/// Where clients reach this server: scheme and authority, perhaps a path such as `/chat`, never a final slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// The URL, to which a path with its leading slash is appended.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its path without a final slash: `/chat`, or nothing for the root.
    pub fn path(&self) -> &str {
        url_path(&self.0)
    }

    /// Whether this is its origin.
    pub fn has_origin(&self, origin: &str) -> bool {
        self.0.strip_suffix(self.path()).is_some_and(|own| own.eq_ignore_ascii_case(origin.trim_end_matches('/')))
    }

    /// Whether cookies may be `Secure`.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }
}

impl FromStr for PublicUrl {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let refused = || InvalidValue::new("expected a URL such as https://chat.example or https://shop.example/chat");
        let url = Url::parse(text).map_err(|_| refused())?;
        let is_plain = url.query().is_none() && url.fragment().is_none();
        let is_anonymous = url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() || !is_plain || !is_anonymous {
            return Err(refused());
        }
        let url = url.as_str().trim_end_matches('/');
        // `Url` resolves dot segments and backslashes, so they are looked for in the text.
        let is_resolved = text.contains(['\\', '%']) || text.split('/').any(|segment| matches!(segment, "." | ".."));
        if is_resolved || !url_path(url).split('/').skip(1).all(is_path_segment) {
            return Err(InvalidValue::new(
                "expected a path such as /chat: each of its segments has only letters, digits and -._~",
            ));
        }
        Ok(Self(url.to_owned()))
    }
}

/// Whether a segment is the same text in a cookie's `Path`, in a proxy's configuration and in every spelling of a URL.
fn is_path_segment(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The `Domain` of the refresh cookie: a host name, kept without the leading dot that some still write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieDomain(String);

impl CookieDomain {
    /// The name.
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

/// Networks: whose `X-Forwarded-For` is believed, or where webhooks may lead though no other does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

impl Networks {
    /// None at all.
    pub const NONE: Self = Self(Vec::new());

    /// Whether an address is in one of them. An IPv4 address mapped into IPv6, as a socket that listens on both shows it, is
    /// that IPv4 address.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Networks {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text.trim() == "none" {
            return Ok(Self::NONE);
        }
        text.split(',').map(|entry| entry.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

/// An address with the number of its leading bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    fn contains(&self, peer: IpAddr) -> bool {
        match (self.address, peer.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(peer)) => {
                let differs = net.to_bits() ^ peer.to_bits();
                differs.checked_shr(32 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(peer)) => {
                let differs = net.to_bits() ^ peer.to_bits();
                differs.checked_shr(128 - self.prefix).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let refused = || InvalidValue::new("expected addresses or networks such as 10.0.0.0/8, or none");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().map_err(|_| refused())?)),
            None => (text, None),
        };
        let address = address.parse::<IpAddr>().map_err(|_| refused())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        match prefix.unwrap_or(bits) {
            prefix if prefix <= bits => Ok(Self { address, prefix }),
            _ => Err(refused()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_addresses_and_prefixes() {
        let networks: Networks = "10.0.0.0/8, 192.0.2.7,2001:db8::/32".parse().unwrap();
        for inside in ["10.255.0.1", "192.0.2.7", "2001:db8:ffff::1", "::ffff:10.1.2.3"] {
            assert!(networks.contain(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.0.0.1", "192.0.2.8", "2001:db9::1", "::1", "127.0.0.1"] {
            assert!(!networks.contain(outside.parse().unwrap()), "{outside}");
        }
        let everybody: Networks = "0.0.0.0/0,::/0".parse().unwrap();
        assert!(everybody.contain("203.0.113.9".parse().unwrap()) && everybody.contain("2001::1".parse().unwrap()));
        assert!("none".parse::<Networks>().unwrap().is_empty());
        for bad in ["", "10.0.0.0/33", "::/129", "proxy.example", "10.0.0.0/", "10.0.0.1,,10.0.0.2", "10/8"] {
            assert!(bad.parse::<Networks>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_span_is_written_for_people_and_idle_close_may_be_off() {
        assert_eq!("7d".parse(), Ok(Span(Duration::from_secs(604_800))));
        assert_eq!("0s".parse(), Ok(Span(Duration::ZERO)));
        assert_eq!("off".parse(), Ok(SpanOrOff(None)));
        assert_eq!("1h 30m".parse(), Ok(SpanOrOff(Some(Duration::from_secs(5_400)))));
        assert!("7".parse::<Span>().is_err());
        assert!("0s".parse::<SpanOrOff>().is_err());
        assert!("0s".parse::<LongSpan>().is_err());
        assert_eq!("0s".parse(), Ok(KeyGrace(Duration::ZERO)));
        assert!("366d".parse::<KeyGrace>().is_ok() && "367d".parse::<KeyGrace>().is_err());
    }

    #[test]
    fn an_admin_origin_is_kept_as_a_browser_writes_it() {
        let origin = |text: &str| text.parse::<WebOrigin>().map(|origin| origin.as_str().to_owned());
        assert_eq!(origin("HTTPS://Admin.Example:443/"), Ok("https://admin.example".into()));
        assert_eq!(origin("http://localhost:3000"), Ok("http://localhost:3000".into()));
        for bad in ["admin.example", "https://admin.example/x", "*", "null", "ftp://a.example", "https://u@a.example"] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_public_url_has_no_final_slash() {
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
    fn the_public_url_has_its_origin_whatever_its_path() {
        for url in ["https://shop.example", "https://shop.example/chat"] {
            let url: PublicUrl = url.parse().unwrap();
            assert!(url.has_origin("https://shop.example") && url.has_origin("https://Shop.example/"));
            assert!(!url.has_origin("http://shop.example") && !url.has_origin("https://admin.shop.example"));
        }
    }

    #[test]
    fn the_path_of_the_public_url_is_the_same_text_everywhere() {
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
    fn a_cookie_domain_is_a_host_name() {
        assert_eq!(".Chat.Example".parse::<CookieDomain>().unwrap().as_str(), "chat.example");
        for bad in ["", "chat.example/", "a b", "chat..example", "chat.example;Secure"] {
            assert!(bad.parse::<CookieDomain>().is_err(), "{bad}");
        }
    }
}
