//! Connection to the database.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use url::{Host, Url};

use super::{PARTS, authorities, encoded, first_set, lacks, parameter, secret_url, set_password};
use crate::backend::redis::roots;
use crate::node::config::secrets::{FILES, Hidden, Secret, SecretFile};
use crate::node::config::{ConfigError, InvalidValue};

/// Options that contain the whole URL.
const URLS: [&str; 2] = ["database_url", "database_url_file"];

/// Options of the connection to the database.
#[derive(Args, Clone, Debug)]
pub struct DatabaseArgs {
    /// Database: mysql://user:password@host:port/database or sqlite:///path [default: SQLite in the data directory].
    #[arg(long, env = "PINTALK_DATABASE_URL", value_name = "URL", hide_env_values = true, group = "database")]
    pub database_url: Option<Hidden>,
    /// File that contains --database-url.
    #[arg(long, env = "PINTALK_DATABASE_URL_FILE", value_name = "FILE", group = "database", help_heading = FILES)]
    pub database_url_file: Option<SecretFile>,
    /// Host name or address of MySQL, instead of --database-url.
    #[arg(long, env = "PINTALK_DATABASE_HOST", value_name = "HOST", group = "database", help_heading = PARTS, value_parser = parse_host)]
    pub database_host: Option<Host>,
    /// Port of MySQL [default: 3306].
    #[arg(long, env = "PINTALK_DATABASE_PORT", value_name = "PORT", help_heading = PARTS,
          conflicts_with_all = URLS)]
    pub database_port: Option<u16>,
    /// User of MySQL.
    #[arg(long, env = "PINTALK_DATABASE_USER", value_name = "NAME", help_heading = PARTS,
          conflicts_with_all = URLS)]
    pub database_user: Option<String>,
    /// Password of the user, for --database-host or for a --database-url without a password.
    #[arg(long, env = "PINTALK_DATABASE_PASSWORD", value_name = "PASSWORD", help_heading = PARTS, hide_env_values = true)]
    pub database_password: Option<Hidden>,
    /// File that contains --database-password.
    #[arg(long, env = "PINTALK_DATABASE_PASSWORD_FILE", value_name = "FILE", help_heading = FILES,
          conflicts_with = "database_password")]
    pub database_password_file: Option<SecretFile>,
    /// Name of the database in MySQL.
    #[arg(long, env = "PINTALK_DATABASE_NAME", value_name = "NAME", help_heading = PARTS,
          conflicts_with_all = URLS)]
    pub database_name: Option<String>,
    /// TLS to MySQL; only the verify modes check the certificate [default: preferred, with --database-ca verify-identity].
    #[arg(long, env = "PINTALK_DATABASE_TLS", value_enum, help_heading = PARTS)]
    pub database_tls: Option<DatabaseTls>,
    /// PEM file with the certificate authorities of MySQL.
    #[arg(long, env = "PINTALK_DATABASE_CA", value_name = "FILE", help_heading = PARTS)]
    pub database_ca: Option<PathBuf>,
}

/// TLS mode of connections to MySQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DatabaseTls {
    /// No TLS.
    Off,
    /// TLS if the server supports it; the certificate is not checked.
    Preferred,
    /// TLS; the certificate is not checked.
    Required,
    /// TLS; the certificate must be signed by a certificate authority that is trusted.
    VerifyCa,
    /// TLS; in addition, the certificate must contain the host name.
    VerifyIdentity,
}

impl DatabaseTls {
    /// Returns the value of the parameter `ssl-mode`.
    fn ssl_mode(self) -> &'static str {
        match self {
            Self::Off => "DISABLED",
            Self::Preferred => "PREFERRED",
            Self::Required => "REQUIRED",
            Self::VerifyCa => "VERIFY_CA",
            Self::VerifyIdentity => "VERIFY_IDENTITY",
        }
    }

    /// Parses the value of the parameter `ssl-mode`.
    fn of_ssl_mode(text: &str) -> Option<Self> {
        Self::value_variants().iter().find(|mode| mode.ssl_mode().eq_ignore_ascii_case(text)).copied()
    }
}

fn parse_host(text: &str) -> Result<Host, InvalidValue> {
    Host::parse(text).map_err(|_| InvalidValue::new("expected a host name or an IP address, IPv6 in brackets"))
}

impl DatabaseArgs {
    /// Returns the URL of the database. `None`: no option names a database.
    pub(in crate::node::config) fn url(&self) -> Result<Option<DatabaseUrl>, ConfigError> {
        let flags = ["database-url", "database-url-file"];
        let (flag, url) = match Secret::of(flags, self.database_url.as_ref(), self.database_url_file.as_ref()) {
            Some(url) => (url.flag, url.text.to_owned()),
            None => match &self.database_host {
                Some(host) => ("database-host", self.url_from_parts(host)?),
                None => {
                    return self
                        .orphan()
                        .map_or(Ok(None), |flag| Err(lacks(flag, "--database-url or --database-host")));
                }
            },
        };
        let url = DatabaseUrl::parse(&url).map_err(|error| ConfigError::new(flag, error))?;
        self.completed(url).map(Some)
    }

    /// Returns an option that is set, except for those that name a database.
    fn orphan(&self) -> Option<&'static str> {
        let options = [
            ("database-port", self.database_port.is_some()),
            ("database-user", self.database_user.is_some()),
            ("database-password", self.database_password.is_some()),
            ("database-password-file", self.database_password_file.is_some()),
            ("database-name", self.database_name.is_some()),
            ("database-tls", self.database_tls.is_some()),
            ("database-ca", self.database_ca.is_some()),
        ];
        first_set(&options)
    }

    fn url_from_parts(&self, host: &Host) -> Result<String, ConfigError> {
        let (Some(user), Some(name)) = (&self.database_user, &self.database_name) else {
            return Err(lacks("database-host", "--database-user and --database-name"));
        };
        let port = self.database_port.unwrap_or(DEFAULT_PORT);
        Ok(format!("mysql://{}@{host}:{port}/{}", encoded(user), encoded(name)))
    }

    /// Adds the password and the options of TLS to a URL.
    fn completed(&self, url: DatabaseUrl) -> Result<DatabaseUrl, ConfigError> {
        let flags = ["database-password", "database-password-file"];
        let password = Secret::of(flags, self.database_password.as_ref(), self.database_password_file.as_ref());
        let flag = match (&password, self.database_tls, &self.database_ca) {
            (Some(password), ..) => password.flag,
            (None, Some(_), _) => "database-tls",
            (None, None, Some(_)) => "database-ca",
            (None, None, None) => return Ok(url),
        };
        let parsed = Url::parse(url.expose()).ok().filter(|_| !url.is_sqlite());
        let mut url = parsed.ok_or_else(|| ConfigError::new(flag, "does not apply to SQLite"))?;
        if let Some(password) = password {
            set_password(&mut url, &password, "--database-url")?;
        }
        self.add_tls(&mut url)?;
        Ok(DatabaseUrl(url.into()))
    }

    /// Adds the options of TLS to a URL. A certificate authority is only accepted with a mode that uses it.
    fn add_tls(&self, url: &mut Url) -> Result<(), ConfigError> {
        let in_url = parameter(url, &SSL_MODE).and_then(|mode| DatabaseTls::of_ssl_mode(&mode));
        if self.database_tls.is_some() && in_url.is_some() {
            return Err(ConfigError::new("database-tls", "--database-url already contains ssl-mode"));
        }
        if self.database_ca.is_some() && parameter(url, &SSL_CA).is_some() {
            return Err(ConfigError::new("database-ca", "--database-url already contains ssl-ca"));
        }
        let ca = self.database_ca.as_deref();
        let mode = self.database_tls.or(in_url).or(ca.map(|_| DatabaseTls::VerifyIdentity));
        if let Some(mode) = mode.filter(|_| in_url.is_none()) {
            url.query_pairs_mut().append_pair(SSL_MODE[0], mode.ssl_mode());
        }
        match (ca, mode) {
            (None, _) => {}
            (Some(file), Some(DatabaseTls::VerifyCa | DatabaseTls::VerifyIdentity)) => {
                url.query_pairs_mut().append_pair(SSL_CA[0], &authorities("database-ca", file)?);
            }
            (Some(_), _) => {
                return Err(lacks("database-ca", "--database-tls verify-ca or verify-identity"));
            }
        }
        Ok(())
    }
}

/// Port of MySQL that is used if `--database-port` is not set.
const DEFAULT_PORT: u16 = 3306;

/// Names of the parameter of a URL for the TLS mode.
const SSL_MODE: [&str; 2] = ["ssl-mode", "sslmode"];

/// Names of the parameter of a URL for the file with certificate authorities.
const SSL_CA: [&str; 2] = ["ssl-ca", "sslca"];

secret_url! {
    /// URL of the database: `mysql://user:password@host:port/database`, or `sqlite:///absolute/path`.
    DatabaseUrl
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
        if parameter(&url, &SSL_MODE).is_some_and(|mode| DatabaseTls::of_ssl_mode(&mode).is_none()) {
            return Err(InvalidValue::new(
                "expected ssl-mode=DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY",
            ));
        }
        if let Some(file) = parameter(&url, &SSL_CA) {
            roots(Path::new(&file)).map_err(|problem| InvalidValue::new(format!("ssl-ca: {problem}")))?;
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
