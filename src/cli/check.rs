//! `pintalk check`: connects to all stores and servers that the configuration names, and reports errors and risks.
//!
//! The command creates only what `serve` would create on startup: the data directory, the token key in it, and the
//! media folder. It removes the files that it writes as a test.

mod clocks;
mod ownership;
mod redis;
mod sql;

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use lettre::{AsyncSmtpTransport, Tokio1Executor};
use serde::Serialize;

use super::{FAILED, Failure, block_on, init_command_logging, migrate, print_line};
use crate::domain::Rng;
use crate::node::config::{Config, LimitConfig, Mode, ServeArgs, SmtpUrl};
use crate::outbound::media::{Media, MediaLocation};

/// Maximum duration of one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    #[serde(rename = "ok")]
    Good,
    Risky,
    Wrong,
}

/// Line of the report: one result of a check.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    severity: Severity,
    text: String,
}

impl Finding {
    fn good(text: impl fmt::Display) -> Self {
        Self { severity: Severity::Good, text: text.to_string() }
    }

    fn risky(text: impl fmt::Display) -> Self {
        Self { severity: Severity::Risky, text: text.to_string() }
    }

    fn wrong(text: impl fmt::Display) -> Self {
        Self { severity: Severity::Wrong, text: text.to_string() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Good => "ok   ",
            Severity::Risky => "risky",
            Severity::Wrong => "WRONG",
        };
        write!(f, "{severity}  {}", self.text)
    }
}

/// Arguments of `pintalk check`.
#[derive(Args)]
pub(super) struct CheckArgs {
    /// Print the report as one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ServeArgs,
}

pub(super) fn run(args: CheckArgs) -> Result<u8, Failure> {
    init_command_logging();
    let config = Config::from_args(args.config, &Rng::from_entropy())?;
    block_on(async {
        let mut findings = configuration(&config);
        findings.extend(with_timeout("sql", sql::check(&config)).await);
        if let Mode::Cluster { redis, .. } = &config.mode {
            findings.extend(with_timeout("redis", redis::check(redis)).await);
        }
        findings.extend(with_timeout("installation", ownership::check(&config.mode)).await);
        findings.extend(with_timeout("clocks", clocks::check(&config.mode)).await);
        if let Some(url) = &config.smtp_url {
            findings.extend(with_timeout("smtp", smtp(url)).await);
        }
        findings.extend(with_timeout("media", media(&config.media)).await);
        findings.push(writable("data-dir", &config.data_dir));
        print_report(&findings, args.json)?;
        let wrong = findings.iter().any(|finding| finding.severity == Severity::Wrong);
        Ok(if wrong { FAILED } else { 0 })
    })
}

fn print_report(findings: &[Finding], json: bool) -> Result<(), Failure> {
    if json {
        return print_line(&serde_json::json!({ "findings": findings }).to_string());
    }
    findings.iter().try_for_each(|finding| print_line(&finding.to_string()))
}

/// Runs a check for at most [`CHECK_TIMEOUT`]. Reports a timeout as an error.
async fn with_timeout(name: &str, check: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    let timed_out = |_| vec![Finding::wrong(format!("{name}: no response within {} s", CHECK_TIMEOUT.as_secs()))];
    tokio::time::timeout(CHECK_TIMEOUT, check).await.unwrap_or_else(timed_out)
}

/// Checks the configuration. Connects to no server.
fn configuration(config: &Config) -> Vec<Finding> {
    let mut findings = vec![Finding::good(match &config.mode {
        Mode::Embedded { database } => format!("a single node, embedded, on {database}"),
        Mode::SingleOnDatabase { database } => format!("a single node on {database}"),
        Mode::Cluster { database, redis } => format!("a node of a cluster on {database} and {redis}"),
    })];
    if config.mode.redis().is_some() && config.trusted_proxies.is_none() {
        findings.push(Finding::risky(
            "--trusted-proxies: not set, so all clients behind a load balancer share one address",
        ));
    }
    if config.may_have_unshared_media() {
        findings.push(Finding::risky(format!(
            "--media-url: {} is a folder, but this is a cluster: profile images are missing on every node that does not have \
             the same folder mounted",
            config.media
        )));
    }
    if config.limits == LimitConfig::off(config.limits.frame_bytes, config.limits.joins_waiting) {
        findings.push(Finding::risky("--limits: off, so no client is limited"));
    }
    if config.smtp_url.is_none() {
        findings.push(Finding::good("--smtp-url: not set, e-mails are logged"));
    }
    if !config.public_url.is_https() && !config.listen.ip().is_loopback() {
        findings
            .push(Finding::risky(format!("--public-url: {} is not https, cookies are not Secure", config.public_url)));
    }
    findings
}

async fn smtp(url: &SmtpUrl) -> Vec<Finding> {
    let transport = match AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose()) {
        Ok(builder) => builder.timeout(Some(CHECK_TIMEOUT)).build::<Tokio1Executor>(),
        Err(error) => return vec![Finding::wrong(format!("--smtp-url: {error}"))],
    };
    vec![match transport.test_connection().await {
        Ok(true) => Finding::good(format!("smtp: {url} answers")),
        Ok(false) => Finding::wrong(format!("smtp: {url} closed the connection")),
        Err(error) => Finding::wrong(format!("smtp: {url}: {error}")),
    }]
}

async fn media(location: &MediaLocation) -> Vec<Finding> {
    let tested = match Media::open(location) {
        Ok(media) => media.try_out(&Rng::from_entropy()).await,
        Err(error) => Err(error),
    };
    vec![match tested {
        Ok(()) => Finding::good(format!("media: {location}: write, read and delete succeed")),
        Err(error) => Finding::wrong(format!("media: {location}: {error}")),
    }]
}

/// Checks that a file can be created in a directory. Creates the directory if it does not exist, as `serve` does.
fn writable(name: &str, dir: &Path) -> Finding {
    let probe = dir.join(".pintalk-check");
    let written = std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&probe, b"pintalk"))
        .and_then(|()| std::fs::remove_file(&probe));
    match written {
        Ok(()) => Finding::good(format!("{name}: {} is writable", dir.display())),
        Err(error) => Finding::wrong(format!("{name}: {} is not writable: {error}", dir.display())),
    }
}
