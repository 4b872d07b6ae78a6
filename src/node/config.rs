//! Configuration of a node from flags and environment variables. The node reads and checks them once, on startup.
//!
//! `cli` creates a [`Config`], and `node` runs with it. No other module reads the flags of a node or their environment
//! variables. An invalid option results in a [`ConfigError`] with the name of the flag. An unavailable store is not a
//! configuration error.

mod args;
mod connections;
mod defaults;
mod files;
mod limits;
mod mode;
mod secrets;
mod values;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use args::{DutyArgs, LogArgs, ServeArgs, StoreArgs, TraceArgs};
pub use connections::{
    DatabaseArgs, DatabaseTls, DatabaseUrl, RedisArgs, RedisHosts, RedisTopology, RedisUrl, SmtpArgs, SmtpUrl,
};
pub use limits::{Cap, LimitArgs, LimitConfig};
pub use mode::{DEFAULT_DATA_DIR, Mode, database, stores};
pub use secrets::{FILES, Hidden, JwtSecrets, Secret, SecretFile};
pub use values::{
    CookieDomain, InvalidValue, KeyGrace, LogFormat, LongSpan, Networks, OtlpEndpoint, PublicUrl, Ratio, Span,
    SpanOrOff, Switch, WebOrigin,
};

pub(crate) use files::{private_dir, read_or_create};

use lettre::message::Mailbox;

use defaults::{jwt_secrets, mail_from, media_location, otlp_endpoint, public_url_of};
use mode::{absolute_data_dir, mode, unusable};

use crate::accounts::SignUp;
use crate::backend::redis::broker::Capacity;
use crate::domain::Rng;
use crate::domain::WireOffset;
use crate::node::jobs;
use crate::outbound::mail::Language;
use crate::outbound::media;
use crate::web::DemoHost;

/// Error: an option is invalid. The program prints the message and exits with code 64.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--{flag}: {problem}")]
pub struct ConfigError {
    /// Name of the flag, without dashes.
    pub flag: &'static str,
    /// Description of the problem. It contains no secrets.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(flag: &'static str, problem: impl fmt::Display) -> Self {
        Self { flag, problem: problem.to_string() }
    }
}

/// Checked configuration of a node. Its `Debug` output contains no secrets.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address on which the node listens.
    pub listen: SocketAddr,
    /// Address at which `/metrics` is served. `None`: the main address serves `/metrics` to direct loopback requests
    /// only.
    pub metrics_listen: Option<SocketAddr>,
    /// Database and Redis of the node.
    pub mode: Mode,
    /// Whether pending migrations are applied on startup.
    pub auto_migrate: bool,
    /// Keys that sign and verify access tokens.
    pub jwt_secrets: JwtSecrets,
    /// URL at which clients reach the server.
    pub public_url: PublicUrl,
    /// Origins of the pages on which hosts log in. CORS permits requests with credentials from these origins.
    pub admin_origins: Vec<WebOrigin>,
    /// `Domain` attribute of the refresh cookie; `None` omits the attribute.
    pub cookie_domain: Option<CookieDomain>,
    /// Mail server. `None`: e-mails are logged instead of sent.
    pub smtp_url: Option<SmtpUrl>,
    /// Sender address of all e-mails.
    pub mail_from: Mailbox,
    /// Language of e-mails that hosts receive without a request, such as notifications.
    pub mail_language: Language,
    /// Whether visitors may create accounts.
    pub sign_up: SignUp,
    /// Storage location of profile images.
    pub media: media::MediaLocation,
    /// Absolute path of the data directory. The directory exists.
    pub data_dir: PathBuf,
    /// UTC offset of the local times that clients send.
    pub wire_offset: WireOffset,
    /// Settings of the periodic jobs.
    pub duties: jobs::Settings,
    /// Time for which replaced keys of a service remain valid.
    pub key_grace: Duration,
    /// Private networks whose addresses webhooks may call.
    pub webhook_private: Networks,
    /// Time for which a host without a connection remains online.
    pub presence_grace: Duration,
    /// Number of Redis replicas that must have stored a batch of messages before the batch is published.
    pub redis_wait: u32,
    /// Capacity of the log and the archive queue in Redis.
    pub capacity: Capacity,
    /// Time for which an idle HTTP connection remains open.
    pub keep_alive: Duration,
    /// Time for which a draining node still accepts connections.
    pub drain_delay: Duration,
    /// Period over which a draining node closes its sockets.
    pub drain: Duration,
    /// Proxies whose `X-Forwarded-For` header is trusted. `None`: the option is not set, and no proxy is trusted.
    pub trusted_proxies: Option<Networks>,
    /// Format of log lines.
    pub log_format: LogFormat,
    /// OTLP collector that receives the traces; `None` disables tracing.
    pub otlp_endpoint: Option<OtlpEndpoint>,
    /// Fraction of messages that are sampled for tracing, from 0 to 1.
    pub trace_ratio: f64,
    /// Limits per client.
    pub limits: LimitConfig,
    /// Demo host whose page is served at `/demo`. Only `pintalk demo` sets this field.
    pub demo: Option<DemoHost>,
}

impl Config {
    /// Checks the flags. Creates the data directory if it does not exist. For a single-node server without
    /// `--jwt-secret`, also creates the token key in it.
    ///
    /// # Errors
    /// Returns a [`ConfigError`] for the first invalid option.
    pub fn from_args(args: ServeArgs, rng: &Rng) -> Result<Self, ConfigError> {
        let data_dir = absolute_data_dir(&args.store)?;
        let mode = mode(&args.store, &args.redis, &data_dir)?;
        check_combination(&args, &mode)?;
        let smtp_url = args.smtp.url()?;
        let media = args.media_url.as_ref().map(|url| media_location(url.expose())).transpose()?;
        let jwt_flags = ["jwt-secret", "jwt-secret-file"];
        let jwt_secret = Secret::of(jwt_flags, args.jwt_secret.as_ref(), args.jwt_secret_file.as_ref());
        let jwt_secrets = jwt_secrets(jwt_secret, &mode, &data_dir, rng)?;
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
            smtp_url,
            media: media.unwrap_or_else(|| media::MediaLocation::Folder(data_dir.join("media"))),
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
            limits: LimitConfig::from(&args.limits),
            demo: None,
        })
    }

    /// Stores the address to which the listener is bound, because the operating system may have selected the port.
    /// Updates the default public URL.
    ///
    /// # Errors
    /// Returns [`ConfigError`] if the address cannot be part of a URL. This does not occur for bound addresses.
    pub fn bound_to(&mut self, address: SocketAddr) -> Result<(), ConfigError> {
        if self.public_url == public_url_of(self.listen)? {
            self.public_url = public_url_of(address)?;
        }
        self.listen = address;
        Ok(())
    }

    /// Logs warnings about settings that are probably not intended.
    pub fn warn(&self) {
        if self.mode.redis().is_some() && self.trusted_proxies.is_none() {
            tracing::warn!(
                "--trusted-proxies is not set: clients behind a load balancer share one address and its limits"
            );
        }
        if self.may_have_unshared_media() {
            tracing::warn!(
                folder = %self.media,
                "profile images are stored in a local folder on a cluster node; nodes without this folder cannot serve them"
            );
        }
        if self.limits == LimitConfig::off(self.limits.frame_bytes, self.limits.joins_waiting) {
            tracing::warn!("--limits is off: clients are not limited");
        }
    }

    /// Returns whether profile images are stored in a folder that other nodes of the cluster may not mount.
    pub fn may_have_unshared_media(&self) -> bool {
        self.mode.redis().is_some() && matches!(self.media, media::MediaLocation::Folder(_))
    }

    /// Returns whether the header `X-Forwarded-For` from this peer is trusted.
    pub fn trusts_proxy(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.as_ref().is_some_and(|proxies| proxies.contain(peer))
    }
}

/// Checks the combinations of options.
fn check_combination(args: &ServeArgs, mode: &Mode) -> Result<(), ConfigError> {
    if args.metrics_listen == Some(args.listen) && args.listen.port() != 0 {
        return Err(ConfigError::new("metrics-listen", "must differ from --listen"));
    }
    if args.redis_wait > 0 && mode.redis().is_none() {
        return Err(ConfigError::new("redis-wait", "needs Redis: set --redis-url or --redis-host"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
