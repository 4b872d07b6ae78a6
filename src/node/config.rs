//! What a node is told at its start: flags and environment, read once, checked, and from then on only values.
//!
//! `cli` builds a [`Config`], `app` wires a node from it; nobody below reads a flag or an environment variable.
//! A mistake is a [`ConfigError`], which names the flag. That a store does not answer is not a mistake.

mod args;
mod files;
mod limits;
mod secrets;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use args::{DutyArgs, LogArgs, ServeArgs, StoreArgs, TraceArgs};
pub use limits::{Cap, LimitArgs, Limits};
pub use secrets::{DatabaseUrl, Hidden, JwtSecrets, RedisTopology, RedisUrl, SmtpUrl};
pub use values::{
    CookieDomain, InvalidValue, KeyGrace, LogFormat, LongSpan, Networks, OtlpEndpoint, PublicUrl, Ratio, Span,
    SpanOrOff, Switch, WebOrigin,
};

pub(crate) use files::{hex, keep, new_key, private_dir};

use lettre::Address;
use lettre::message::Mailbox;
use url::Url;

use crate::accounts::SignUp;
use crate::backend::redis::broker::Capacity;
use crate::domain::WireOffset;
use crate::domain::clock::Chance;
use crate::node::jobs;
use crate::outbound::mail::Language;
use crate::outbound::media;
use crate::web::DemoHost;

/// Where a node keeps what is its own, when it is not told.
pub const DEFAULT_DATA_DIR: &str = "./pintalk-data";

/// An option that cannot be followed: the program ends with code 64 and this sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--{flag}: {problem}")]
pub struct ConfigError {
    /// The flag's name without its dashes.
    pub flag: &'static str,
    /// What is wrong with it; never quotes a secret.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(flag: &'static str, problem: impl fmt::Display) -> Self {
        Self { flag, problem: problem.to_string() }
    }
}

/// What a node is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Complete in itself: SQLite in the data directory, everything else in the process.
    Embedded {
        /// The file in the data directory.
        database: DatabaseUrl,
    },
    /// The same on a database that was named.
    SingleOnDatabase {
        /// MySQL, or SQLite somewhere else.
        database: DatabaseUrl,
    },
    /// One of many.
    Cluster {
        /// MySQL.
        database: DatabaseUrl,
        /// What the nodes share besides.
        redis: RedisUrl,
    },
}

impl Mode {
    /// Where SQL is.
    pub fn database(&self) -> &DatabaseUrl {
        match self {
            Mode::Embedded { database } | Mode::SingleOnDatabase { database } | Mode::Cluster { database, .. } => {
                database
            }
        }
    }

    /// Where Redis is, for a node of a cluster.
    pub fn redis(&self) -> Option<&RedisUrl> {
        match self {
            Mode::Cluster { redis, .. } => Some(redis),
            Mode::Embedded { .. } | Mode::SingleOnDatabase { .. } => None,
        }
    }
}

/// A node's settings, all checked. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address that clients reach.
    pub listen: SocketAddr,
    /// Address of `/metrics`; `None`: the main one, for direct loopback callers only.
    pub metrics_listen: Option<SocketAddr>,
    /// What the node is made of.
    pub mode: Mode,
    /// Whether pending migrations are applied at start.
    pub auto_migrate: bool,
    /// Keys of the tokens.
    pub jwt_secrets: JwtSecrets,
    /// Where the world reaches this server.
    pub public_url: PublicUrl,
    /// Origins of the pages that hosts use.
    pub admin_origins: Vec<WebOrigin>,
    /// Domain of the refresh cookie.
    pub cookie_domain: Option<CookieDomain>,
    /// Mail server; `None`: mails are logged.
    pub smtp_url: Option<SmtpUrl>,
    /// Whom mails come from.
    pub mail_from: Mailbox,
    /// Language of mails to hosts that nobody's request caused.
    pub mail_language: Language,
    /// Whether visitors may create accounts.
    pub sign_up: SignUp,
    /// Where the profile images are.
    pub media: media::Place,
    /// Where the node keeps what is its own, absolute; exists.
    pub data_dir: PathBuf,
    /// Offset of the wall clocks that clients send.
    pub wire_offset: WireOffset,
    /// What is done by the clock.
    pub duties: jobs::Settings,
    /// How long the keys of a service go on that its host has replaced.
    pub key_grace: Duration,
    /// Private networks that webhooks may lead to.
    pub webhook_private: Networks,
    /// How long a host may be gone and not be called offline.
    pub presence_grace: Duration,
    /// Redis replicas that must have a batch before it is published.
    pub redis_wait: u32,
    /// How much Redis keeps.
    pub capacity: Capacity,
    /// How long an idle connection is kept for a next request.
    pub keep_alive: Duration,
    /// How long a leaving node still accepts connections.
    pub drain_delay: Duration,
    /// Over how long a leaving node closes its sockets.
    pub drain: Duration,
    /// Whose `X-Forwarded-For` is believed; `None` was not said, and nobody's is.
    pub trusted_proxies: Option<Networks>,
    /// How a line of the log looks.
    pub log_format: LogFormat,
    /// Where traces go; `None`: nowhere.
    pub otlp_endpoint: Option<OtlpEndpoint>,
    /// Which part of all messages is traced.
    pub trace_ratio: f64,
    /// What one client may ask.
    pub limits: Limits,
    /// Set by `pintalk demo` only: there is a page at `/demo`.
    pub demo: Option<DemoHost>,
}

impl Config {
    /// Makes sense of the flags. Outside a cluster this makes the data directory and, once, the tokens' key in it.
    ///
    /// # Errors
    /// The first option that cannot be followed.
    pub fn from_args(args: ServeArgs, chance: &Chance) -> Result<Self, ConfigError> {
        let data_dir = absolute_data_dir(&args.store)?;
        let mode = mode(&args.store, args.redis_url.as_ref(), &data_dir)?;
        if args.metrics_listen == Some(args.listen) && args.listen.port() != 0 {
            return Err(ConfigError::new("metrics-listen", "is the same address as --listen"));
        }
        if args.redis_wait > 0 && mode.redis().is_none() {
            return Err(ConfigError::new("redis-wait", "needs --redis-url: there are no replicas without Redis"));
        }
        let smtp_url = args.smtp_url.as_ref().map(|url| SmtpUrl::parse(url.expose())).transpose();
        let media = args.media_url.as_ref().map(|url| media_place(url.expose())).transpose()?;
        let given = args.jwt_secret.as_ref().map(|keys| JwtSecrets::parse(keys.expose())).transpose();
        let given = given.map_err(|error| ConfigError::new("jwt-secret", error))?;
        let jwt_secrets = match (given, &mode) {
            (Some(keys), _) => keys,
            (None, Mode::Cluster { .. }) => {
                return Err(ConfigError::new("jwt-secret", "is required in a cluster, the same on every node"));
            }
            (None, Mode::Embedded { .. } | Mode::SingleOnDatabase { .. }) => kept_secret(&data_dir, chance)?,
        };
        private_dir(&data_dir).map_err(|error| unusable(&data_dir, &error))?;
        let public_url = args.public_url.map_or_else(|| public_url_of(args.listen), Ok)?;
        Ok(Self {
            listen: args.listen,
            metrics_listen: args.metrics_listen,
            auto_migrate: args.auto_migrate.map_or(mode.database().is_sqlite(), Switch::is_on),
            mode,
            jwt_secrets,
            mail_from: args.mail_from.map_or_else(|| mail_from(&public_url), Ok)?,
            mail_language: args.mail_language,
            sign_up: args.sign_up,
            public_url,
            admin_origins: args.admin_origins,
            cookie_domain: args.cookie_domain,
            smtp_url: smtp_url.map_err(|error| ConfigError::new("smtp-url", error))?,
            media: media.unwrap_or_else(|| media::Place::Folder(data_dir.join("media"))),
            data_dir,
            wire_offset: args.wire_offset,
            duties: args.duties.into(),
            key_grace: args.key_grace.0,
            webhook_private: args.webhook_private,
            presence_grace: args.presence_grace.0,
            redis_wait: args.redis_wait,
            capacity: Capacity {
                queue_messages: args.limit_queue,
                queue_bytes: args.limit_queue_bytes,
                log_bytes: args.limit_log_bytes,
            },
            keep_alive: args.keep_alive.0,
            drain_delay: args.drain_delay.0,
            drain: args.drain.0,
            trusted_proxies: args.trusted_proxies,
            log_format: args.log.log_format,
            otlp_endpoint: otlp_endpoint(args.traces.otlp_endpoint)?,
            trace_ratio: args.traces.trace_ratio.0,
            limits: Limits::from(&args.limits),
            demo: None,
        })
    }

    /// The listener has its address: a port that was left to the system is known now, and the default public URL
    /// follows it.
    ///
    /// # Errors
    /// None that a real address could cause.
    pub fn bound_to(&mut self, address: SocketAddr) -> Result<(), ConfigError> {
        if self.public_url == public_url_of(self.listen)? {
            self.public_url = public_url_of(address)?;
        }
        self.listen = address;
        Ok(())
    }

    /// Says in the log what an operator should think about twice.
    pub fn warn(&self) {
        if self.mode.redis().is_some() && self.trusted_proxies.is_none() {
            tracing::warn!(
                "--trusted-proxies IS NOT SET: behind a balancer every client counts as one address and shares its \
                 limits; give the balancer's addresses, or `none` when clients connect directly"
            );
        }
        if self.has_folder_of_its_own() {
            tracing::warn!(
                folder = %self.media,
                "--media-url IS A FOLDER, in a cluster: profile images are missing on every node that does not have the same \
                 folder mounted; give s3://bucket/prefix"
            );
        }
        if self.limits == Limits::off(self.limits.frame_bytes, self.limits.joins_waiting) {
            tracing::warn!("--limits is off: no client is limited, which is for load tests only");
        }
    }

    /// Whether images are where perhaps no other node of the cluster sees them.
    pub fn has_folder_of_its_own(&self) -> bool {
        self.mode.redis().is_some() && matches!(self.media, media::Place::Folder(_))
    }

    /// What the proxies' list comes down to: unset trusts nobody.
    pub fn trusts_proxy(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.as_ref().is_some_and(|proxies| proxies.contain(peer))
    }
}

/// The database of a command that needs nothing else; with SQLite its directory is made.
///
/// # Errors
/// A URL or a directory that cannot be used.
pub fn database(args: &StoreArgs) -> Result<DatabaseUrl, ConfigError> {
    let data_dir = absolute_data_dir(args)?;
    match named_database(args)? {
        Some(url) => Ok(url),
        None => {
            private_dir(&data_dir).map_err(|error| unusable(&data_dir, &error))?;
            own_database(&data_dir)
        }
    }
}

/// The stores of a command that tells the nodes what it did; with SQLite the directory is made.
///
/// # Errors
/// Stores that do not go together, a URL or a directory that cannot be used.
pub fn stores(args: &StoreArgs, redis_url: Option<&Hidden>) -> Result<Mode, ConfigError> {
    let data_dir = absolute_data_dir(args)?;
    let mode = mode(args, redis_url, &data_dir)?;
    if let Mode::Embedded { .. } = mode {
        private_dir(&data_dir).map_err(|error| unusable(&data_dir, &error))?;
    }
    Ok(mode)
}

fn mode(store: &StoreArgs, redis_url: Option<&Hidden>, data_dir: &Path) -> Result<Mode, ConfigError> {
    let redis = redis_url.map(|url| RedisUrl::parse(url.expose())).transpose();
    let redis = redis.map_err(|error| ConfigError::new("redis-url", error))?;
    match (named_database(store)?, redis) {
        (None, None) => Ok(Mode::Embedded { database: own_database(data_dir)? }),
        (Some(database), None) => Ok(Mode::SingleOnDatabase { database }),
        (Some(database), Some(redis)) if !database.is_sqlite() => Ok(Mode::Cluster { database, redis }),
        (Some(_), Some(_)) => {
            Err(ConfigError::new("redis-url", "does not go with SQLite: a cluster needs MySQL in --database-url"))
        }
        (None, Some(_)) => {
            Err(ConfigError::new("redis-url", "needs --database-url: a cluster keeps its rooms in MySQL"))
        }
    }
}

/// The variable that every program of that world reads counts where nothing else is said.
fn otlp_endpoint(given: Option<OtlpEndpoint>) -> Result<Option<OtlpEndpoint>, ConfigError> {
    let standard = || std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok().filter(|url| !url.is_empty());
    match given {
        Some(endpoint) => Ok(Some(endpoint)),
        None => standard()
            .map(|url| url.parse())
            .transpose()
            .map_err(|error| ConfigError::new("otlp-endpoint", format!("OTEL_EXPORTER_OTLP_ENDPOINT: {error}"))),
    }
}

fn named_database(args: &StoreArgs) -> Result<Option<DatabaseUrl>, ConfigError> {
    let url = args.database_url.as_ref().map(|url| DatabaseUrl::parse(url.expose())).transpose();
    url.map_err(|error| ConfigError::new("database-url", error))
}

fn own_database(data_dir: &Path) -> Result<DatabaseUrl, ConfigError> {
    DatabaseUrl::sqlite(&data_dir.join("pintalk.sqlite"))
        .ok_or_else(|| ConfigError::new("data-dir", "the path is not UTF-8"))
}

fn absolute_data_dir(args: &StoreArgs) -> Result<PathBuf, ConfigError> {
    let given = args.data_dir.as_deref().unwrap_or(Path::new(DEFAULT_DATA_DIR));
    std::path::absolute(given).map_err(|error| unusable(given, &error))
}

fn unusable(path: &Path, error: &std::io::Error) -> ConfigError {
    ConfigError::new("data-dir", format!("{} cannot be used: {error}", path.display()))
}

fn kept_secret(data_dir: &Path, chance: &Chance) -> Result<JwtSecrets, ConfigError> {
    let path = data_dir.join("jwt-secret");
    let kept = private_dir(data_dir).and_then(|()| keep(&path, chance, || new_key(chance)));
    let key = kept.map_err(|error| unusable(data_dir, &error))?;
    JwtSecrets::parse(key.trim())
        .map_err(|error| ConfigError::new("data-dir", format!("{} is damaged: {error}", path.display())))
}

/// A bucket's endpoint, region and keys are the variables that every program of that world reads.
fn media_place(url: &str) -> Result<media::Place, ConfigError> {
    let readable = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    media::Place::parse(url, || media::Settings::among(std::env::vars_os().filter_map(readable)))
        .map_err(|error| ConfigError::new("media-url", error))
}

/// `http://<listen>`; "every address" is nowhere that a browser could go, so it is shown as this machine.
fn mail_from(public_url: &PublicUrl) -> Result<Mailbox, ConfigError> {
    let url = Url::parse(public_url.as_str()).ok();
    // An address needs a name behind its @.
    let host = url.as_ref().and_then(Url::domain).unwrap_or("localhost");
    let address = Address::new("no-reply", host).map_err(|error| ConfigError::new("mail-from", error))?;
    Ok(Mailbox::new(Some("PinTalk".to_owned()), address))
}

fn public_url_of(listen: SocketAddr) -> Result<PublicUrl, ConfigError> {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let url = format!("http://{}", SocketAddr::new(ip, listen.port()));
    url.parse().map_err(|error| ConfigError::new("public-url", error))
}

#[cfg(test)]
mod tests;
