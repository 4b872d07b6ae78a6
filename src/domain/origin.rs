//! Checks the `Origin` header of a browser against the service domains that a host registered (SPEC 2).

use url::Url;

/// Error for a string that is not a valid service domain. Each variant contains the entry as the host entered it, or
/// the beginning of a list that is too long.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDomain {
    /// The entry is not a host name with an optional port, or the list is too long.
    #[error("`{0}` is not a host name with an optional port")]
    Malformed(String),
    /// The entry is a public suffix, with or without `*.`. Anyone can register a site below a public suffix.
    #[error("`{0}` is a public suffix: its subdomains belong to others")]
    PublicSuffix(String),
}

/// Maximum length of the stored list of domains, in characters.
const MAX_DOMAINS_LEN: usize = 200;

/// Normalises a list of domains for storage. The result is a comma-separated list of `host[:port]` entries in
/// lower-case ASCII. An entry may begin with `*.`. The scheme and path of a pasted URL are removed. Returns `None` for
/// a list without entries.
///
/// # Errors
/// Returns the first entry that is malformed or is a public suffix. If the normalised list is too long, returns the
/// first 40 characters of `text`.
pub fn normalize_domains(text: &str) -> Result<Option<String>, InvalidDomain> {
    let entries = text
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let parsed = Entry::parse(entry).ok_or_else(|| InvalidDomain::Malformed(entry.to_owned()))?;
            if parsed.is_public_suffix() {
                return Err(InvalidDomain::PublicSuffix(entry.to_owned()));
            }
            Ok(parsed.to_string())
        })
        .collect::<Result<Vec<_>, _>>()?;
    let list = entries.join(",");
    if list.len() > MAX_DOMAINS_LEN {
        return Err(InvalidDomain::Malformed(text.chars().take(40).collect()));
    }
    Ok(if list.is_empty() { None } else { Some(list) })
}

/// One entry of a host's list of domains.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    wildcard: bool,
    host: String,
    port: Option<u16>,
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        // The default scheme prevents `shop.example:3000` from being parsed as a URL with the scheme `shop.example`.
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
        // `Url` removes a port that is the default port of its scheme.
        let url = Url::parse(&format!("{scheme}://{authority}/")).ok()?;
        let explicit = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        let port = if text.contains("://") || !explicit { url.port() } else { url.port_or_known_default() };
        let host = host_of(&url)?;
        let is_name = url.domain().is_some();
        if host.contains('*') || wildcard && !is_name {
            return None;
        }
        Some(Self { wildcard, host, port })
    }

    /// Returns whether subdomains of this name belong to unrelated parties, as those of `co.kr` and `github.io` do.
    /// The public suffix list decides. A name that no rule of the list covers, for example in a private network, is not
    /// a public suffix.
    fn is_public_suffix(&self) -> bool {
        let is_suffix = |name: &str| {
            let suffix = psl::suffix(name.as_bytes());
            suffix.is_some_and(|suffix| suffix.is_known() && suffix.as_bytes() == name.as_bytes())
        };
        // The list contains Unicode and ASCII names, and `psl` may compare either form. Both forms are therefore
        // checked.
        let (unicode, _) = idna::domain_to_unicode(&self.host);
        [self.host.as_str(), unicode.as_str()].into_iter().any(|name| {
            // A rule such as `*.ck` makes every direct subdomain a public suffix. A wildcard over `ck` would therefore
            // cover sites of unrelated parties.
            is_suffix(name) || self.wildcard && is_suffix(&format!("a.{name}"))
        })
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

/// Returns the host of a URL without the trailing dot of a fully qualified name. Returns `None` for a name with an
/// empty label, because such a name could be parsed as an IP address after its dots are removed.
fn host_of(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    let host = host.strip_suffix('.').unwrap_or(host);
    (!host.split('.').any(str::is_empty)).then(|| host.to_owned())
}

/// Parsed `Origin` header of a web page that was served over HTTP or HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    host: String,
    port: u16,
    default_port: u16,
}

impl Origin {
    /// Parses an `Origin` header. Returns `None` for `null`, `file://` and every other value that is not of the form
    /// `http(s)://host[:port]`. Such an origin matches no domain.
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
        Some(Self { host: host_of(&url)?, port: url.port().unwrap_or(default_port), default_port })
    }

    /// Returns whether this origin matches one of a host's registered domains.
    pub fn is_allowed(&self, service_domain: Option<&str>) -> bool {
        service_domain
            .unwrap_or_default()
            .split(',')
            .filter_map(|entry| Entry::parse(entry.trim()))
            // Earlier releases stored wildcards over public suffixes, so they are checked again here.
            .any(|entry| entry.matches(self) && !(entry.wildcard && entry.is_public_suffix()))
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
    fn a_public_suffix_is_no_service_domain() {
        for bad in [
            "*.co.kr",
            "co.kr",
            "*.CO.KR",
            "*.co.kr.",
            "*.co.kr:8443",
            "https://*.co.kr/path",
            "shop.example, *.co.kr",
            "*.com",
            "com",
            "*.github.io",
            "github.io",
            "*.vercel.app",
            // A wildcard rule of the public suffix list applies to each of the following names.
            "*.ck",
            "*.kawasaki.jp",
            "*.city-of-ten.kawasaki.jp",
            // The following entries are internationalised names in Unicode and in ASCII, a name in full-width letters
            // and a percent-encoded name.
            "*.한국",
            "*.xn--3e0b707e",
            "*.公司.cn",
            "*.xn--55qx5d.cn",
            "*.ｃｏ．ｋｒ",
            "*.c%6f.kr",
        ] {
            assert!(matches!(normalize_domains(bad), Err(InvalidDomain::PublicSuffix(_))), "{bad}");
        }
        for good in [
            "shop.co.kr",
            "*.shop.co.kr",
            "me.github.io",
            "*.shop.com",
            "localhost",
            "localhost:3000",
            "*.localhost",
            "127.0.0.1:3000",
            "[::1]:3000",
            "intranet",
            "*.shop.example",
            "*.corp.internal",
            "www.ck",
            "city.kawasaki.jp",
            "shop.한국",
        ] {
            assert!(normalize_domains(good).is_ok(), "{good}: {:?}", normalize_domains(good));
        }
        assert!(normalize_domains("*.127.0.0.1").is_err() && normalize_domains("*.[::1]").is_err());
    }

    #[test]
    fn a_stored_wildcard_over_a_public_suffix_is_not_honoured() {
        for (origin, stored) in [
            ("https://evil.co.kr", "*.co.kr"),
            ("https://evil.github.io", "*.github.io"),
            ("https://evil.com", "*.com"),
            ("https://evil.xn--3e0b707e", "*.xn--3e0b707e"),
        ] {
            assert!(!allowed(origin, stored), "{stored}");
            assert!(allowed("https://shop.example", &format!("{stored},shop.example")), "{stored}");
        }
        assert!(allowed("https://a.shop.co.kr", "*.shop.co.kr"));
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

    /// Inputs that earlier releases handled incorrectly, and similar inputs.
    const CORPUS: &[&str] = &[
        "",
        ",",
        "*",
        "*.",
        "*.*.a",
        "a:",
        "a:0",
        "a:65536",
        "[::1]",
        "[::1",
        "*.co.kr.",
        "xn--",
        "xn--a",
        "a..b",
        // Earlier releases stored this entry as `0`, and parsed `0` as the address 0.0.0.0 afterwards.
        "0..",
        "a..",
        ".a",
        "a.",
        "a%2eb",
        "a%00b",
        "a\\b",
        "a@b",
        "//a",
        "http:a",
        "http:///a",
        "https://a:443",
        "1",
        "0x7f.1",
        "ａ．ｂ",
        "a\u{ad}b",
        "ß.example",
        "한국",
        "*.한국",
    ];

    /// Checks three properties of a normalised list: a second normalisation does not change it, it allows the sites
    /// that it names, and it contains no wildcard over a public suffix.
    fn check(text: &str) {
        let Ok(Some(stored)) = normalize_domains(text) else { return };
        assert_eq!(normalize_domains(&stored), Ok(Some(stored.clone())), "{text:?}");
        for entry in stored.split(',') {
            let Some(base) = entry.strip_prefix("*.") else {
                assert!(allowed(&format!("http://{entry}"), &stored), "{text:?}");
                continue;
            };
            assert!(allowed(&format!("http://a.{base}"), &stored), "{text:?}");
            assert!(psl::suffix(base.as_bytes()).is_none_or(|suffix| !suffix.is_known() || suffix != base), "{text:?}");
        }
    }

    #[test]
    fn the_corpus_holds() {
        for text in CORPUS {
            check(text);
            Origin::parse(text);
            Origin::parse(&format!("https://{text}"));
        }
    }

    proptest::proptest! {
        #[test]
        fn normalisation_is_idempotent(
            text in proptest::prop_oneof![
                "(https?://)?(\\*\\.)?[a-zA-Z0-9.:%_\\-\\[\\]]{0,20}(,[a-z*.:0-9]{0,12})?",
                "(\\*\\.)?(shop\\.)?(co\\.kr|github\\.io|com|ck|한국|公司\\.cn|example)\\.?(:[0-9]{1,5})?",
                "\\PC{0,30}",
            ],
        ) {
            check(&text);
        }

        #[test]
        fn no_origin_matches_another_name(
            origin in "[a-z]{1,6}(\\.[a-z]{1,6}){0,3}(:[0-9]{1,4})?",
            entry in "[a-z]{1,6}(\\.[a-z]{1,6}){0,3}(:[0-9]{1,4})?",
        ) {
            let is_allowed = allowed(&format!("https://{origin}"), &entry);
            let port = |text: &str| text.split_once(':').map_or(443, |(_, port)| port.parse::<u16>().unwrap());
            let name = |text: &str| text.split(':').next().unwrap().to_owned();
            let is_same = name(&origin) == name(&entry) && port(&origin) == port(&entry);
            proptest::prop_assert_eq!(is_allowed, is_same);
        }

        #[test]
        fn parsing_any_origin_does_not_panic(text in "\\PC{0,40}", list in "\\PC{0,40}") {
            if let Some(origin) = Origin::parse(&text) {
                origin.is_allowed(Some(&list));
            }
        }
    }
}
