//! Option values that contain secrets and must not appear in logs or error messages.
//!
//! **Invariant:** the output of `Debug` and `Display` contains no secret. Clap parses these options as [`Hidden`],
//! which accepts any string, because clap's error messages contain the rejected value.

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use url::Url;

use super::values::InvalidValue;

/// Unparsed option value whose `Debug` output hides the string.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// Returns the string, which may be a secret and must not be logged.
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

/// Keys for access tokens. The first key signs new tokens, and all keys verify tokens. A key can therefore be replaced
/// while tokens that it signed are still valid.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtSecrets(Vec<String>);

impl JwtSecrets {
    /// Minimum length of a key in bytes: the output size of the hash function of HS256.
    pub const MIN_LEN: usize = 32;

    /// Parses a comma-separated list of keys.
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

    /// Returns the key that signs tokens.
    pub fn signing(&self) -> &[u8] {
        self.0.first().map_or(&[], |key| key.as_bytes())
    }

    /// Returns the keys that verify tokens, with the signing key first.
    pub fn verifying(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|key| key.as_bytes())
    }
}

impl fmt::Debug for JwtSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwtSecrets({} keys)", self.0.len())
    }
}

/// Returns the URL with `***` in place of its password and of its query, which may contain another password.
fn masked(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return "***".to_owned() };
    if url.password().is_some() {
        // The call fails only if the URL has no host. Such a URL has no password.
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
            /// Returns the URL with its password, for the driver that connects to it. The result must not be logged.
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
    /// URL of the database: `mysql://user:password@host:port/database`, or `sqlite:///absolute/path`.
    DatabaseUrl
}

secret_url! {
    /// URL of Redis: `redis://`, `redis-sentinel://` or `redis-cluster://`; with TLS, `rediss://`, `rediss-sentinel://`
    /// or `rediss-cluster://`.
    RedisUrl
}

secret_url! {
    /// URL of the mail server: `smtp://` or `smtps://`, in the format of lettre.
    SmtpUrl
}

impl DatabaseUrl {
    /// Parses a URL and checks its format. Does not connect.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let invalid = || InvalidValue::new("expected mysql://user:password@host:port/database or sqlite:///path");
        if let Some(path) = text.strip_prefix("sqlite:") {
            let file = path.trim_start_matches('/');
            return if file.is_empty() || path.contains(":memory:") {
                Err(invalid())
            } else {
                Ok(Self(text.to_owned()))
            };
        }
        let url = Url::parse(text).map_err(|_| invalid())?;
        let database = url.path().trim_matches('/');
        if url.scheme() != "mysql" || url.host_str().is_none_or(str::is_empty) || database.is_empty() {
            return Err(invalid());
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the URL of the SQLite file at an absolute path; `None` if the path is not UTF-8.
    pub fn sqlite(path: &Path) -> Option<Self> {
        let mut url = "sqlite://".to_owned();
        for character in path.to_str()?.chars() {
            // These characters have a special meaning in URLs.
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

    /// Returns whether the database is SQLite. Only one node at a time can use a SQLite file.
    pub fn is_sqlite(&self) -> bool {
        self.0.starts_with("sqlite:")
    }
}

/// Topology of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisTopology {
    /// A single Redis server.
    Standalone,
    /// A primary with replicas. Redis Sentinel monitors the primary and promotes a replica if the primary fails.
    Sentinel,
    /// Redis Cluster: several primaries, each of which stores some of the slots.
    Cluster,
}

impl RedisUrl {
    /// Parses a URL and checks its format. Does not connect.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let invalid = || InvalidValue::new("expected redis://, redis-sentinel:// or redis-cluster:// (rediss for TLS)");
        let known = ["redis", "redis-sentinel", "redis-cluster", "rediss", "rediss-sentinel", "rediss-cluster"];
        let url = Url::parse(text).map_err(|_| invalid())?;
        if !known.contains(&url.scheme()) || url.host_str().is_none_or(str::is_empty) {
            return Err(invalid());
        }
        // The error is replaced, because its message may contain the URL.
        fred::types::config::Config::from_url(text).map_err(|_| invalid())?;
        Ok(Self(text.to_owned()))
    }

    /// Returns the topology that the scheme of the URL selects.
    pub fn topology(&self) -> RedisTopology {
        match self.0.split_once("://").map(|(scheme, _)| scheme) {
            Some("redis-sentinel" | "rediss-sentinel") => RedisTopology::Sentinel,
            Some("redis-cluster" | "rediss-cluster") => RedisTopology::Cluster,
            _ => RedisTopology::Standalone,
        }
    }
}

impl SmtpUrl {
    /// Parses a URL and checks its format. Does not connect.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        use lettre::{AsyncSmtpTransport, Tokio1Executor};
        let invalid = || InvalidValue::new("expected smtp://user:password@host:port or smtps://…");
        if !["smtp://", "smtps://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(invalid());
        }
        AsyncSmtpTransport::<Tokio1Executor>::from_url(text).map_err(|_| invalid())?;
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_in_url_is_not_printed() {
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
    fn token_keys_have_at_least_32_bytes() {
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
    fn scheme_of_url_selects_the_store() {
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
    fn special_characters_in_path_are_encoded() {
        let url = DatabaseUrl::sqlite(Path::new("/srv/100% ours?/db.sqlite")).unwrap();
        assert_eq!(url.expose(), "sqlite:///srv/100%25%20ours%3F/db.sqlite");
    }
}
