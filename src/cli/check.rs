//! `pintalk check`: connects to all stores and servers of the configuration and reports errors and risks.
//!
//! It changes only what `serve` would create at once: the data directory, the token secret in it, the media folder.
//! Files written as a probe are removed.

mod clocks;
mod ownership;
mod redis;

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use lettre::{AsyncSmtpTransport, Tokio1Executor};

use super::{FAILED, Failure, block_on, log_for_a_command, migrate, print_line};
use crate::domain::clock::Chance;
use crate::node::config::{Config, Limits, Mode, ServeArgs, SmtpUrl};
use crate::outbound::media::{Media, MediaLocation};
use crate::store::Store;

/// Time limit of each check.
const PATIENCE: Duration = Duration::from_secs(5);

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    Good,
    Risky,
    Wrong,
}

/// One line of the report.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    weight: Weight,
    what: String,
}

impl Finding {
    fn good(what: impl fmt::Display) -> Self {
        Self { weight: Weight::Good, what: what.to_string() }
    }

    fn risky(what: impl fmt::Display) -> Self {
        Self { weight: Weight::Risky, what: what.to_string() }
    }

    fn wrong(what: impl fmt::Display) -> Self {
        Self { weight: Weight::Wrong, what: what.to_string() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = match self.weight {
            Weight::Good => "ok   ",
            Weight::Risky => "risky",
            Weight::Wrong => "WRONG",
        };
        write!(f, "{weight}  {}", self.what)
    }
}

pub(super) fn run(args: ServeArgs) -> Result<u8, Failure> {
    log_for_a_command();
    let config = Config::from_args(args, &Chance::from_entropy())?;
    block_on(async {
        let mut findings = settings(&config);
        findings.extend(in_time("sql", sql(&config)).await);
        if let Mode::Cluster { redis, .. } = &config.mode {
            findings.extend(in_time("redis", redis::check(redis)).await);
        }
        findings.extend(in_time("installation", ownership::check(&config.mode)).await);
        findings.extend(in_time("clocks", clocks::check(&config.mode)).await);
        if let Some(url) = &config.smtp_url {
            findings.extend(in_time("smtp", smtp(url)).await);
        }
        findings.extend(in_time("media", media(&config.media)).await);
        findings.push(writable("data-dir", &config.data_dir));
        for finding in &findings {
            print_line(&finding.to_string())?;
        }
        let wrong = findings.iter().any(|finding| finding.weight == Weight::Wrong);
        Ok(if wrong { FAILED } else { 0 })
    })
}

/// Runs a check with a time limit. A timeout is an error.
async fn in_time(what: &str, check: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    let silent = |_| vec![Finding::wrong(format!("{what}: no answer in {} s", PATIENCE.as_secs()))];
    tokio::time::timeout(PATIENCE, check).await.unwrap_or_else(silent)
}

/// Checks the configuration without connecting to anything.
fn settings(config: &Config) -> Vec<Finding> {
    let mut findings = vec![Finding::good(match &config.mode {
        Mode::Embedded { database } => format!("a single node, embedded, on {database}"),
        Mode::SingleOnDatabase { database } => format!("a single node on {database}"),
        Mode::Cluster { database, redis } => format!("a node of a cluster on {database} and {redis}"),
    })];
    if config.mode.redis().is_some() && config.trusted_proxies.is_none() {
        findings.push(Finding::risky("--trusted-proxies: not set, so behind a balancer all clients share one address"));
    }
    if config.may_have_unshared_media() {
        findings.push(Finding::risky(format!(
            "--media-url: {} is a folder, AND THIS IS A CLUSTER: profile images are missing on every node that does not have \
             the same folder mounted",
            config.media
        )));
    }
    if config.limits == Limits::off(config.limits.frame_bytes, config.limits.joins_waiting) {
        findings.push(Finding::risky("--limits: off, so no client is limited"));
    }
    if config.smtp_url.is_none() {
        findings.push(Finding::good("--smtp-url: not set, mails are logged"));
    }
    if !config.public_url.is_https() && !config.listen.ip().is_loopback() {
        findings
            .push(Finding::risky(format!("--public-url: {} is not https, cookies are not Secure", config.public_url)));
    }
    findings
}

async fn sql(config: &Config) -> Vec<Finding> {
    let store = match Store::connect(config.mode.database().expose()).await {
        Ok(store) => store,
        Err(error) => return vec![Finding::wrong(format!("sql: {error}"))],
    };
    let (answer, state) = (store.ping().await, migrate::state(&store).await);
    let is_current = matches!(&state, Ok(state) if state.pending() == 0);
    let finding = match (answer, state) {
        (Err(error), _) => Finding::wrong(format!("sql: {error}")),
        (_, Err(failure)) => Finding::wrong(format!("sql: {}", failure.sentence)),
        (_, Ok(state)) => match (state.pending(), state.foreign.len()) {
            (0, 0) => Finding::good("sql: reached, the schema is up to date"),
            (0, foreign) => {
                Finding::risky(format!("sql: reached, another release has changed the schema {foreign} times since"))
            }
            (pending, 0) if config.auto_migrate => {
                Finding::good(format!("sql: reached, {pending} migrations will be applied at start"))
            }
            (pending, 0) => Finding::wrong(format!(
                "sql: {pending} migrations are pending: run `pintalk migrate up`, or --auto-migrate"
            )),
            (pending, _) => Finding::wrong(format!(
                "sql: {pending} migrations are pending, and another release has changed the schema: install the one that is right"
            )),
        },
    };
    let mut findings = vec![finding];
    if is_current && let Err(fault) = store.probe().await {
        findings.push(Finding::wrong(format!("sql: cannot be written: {fault}")));
    }
    store.close().await;
    findings
}

async fn smtp(url: &SmtpUrl) -> Vec<Finding> {
    let transport = match AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose()) {
        Ok(builder) => builder.timeout(Some(PATIENCE)).build::<Tokio1Executor>(),
        Err(error) => return vec![Finding::wrong(format!("--smtp-url: {error}"))],
    };
    vec![match transport.test_connection().await {
        Ok(true) => Finding::good(format!("smtp: {url} answers")),
        Ok(false) => Finding::wrong(format!("smtp: {url} hangs up")),
        Err(error) => Finding::wrong(format!("smtp: {url}: {error}")),
    }]
}

async fn media(location: &MediaLocation) -> Vec<Finding> {
    let tried = match Media::open(location) {
        Ok(media) => media.try_out(&Chance::from_entropy()).await,
        Err(error) => Err(error),
    };
    vec![match tried {
        Ok(()) => Finding::good(format!("media: {location} takes, gives and deletes")),
        Err(error) => Finding::wrong(format!("media: {location}: {error}")),
    }]
}

/// Checks that a file can be written in a directory. The directory is created, as `serve` does.
fn writable(what: &str, dir: &Path) -> Finding {
    let probe = dir.join(".pintalk-check");
    let written = std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&probe, b"pintalk"))
        .and_then(|()| std::fs::remove_file(&probe));
    match written {
        Ok(()) => Finding::good(format!("{what}: {} is writable", dir.display())),
        Err(error) => Finding::wrong(format!("{what}: {} is not writable: {error}", dir.display())),
    }
}
