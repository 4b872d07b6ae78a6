//! Values that must not be seen: neither in a log nor in an error that quotes what was wrong.
//!
//! **Invariant:** nothing here prints a secret through `Debug` or `Display`, and clap parses these options as
//! [`Hidden`], which takes anything: an error of clap's own would quote the value.

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use url::Url;

use super::values::InvalidValue;

/// Text as it came, shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hidden {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(***)")
    }
}

/// The keys of the tokens: the first signs, all verify, so that keys can be changed while tokens live.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtSecrets(Vec<String>);

impl JwtSecrets {
    /// The least length of a key in bytes: the output of the hash that HS256 uses.
    pub const MIN_LEN: usize = 32;

    /// Reads a list separated by commas.
    pub fn parse(list: &str) -> Result<Self, InvalidValue> {
        let keys: Vec<String> = list.split(',').map(|key| key.trim().to_owned()).collect();
        match keys.iter().position(|key| key.len() < Self::MIN_LEN) {
            None => Ok(Self(keys)),
            Some(_) if keys.len() == 1 => {
                Err(InvalidValue::new(format!("the secret is shorter than {} bytes", Self::MIN_LEN)))
            }
            Some(at) => {
                Err(InvalidValue::new(format!("secret {} of the list is shorter than {} bytes", at + 1, Self::MIN_LEN)))
            }
        }
    }

    /// The key that signs.
    pub fn signing(&self) -> &[u8] {
        self.0.first().map_or(&[], |key| key.as_bytes())
    }

    /// The keys that verify, the signing one first.
    pub fn verifying(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|key| key.as_bytes())
    }
}

impl fmt::Debug for JwtSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwtSecrets({} keys)", self.0.len())
    }
}

/// The URL's text with its password, and any query (which may hold another), replaced by stars.
fn masked(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return "***".to_owned() };
    if url.password().is_some() {
        // Fails only for a URL without a host, which then has no password either.
        let _ = url.set_password(Some("***"));
    }
    if url.query().is_some() {
        url.set_query(Some("***"));
    }
    url.to_string()
}

macro_rules! secret_url {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// The URL itself, password and all: for the driver that connects, never for a log.
            pub fn expose(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&masked(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

secret_url! {
    /// Where SQL is: `mysql://user:password@host:port/database`, or `sqlite:///absolute/path`.
    DatabaseUrl
}

secret_url! {
    /// Where Redis is: `redis://`, `redis-sentinel://`, `redis-cluster://`, each also as `rediss…://` over TLS.
    RedisUrl
}

secret_url! {
    /// Where mail leaves: `smtp://` or `smtps://`, as lettre reads them.
    SmtpUrl
}

impl DatabaseUrl {
    /// Checks the form of a given URL; says nothing of whether a server is there.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let refused = || InvalidValue::new("expected mysql://user:password@host:port/database or sqlite:///path");
        if let Some(path) = text.strip_prefix("sqlite:") {
            let file = path.trim_start_matches('/');
            return if file.is_empty() || path.contains(":memory:") {
                Err(refused())
            } else {
                Ok(Self(text.to_owned()))
            };
        }
        let url = Url::parse(text).map_err(|_| refused())?;
        let database = url.path().trim_matches('/');
        if url.scheme() != "mysql" || url.host_str().is_none_or(str::is_empty) || database.is_empty() {
            return Err(refused());
        }
        Ok(Self(text.to_owned()))
    }

    /// The SQLite file at an absolute path; `None` when the path is not UTF-8.
    pub fn sqlite(path: &Path) -> Option<Self> {
        let mut url = "sqlite://".to_owned();
        for character in path.to_str()?.chars() {
            // What a URL would read as something else than a part of the path.
            match character {
                '%' => url.push_str("%25"),
                '?' => url.push_str("%3F"),
                '#' => url.push_str("%23"),
                ' ' => url.push_str("%20"),
                other => url.push(other),
            }
        }
        Some(Self(url))
    }

    /// Whether it is a file of this machine, which no other node can share.
    pub fn is_sqlite(&self) -> bool {
        self.0.starts_with("sqlite:")
    }
}

/// How Redis is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisTopology {
    /// One server.
    Standalone,
    /// A primary that sentinels name and replace.
    Sentinel,
    /// Many primaries, each with its slots.
    Cluster,
}

impl RedisUrl {
    /// Checks the form of a given URL; says nothing of whether a server is there.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let refused = || InvalidValue::new("expected redis://, redis-sentinel:// or redis-cluster:// (rediss for TLS)");
        let known = ["redis", "redis-sentinel", "redis-cluster", "rediss", "rediss-sentinel", "rediss-cluster"];
        let url = Url::parse(text).map_err(|_| refused())?;
        if !known.contains(&url.scheme()) || url.host_str().is_none_or(str::is_empty) {
            return Err(refused());
        }
        // The driver's own words may quote the URL.
        fred::types::config::Config::from_url(text).map_err(|_| refused())?;
        Ok(Self(text.to_owned()))
    }

    /// The layout that the scheme names.
    pub fn topology(&self) -> RedisTopology {
        match self.0.split_once("://").map(|(scheme, _)| scheme) {
            Some("redis-sentinel" | "rediss-sentinel") => RedisTopology::Sentinel,
            Some("redis-cluster" | "rediss-cluster") => RedisTopology::Cluster,
            _ => RedisTopology::Standalone,
        }
    }
}

impl SmtpUrl {
    /// Checks the form of a given URL; says nothing of whether a server is there.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        use lettre::{AsyncSmtpTransport, Tokio1Executor};
        let refused = || InvalidValue::new("expected smtp://user:password@host:port or smtps://…");
        if !["smtp://", "smtps://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(refused());
        }
        AsyncSmtpTransport::<Tokio1Executor>::from_url(text).map_err(|_| refused())?;
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_never_shown() {
        let database = DatabaseUrl::parse("mysql://pin:s3cret@db.example:3306/pintalk?ssl-key=s3cret").unwrap();
        let redis =
            RedisUrl::parse("redis-sentinel://:s3cret@a:26379?sentinelPassword=s3cret&sentinelServiceName=p").unwrap();
        let smtp = SmtpUrl::parse("smtps://pin:s3cret@mail.example").unwrap();
        for shown in [
            format!("{database:?} {database}"),
            format!("{redis:?} {redis}"),
            format!("{smtp:?} {smtp}"),
            format!("{:?}", "s3cret".parse::<Hidden>().unwrap()),
            format!("{:?}", JwtSecrets::parse(&"s3cret".repeat(8)).unwrap()),
        ] {
            assert!(!shown.contains("s3cret"), "{shown}");
        }
        assert_eq!(database.to_string(), "mysql://pin:***@db.example:3306/pintalk?***");
        assert!(database.expose().contains("s3cret"));
    }

    #[test]
    fn every_token_key_has_at_least_32_bytes() {
        let (old, new) = ("o".repeat(32), "n".repeat(32));
        let keys = JwtSecrets::parse(&format!("{new}, {old}")).unwrap();
        assert_eq!(keys.signing(), new.as_bytes());
        assert_eq!(keys.verifying().collect::<Vec<_>>(), [new.as_bytes(), old.as_bytes()]);
        for bad in ["", "short", &format!("{new},"), &format!("{new},short")] {
            let error = JwtSecrets::parse(bad).unwrap_err();
            assert!(!error.to_string().contains(&new), "{error}");
        }
    }

    #[test]
    fn a_store_is_named_by_the_scheme_of_its_url() {
        assert!(DatabaseUrl::parse("sqlite:///var/lib/pintalk/db.sqlite").unwrap().is_sqlite());
        assert!(!DatabaseUrl::parse("mysql://root@127.0.0.1:3306/pintalk").unwrap().is_sqlite());
        for bad in ["", "mysql://root@127.0.0.1:3306", "postgres://a/b", "sqlite:", "sqlite::memory:", "db.example"] {
            assert!(DatabaseUrl::parse(bad).is_err(), "{bad}");
        }
        let topology = |url: &str| RedisUrl::parse(url).map(|url| url.topology());
        assert_eq!(topology("redis://127.0.0.1:6379"), Ok(RedisTopology::Standalone));
        assert_eq!(topology("rediss-cluster://a:1?node=b:2"), Ok(RedisTopology::Cluster));
        assert_eq!(topology("redis-sentinel://a:1?sentinelServiceName=pintalk"), Ok(RedisTopology::Sentinel));
        for bad in ["", "127.0.0.1:6379", "http://a:1", "redis://", "redis-sentinel://a:1"] {
            assert!(topology(bad).is_err(), "{bad}");
        }
        for bad in ["", "mail.example", "https://mail.example", "smtp://"] {
            assert!(SmtpUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_strange_path_survives_the_way_into_a_url() {
        let url = DatabaseUrl::sqlite(Path::new("/srv/100% ours?/db.sqlite")).unwrap();
        assert_eq!(url.expose(), "sqlite:///srv/100%25%20ours%3F/db.sqlite");
    }
}
