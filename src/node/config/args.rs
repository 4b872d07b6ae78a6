//! Flags of a node, each with its environment variable. Values are parsed here; [`Config`] checks their combination.
//!
//! [`Config`]: super::Config

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, FromArgMatches as _};
use lettre::message::Mailbox;

use super::connections::{DatabaseArgs, RedisArgs, SmtpArgs};
use super::limits::LimitArgs;
use super::secrets::{FILES, Hidden, SecretFile};
use super::values::{
    CookieDomain, KeyGrace, LogFormat, LongSpan, Networks, OtlpEndpoint, PublicUrl, Ratio, Span, SpanOrOff, Switch,
    WebOrigin,
};
use crate::accounts::SignUp;
use crate::backend::redis::broker::Capacity;
use crate::domain::WireOffset;
use crate::node::jobs::Settings;
use crate::outbound::mail::Language;

/// Location of the database, for all commands that use SQL.
#[derive(Args, Clone, Debug)]
pub struct StoreArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub database: DatabaseArgs,
    /// Directory for the database, keys and images of a single node; created with mode 0700 [default: ./pintalk-data].
    #[arg(long, env = "PINTALK_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Options of traces.
#[derive(Args, Clone, Debug)]
pub struct TraceArgs {
    /// OpenTelemetry collector that receives traces by OTLP over HTTP, without /v1/traces; without it, nothing is traced
    /// [default: OTEL_EXPORTER_OTLP_ENDPOINT].
    #[arg(long, env = "PINTALK_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<OtlpEndpoint>,
    /// Fraction of messages that are traced, from 0 to 1.
    #[arg(long, env = "PINTALK_TRACE_RATIO", value_name = "PART", default_value = "0.01")]
    pub trace_ratio: Ratio,
}

/// Options of the log.
#[derive(Args, Clone, Copy, Debug)]
pub struct LogArgs {
    /// Format of log lines; RUST_LOG selects what is logged.
    #[arg(long, env = "PINTALK_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// Options of periodic jobs. `cleanup` has the same options.
#[derive(Args, Clone, Copy, Debug)]
pub struct DutyArgs {
    /// How long a closed room keeps its messages.
    #[arg(long, env = "PINTALK_MESSAGE_RETENTION", value_name = "SPAN", default_value = "7d")]
    pub message_retention: LongSpan,
    /// Time without a message after which a room is closed, or deleted if it never had one; or off.
    #[arg(long, env = "PINTALK_IDLE_CLOSE", value_name = "SPAN", default_value = "7d")]
    pub idle_close: SpanOrOff,
}

impl From<DutyArgs> for Settings {
    fn from(args: DutyArgs) -> Self {
        Self { message_retention: args.message_retention.0, idle_close: args.idle_close.0 }
    }
}

/// All options of a node.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Address that clients connect to.
    #[arg(long, env = "PINTALK_LISTEN", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Address of /metrics; without it, the main address serves /metrics to direct loopback requests only.
    #[arg(long, env = "PINTALK_METRICS_LISTEN", value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub store: StoreArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub redis: RedisArgs,
    /// Apply pending migrations at start [default: on with SQLite, else off].
    #[arg(long, env = "PINTALK_AUTO_MIGRATE", value_enum, num_args = 0..=1, require_equals = true,
          default_missing_value = "on")]
    pub auto_migrate: Option<Switch>,
    /// Keys of access tokens, at least 32 bytes each, separated by commas: the first signs, all verify; required in a
    /// cluster [default: a key in the data directory].
    #[arg(long, env = "PINTALK_JWT_SECRET", value_name = "KEYS", hide_env_values = true)]
    pub jwt_secret: Option<Hidden>,
    /// File that contains --jwt-secret.
    #[arg(long, env = "PINTALK_JWT_SECRET_FILE", value_name = "FILE", help_heading = FILES, conflicts_with = "jwt_secret")]
    pub jwt_secret_file: Option<SecretFile>,
    /// URL at which clients reach the server; with https, cookies are Secure [default: http://<listen>].
    #[arg(long, env = "PINTALK_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<PublicUrl>,
    /// Origins of pages that hosts use, separated by commas; CORS permits them with credentials.
    #[arg(long, env = "PINTALK_ADMIN_ORIGINS", value_name = "ORIGINS", value_delimiter = ',')]
    pub admin_origins: Vec<WebOrigin>,
    /// Domain of the refresh cookie.
    #[arg(long, env = "PINTALK_COOKIE_DOMAIN", value_name = "NAME")]
    pub cookie_domain: Option<CookieDomain>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub smtp: SmtpArgs,
    /// Sender of e-mails [default: PinTalk <no-reply@host of --public-url>].
    #[arg(long, env = "PINTALK_MAIL_FROM", value_name = "MAILBOX")]
    pub mail_from: Option<Mailbox>,
    /// Language of e-mails that are sent to hosts without a request, such as notifications: ko or en. Guests receive
    /// the language of their browser.
    #[arg(long, env = "PINTALK_MAIL_LANGUAGE", value_name = "LANGUAGE", default_value = "ko")]
    pub mail_language: Language,
    /// Whether visitors may create accounts; if closed, the sign-up calls return 403 and only `pintalk user create` creates
    /// accounts.
    #[arg(long, env = "PINTALK_SIGN_UP", value_enum, default_value = "open")]
    pub sign_up: SignUp,
    /// Storage of profile images: file:///path, or s3://bucket/prefix with AWS_… variables [default: media in the data
    /// directory].
    #[arg(long, env = "PINTALK_MEDIA_URL", value_name = "URL", hide_env_values = true)]
    pub media_url: Option<Hidden>,
    /// UTC offset of the local times that clients send.
    #[arg(
        long,
        env = "PINTALK_WIRE_OFFSET",
        value_name = "±HH:MM",
        default_value = "+09:00",
        allow_hyphen_values = true
    )]
    pub wire_offset: WireOffset,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub duties: DutyArgs,
    /// How long replaced keys of a service stay valid, at most ten pairs per host; 0s: not at all.
    #[arg(long, env = "PINTALK_KEY_GRACE", value_name = "SPAN", default_value = "1d")]
    pub key_grace: KeyGrace,
    /// Private addresses and networks that webhooks may call, also without TLS, separated by commas, or none.
    #[arg(long, env = "PINTALK_WEBHOOK_PRIVATE", value_name = "LIST", default_value = "none")]
    pub webhook_private: Networks,
    /// How long a host without a connection is still reported online.
    #[arg(long, env = "PINTALK_PRESENCE_GRACE", value_name = "SPAN", default_value = "1s")]
    pub presence_grace: Span,
    /// Redis replicas that must have a batch before it is published.
    #[arg(long, env = "PINTALK_REDIS_WAIT", value_name = "N", default_value_t = 0)]
    pub redis_wait: u32,
    /// Messages per partition that may wait for SQL; over the limit, senders are closed with 1013.
    #[arg(long, env = "PINTALK_LIMIT_QUEUE", value_name = "N", default_value_t = Capacity::DEFAULT.queue_messages,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_queue: u32,
    /// Bytes of messages per partition that may wait for SQL; over the limit, senders are closed with 1013.
    #[arg(long, env = "PINTALK_LIMIT_QUEUE_BYTES", value_name = "BYTES", default_value_t = Capacity::DEFAULT.queue_bytes,
          value_parser = clap::value_parser!(u64).range(1024 * 1024..))]
    pub limit_queue_bytes: u64,
    /// Bytes of archived messages that Redis keeps per room, for faster joins.
    #[arg(long, env = "PINTALK_LIMIT_LOG_BYTES", value_name = "BYTES", default_value_t = Capacity::DEFAULT.log_bytes,
          value_parser = clap::value_parser!(u64).range(..=16 * 1024 * 1024))]
    pub limit_log_bytes: u64,
    /// How long an idle HTTP connection stays open; set it above the idle timeout of the load balancer.
    #[arg(long, env = "PINTALK_KEEP_ALIVE", value_name = "SPAN", default_value = "80s")]
    pub keep_alive: Span,
    /// How long a draining node still accepts connections.
    #[arg(long, env = "PINTALK_DRAIN_DELAY", value_name = "SPAN", default_value = "5s")]
    pub drain_delay: Span,
    /// Period over which a draining node closes its sockets.
    #[arg(long, env = "PINTALK_DRAIN", value_name = "SPAN", default_value = "20s")]
    pub drain: Span,
    /// Addresses and networks whose X-Forwarded-For is trusted, separated by commas, or none; a cluster warns if it is not
    /// set.
    #[arg(long, env = "PINTALK_TRUSTED_PROXIES", value_name = "LIST")]
    pub trusted_proxies: Option<Networks>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub log: LogArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub traces: TraceArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub limits: LimitArgs,
}

impl ServeArgs {
    /// Parses flags without a preceding program name. Environment variables are ignored.
    ///
    /// # Errors
    /// Returns clap's error if a flag is invalid.
    pub fn from_flags<I, T>(flags: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let command = Self::augment_args(clap::Command::new("serve").no_binary_name(true));
        let command = command.mut_args(|arg| arg.env(clap::builder::Resettable::Reset));
        Self::from_arg_matches(&command.try_get_matches_from(flags)?)
    }
}
