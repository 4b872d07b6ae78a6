//! Which web pages may talk for a host: his registered service domains against a browser's `Origin` (SPEC 2).

use url::Url;

/// A text that no service domain can be made of, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{entry}` is not a host name with an optional port")]
pub struct InvalidDomain {
    /// The entry as it was written.
    pub entry: String,
}

/// The longest list of domains that is stored, in characters.
const MAX_DOMAINS_LEN: usize = 200;

/// Brings what a host typed into the form that is stored: a comma-separated list of `host[:port]` entries in lower-case
/// ASCII, each with an optional leading `*.`. A pasted URL loses its scheme and path. An empty text is `None`.
///
/// # Errors
/// The first entry that is no domain, or the whole text if it is too long.
pub fn normalize_domains(text: &str) -> Result<Option<String>, InvalidDomain> {
    let entries = text
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            Entry::parse(entry)
                .map(|parsed| parsed.to_string())
                .ok_or_else(|| InvalidDomain { entry: entry.to_owned() })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let list = entries.join(",");
    if list.len() > MAX_DOMAINS_LEN {
        return Err(InvalidDomain { entry: text.chars().take(40).collect() });
    }
    Ok(if list.is_empty() { None } else { Some(list) })
}

/// One entry of a host's list.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    wildcard: bool,
    host: String,
    port: Option<u16>,
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        // `shop.example:3000` must not be read as a URL of the scheme `shop.example`.
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let (wildcard, rest) = match rest.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https" | "ws" | "wss") {
            return None;
        }
        let authority = rest.split(['/', '?', '#']).next()?;
        if authority.is_empty() || authority.contains('@') {
            return None;
        }
        // A port that is the pasted scheme's default says nothing.
        let url = Url::parse(&format!("{scheme}://{authority}/")).ok()?;
        let explicit = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        let port = if text.contains("://") || !explicit { url.port() } else { url.port_or_known_default() };
        let host = url.host_str()?.trim_end_matches('.').to_owned();
        if host.is_empty() || host.contains('*') {
            return None;
        }
        Some(Self { wildcard, host, port })
    }

    fn matches(&self, origin: &Origin) -> bool {
        let host = match (self.wildcard, origin.host.strip_suffix(self.host.as_str())) {
            (false, Some("")) => true,
            (true, Some(labels)) => labels.len() > 1 && labels.ends_with('.'),
            _ => false,
        };
        host && self.port.unwrap_or(origin.default_port) == origin.port
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.wildcard {
            f.write_str("*.")?;
        }
        f.write_str(&self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// A browser's `Origin` header, as far as it can name a site at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    host: String,
    port: u16,
    default_port: u16,
}

impl Origin {
    /// Reads an `Origin` header. `null`, `file://` and anything else that is not `http(s)://host[:port]` is `None`: it
    /// matches nobody.
    pub fn parse(header: &str) -> Option<Self> {
        let url = Url::parse(header).ok()?;
        let default_port = match url.scheme() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        if !matches!(url.path(), "" | "/")
            || url.query().is_some()
            || url.fragment().is_some()
            || !url.username().is_empty()
        {
            return None;
        }
        Some(Self {
            host: url.host_str()?.trim_end_matches('.').to_owned(),
            port: url.port().unwrap_or(default_port),
            default_port,
        })
    }

    /// Whether this origin is one of a host's registered domains.
    pub fn is_allowed(&self, service_domain: Option<&str>) -> bool {
        service_domain
            .unwrap_or_default()
            .split(',')
            .filter_map(|entry| Entry::parse(entry.trim()))
            .any(|entry| entry.matches(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origin: &str, domains: &str) -> bool {
        Origin::parse(origin).is_some_and(|origin| origin.is_allowed(Some(domains)))
    }

    #[test]
    fn a_pasted_url_becomes_a_host_with_a_port() {
        let normal = |text: &str| normalize_domains(text).map(Option::unwrap_or_default);
        assert_eq!(normal("https://Shop.Example/path?x=1"), Ok("shop.example".into()));
        assert_eq!(normal("localhost:3000"), Ok("localhost:3000".into()));
        assert_eq!(normal("http://localhost:3000/"), Ok("localhost:3000".into()));
        assert_eq!(normal("https://shop.example:443"), Ok("shop.example".into()));
        assert_eq!(normal(" a.example , *.B.example:8443,"), Ok("a.example,*.b.example:8443".into()));
        assert_eq!(normal("한국.example"), Ok("xn--3e0b707e.example".into()));
        assert_eq!(normal("shop.example:80"), Ok("shop.example:80".into()));
        assert_eq!(normalize_domains("  "), Ok(None));
        for bad in ["file:///etc", "a b", "ftp://x.example", "user@x.example", "*", "https://", "x:99999"] {
            assert!(normalize_domains(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_origin_matches_by_host_and_port_only() {
        assert!(allowed("https://shop.example", "shop.example"));
        assert!(allowed("http://shop.example", "shop.example"));
        assert!(allowed("https://SHOP.example:443", "shop.example"));
        assert!(allowed("http://localhost:3000", "localhost:3000"));
        assert!(allowed("http://shop.example", "shop.example:80"));
        assert!(allowed("https://b.example", "a.example,b.example"));
        assert!(allowed("https://한국.example", "xn--3e0b707e.example"));
        assert!(!allowed("http://localhost:3001", "localhost:3000"));
        assert!(!allowed("https://shop.example:8443", "shop.example"));
        assert!(!allowed("https://shop.example", "shop.example:80"));
        assert!(!allowed("https://evilshop.example", "shop.example"));
        assert!(!allowed("https://shop.example.evil.example", "shop.example"));
    }

    #[test]
    fn a_wildcard_covers_subdomains_and_not_the_domain_itself() {
        assert!(allowed("https://a.shop.example", "*.shop.example"));
        assert!(allowed("https://a.b.shop.example", "*.shop.example"));
        assert!(!allowed("https://shop.example", "*.shop.example"));
        assert!(!allowed("https://evilshop.example", "*.shop.example"));
    }

    #[test]
    fn null_and_files_match_nobody() {
        for origin in ["null", "file://", "", "shop.example", "https://shop.example/path", "chrome-extension://abc"] {
            assert!(Origin::parse(origin).is_none(), "{origin}");
        }
        assert!(!Origin::parse("https://shop.example").unwrap().is_allowed(None));
    }
}
