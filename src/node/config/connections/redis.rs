//! Connection to Redis.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use url::Url;

use super::{PARTS, RedisHosts, authorities, encoded, first_set, lacks, parameter, secret_url, set_password};
use crate::backend::redis::{TLS_CA, client_config, roots};
use crate::node::config::secrets::{FILES, Hidden, Secret, SecretFile};
use crate::node::config::{ConfigError, InvalidValue, Switch};

/// Options that contain the whole URL.
const URLS: [&str; 2] = ["redis_url", "redis_url_file"];

/// Options of the connection to Redis.
#[derive(Args, Clone, Debug)]
pub struct RedisArgs {
    /// Redis of a cluster: redis://, redis-sentinel:// or redis-cluster://, or rediss… over TLS; needs MySQL.
    #[arg(long, env = "PINTALK_REDIS_URL", value_name = "URL", hide_env_values = true, group = "redis")]
    pub redis_url: Option<Hidden>,
    /// File that contains --redis-url.
    #[arg(long, env = "PINTALK_REDIS_URL_FILE", value_name = "FILE", group = "redis", help_heading = FILES)]
    pub redis_url_file: Option<SecretFile>,
    /// Redis instead of --redis-url: host or host:port; several Sentinels or servers of a Redis Cluster separated by commas.
    #[arg(long, env = "PINTALK_REDIS_HOST", value_name = "HOSTS", group = "redis", help_heading = PARTS)]
    pub redis_host: Option<RedisHosts>,
    /// Port of each host without its own port [default: 6379, of Sentinels 26379].
    #[arg(long, env = "PINTALK_REDIS_PORT", value_name = "PORT", help_heading = PARTS,
          conflicts_with_all = URLS)]
    pub redis_port: Option<u16>,
    /// User of Redis [default: the default user of Redis].
    #[arg(long, env = "PINTALK_REDIS_USER", value_name = "NAME", help_heading = PARTS,
          conflicts_with_all = URLS)]
    pub redis_user: Option<String>,
    /// Password of Redis, for --redis-host or for a --redis-url without a password.
    #[arg(long, env = "PINTALK_REDIS_PASSWORD", value_name = "PASSWORD", help_heading = PARTS, hide_env_values = true)]
    pub redis_password: Option<Hidden>,
    /// File that contains --redis-password.
    #[arg(long, env = "PINTALK_REDIS_PASSWORD_FILE", value_name = "FILE", help_heading = FILES,
          conflicts_with = "redis_password")]
    pub redis_password_file: Option<SecretFile>,
    /// Number of the Redis database, not for a Redis Cluster [default: 0].
    #[arg(long, env = "PINTALK_REDIS_DB", value_name = "N", help_heading = PARTS,
          conflicts_with_all = URLS)]
    pub redis_db: Option<u8>,
    /// Whether --redis-host is one server, Sentinels or servers of a Redis Cluster [default: standalone].
    #[arg(long, env = "PINTALK_REDIS_MODE", value_enum, help_heading = PARTS,
          conflicts_with_all = URLS)]
    pub redis_mode: Option<RedisTopology>,
    /// Name of the primary that the Sentinels monitor.
    #[arg(long, env = "PINTALK_REDIS_SENTINEL_MASTER", value_name = "NAME", help_heading = PARTS, conflicts_with_all = URLS)]
    pub redis_sentinel_master: Option<String>,
    /// Password of the Sentinels, if they require one.
    #[arg(long, env = "PINTALK_REDIS_SENTINEL_PASSWORD", value_name = "PASSWORD", help_heading = PARTS,
          hide_env_values = true)]
    pub redis_sentinel_password: Option<Hidden>,
    /// File that contains --redis-sentinel-password.
    #[arg(long, env = "PINTALK_REDIS_SENTINEL_PASSWORD_FILE", value_name = "FILE", help_heading = FILES, conflicts_with = "redis_sentinel_password")]
    pub redis_sentinel_password_file: Option<SecretFile>,
    /// TLS to Redis, with a check of the certificate [default: off, with --redis-ca or a rediss URL on].
    #[arg(long, env = "PINTALK_REDIS_TLS", value_enum, help_heading = PARTS)]
    pub redis_tls: Option<Switch>,
    /// PEM file with the certificate authorities of Redis [default: those of the system, or of SSL_CERT_FILE].
    #[arg(long, env = "PINTALK_REDIS_CA", value_name = "FILE", help_heading = PARTS)]
    pub redis_ca: Option<PathBuf>,
}

/// Topology of Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RedisTopology {
    /// A single Redis server.
    #[default]
    Standalone,
    /// A primary with replicas. Redis Sentinel monitors the primary and promotes a replica if the primary fails.
    Sentinel,
    /// Redis Cluster: several primaries, each of which stores some of the slots.
    Cluster,
}

impl RedisTopology {
    /// Returns the scheme of URLs without TLS.
    fn scheme(self) -> &'static str {
        match self {
            Self::Standalone => "redis",
            Self::Sentinel => "redis-sentinel",
            Self::Cluster => "redis-cluster",
        }
    }

    fn default_port(self) -> u16 {
        if self == Self::Sentinel { 26379 } else { 6379 }
    }
}

impl RedisArgs {
    /// Returns the URL of Redis. `None`: no option names a Redis.
    pub(in crate::node::config) fn url(&self) -> Result<Option<RedisUrl>, ConfigError> {
        let flags = ["redis-url", "redis-url-file"];
        let (flag, url) = match Secret::of(flags, self.redis_url.as_ref(), self.redis_url_file.as_ref()) {
            Some(url) => (url.flag, url.text.to_owned()),
            None => match &self.redis_host {
                Some(hosts) => ("redis-host", self.url_from_parts(hosts)?),
                None => return self.orphan().map_or(Ok(None), |flag| Err(lacks(flag, "--redis-url or --redis-host"))),
            },
        };
        let url = RedisUrl::parse(&url).map_err(|error| ConfigError::new(flag, error))?;
        self.completed(url).map(Some)
    }

    /// Returns an option that is set, except for those that name a Redis.
    fn orphan(&self) -> Option<&'static str> {
        let options = [
            ("redis-port", self.redis_port.is_some()),
            ("redis-user", self.redis_user.is_some()),
            ("redis-password", self.redis_password.is_some()),
            ("redis-password-file", self.redis_password_file.is_some()),
            ("redis-db", self.redis_db.is_some()),
            ("redis-mode", self.redis_mode.is_some()),
            ("redis-sentinel-master", self.redis_sentinel_master.is_some()),
            ("redis-sentinel-password", self.redis_sentinel_password.is_some()),
            ("redis-sentinel-password-file", self.redis_sentinel_password_file.is_some()),
            ("redis-tls", self.redis_tls.is_some()),
            ("redis-ca", self.redis_ca.is_some()),
        ];
        first_set(&options)
    }

    fn url_from_parts(&self, hosts: &RedisHosts) -> Result<String, ConfigError> {
        let topology = self.redis_mode.unwrap_or_default();
        let servers = hosts.with_port(self.redis_port.unwrap_or(topology.default_port()));
        let (first, others) = servers.split_first().ok_or_else(|| ConfigError::new("redis-host", "names no host"))?;
        if topology == RedisTopology::Standalone && !others.is_empty() {
            return Err(ConfigError::new("redis-host", "several hosts need --redis-mode sentinel or cluster"));
        }
        if topology == RedisTopology::Cluster && self.redis_db.is_some() {
            return Err(ConfigError::new("redis-db", "a Redis Cluster has only one database"));
        }
        match (topology, &self.redis_sentinel_master) {
            (RedisTopology::Sentinel, None) => return Err(lacks("redis-mode", "--redis-sentinel-master")),
            (RedisTopology::Standalone | RedisTopology::Cluster, Some(_)) => {
                return Err(lacks("redis-sentinel-master", "--redis-mode sentinel"));
            }
            _ => {}
        }
        let user = self.redis_user.as_deref().map(|user| format!("{}@", encoded(user))).unwrap_or_default();
        let db = self.redis_db.map(|db| db.to_string()).unwrap_or_default();
        let master = self.redis_sentinel_master.iter().map(|name| format!("sentinelServiceName={}", encoded(name)));
        let others = others.iter().map(|server| format!("node={server}"));
        let query = master.chain(others).collect::<Vec<_>>().join("&");
        Ok(format!("{}://{user}{first}/{db}?{query}", topology.scheme()).trim_end_matches('?').to_owned())
    }

    /// Adds the passwords and the options of TLS to a URL.
    fn completed(&self, url: RedisUrl) -> Result<RedisUrl, ConfigError> {
        let flags = ["redis-password", "redis-password-file"];
        let password = Secret::of(flags, self.redis_password.as_ref(), self.redis_password_file.as_ref());
        let sentinel = self.sentinel_password();
        if password.is_none() && sentinel.is_none() && self.redis_tls.is_none() && self.redis_ca.is_none() {
            return Ok(url);
        }
        let is_sentinel = url.topology() == RedisTopology::Sentinel;
        let mut url = Url::parse(url.expose()).map_err(|error| ConfigError::new("redis-url", error))?;
        if let Some(password) = password {
            set_password(&mut url, &password, "--redis-url")?;
        }
        match sentinel {
            Some(password) if !is_sentinel => {
                return Err(ConfigError::new(password.flag, "there are no Sentinels"));
            }
            Some(password) if parameter(&url, &[SENTINEL_PASSWORD]).is_some() => {
                return Err(ConfigError::new(
                    password.flag,
                    "--redis-url already contains a password of the Sentinels",
                ));
            }
            Some(password) => {
                url.query_pairs_mut().append_pair(SENTINEL_PASSWORD, password.text);
            }
            None => {}
        }
        self.add_tls(&mut url)?;
        RedisUrl::parse(url.as_str()).map_err(|error| ConfigError::new("redis-url", error))
    }

    fn sentinel_password(&self) -> Option<Secret<'_>> {
        let flags = ["redis-sentinel-password", "redis-sentinel-password-file"];
        Secret::of(flags, self.redis_sentinel_password.as_ref(), self.redis_sentinel_password_file.as_ref())
    }

    /// Adds the options of TLS to a URL. A certificate authority selects TLS.
    fn add_tls(&self, url: &mut Url) -> Result<(), ConfigError> {
        let has_tls = url.scheme().starts_with("rediss");
        let wants_tls = self.redis_tls.map_or(has_tls || self.redis_ca.is_some(), Switch::is_on);
        if has_tls && !wants_tls {
            return Err(ConfigError::new("redis-tls", "the scheme of --redis-url selects TLS"));
        }
        if wants_tls && !has_tls {
            let scheme = url.scheme().replacen("redis", "rediss", 1);
            url.set_scheme(&scheme).map_err(|()| ConfigError::new("redis-tls", "the URL does not support TLS"))?;
        }
        match &self.redis_ca {
            Some(_) if !wants_tls => Err(lacks("redis-ca", "--redis-tls on")),
            Some(_) if parameter(url, &[TLS_CA]).is_some() => {
                Err(ConfigError::new("redis-ca", format!("--redis-url already contains {TLS_CA}")))
            }
            Some(file) => {
                url.query_pairs_mut().append_pair(TLS_CA, &authorities("redis-ca", file)?);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Name of the parameter of a URL for the password of the Sentinels.
const SENTINEL_PASSWORD: &str = "sentinelPassword";

secret_url! {
    /// URL of Redis: `redis://`, `redis-sentinel://` or `redis-cluster://`; with TLS, `rediss://`, `rediss-sentinel://`
    /// or `rediss-cluster://`.
    RedisUrl
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
        if let Some(file) = parameter(&url, &[TLS_CA]) {
            if !url.scheme().starts_with("rediss") {
                return Err(InvalidValue::new(format!("{TLS_CA} needs a rediss URL")));
            }
            roots(Path::new(&file)).map_err(|problem| InvalidValue::new(format!("{TLS_CA}: {problem}")))?;
        }
        // The error is replaced, because its message may contain the URL.
        client_config(text).map_err(|_| invalid())?;
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
