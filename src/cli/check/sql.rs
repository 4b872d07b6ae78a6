//! Checks the database: schema, write access, server version, settings and privileges.

use super::{Finding, migrate};
use crate::node::config::Config;
use crate::store::{Dialect, MYSQL_CONNECTIONS, ServerSettings, Store, StoreError};

/// Oldest supported releases.
const MINIMUM_MYSQL: (u32, u32) = (8, 0);
const MINIMUM_MARIADB: (u32, u32) = (10, 6);

/// Value of `max_allowed_packet` below which the archiver writes smaller batches than it could.
const FULL_BATCH_PACKET: u64 = 2 * 1024 * 1024;

/// Ratio of the largest statement to the largest frame: the archiver fills a third of a statement with frames.
const PACKET_PER_FRAME: u64 = 3;

pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let store = match Store::connect_lazy(config.mode.database().expose()).await {
        Ok(store) => store,
        Err(error) => return vec![Finding::wrong(format!("sql: {error}"))],
    };
    if let Err(fault) = store.reach().await {
        return vec![Finding::wrong(fault)];
    }
    let state = migrate::state(&store).await;
    let is_current = matches!(&state, Ok(state) if state.pending() == 0);
    let finding = match state {
        Err(failure) => Finding::wrong(format!("sql: {}", failure.message)),
        Ok(state) => schema(state.pending(), state.foreign.len(), config.auto_migrate),
    };
    let mut findings = vec![finding];
    findings.extend(server(&store, config).await.unwrap_or_else(failed));
    findings.extend(privileges(&store, is_current, config.auto_migrate).await.unwrap_or_else(failed));
    if is_current && let Err(fault) = store.probe().await {
        findings.push(Finding::wrong(format!("sql: write failed: {}", fault.reason())));
    }
    store.close().await;
    findings
}

fn failed(error: StoreError) -> Vec<Finding> {
    vec![Finding::wrong(format!("sql: {error}"))]
}

fn schema(pending: usize, foreign: usize, auto_migrate: bool) -> Finding {
    match (pending, foreign) {
        (0, 0) => Finding::good("sql: connected, the schema is up to date"),
        (0, foreign) => {
            Finding::risky(format!("sql: connected, the schema has {foreign} migrations of another release"))
        }
        (pending, 0) if auto_migrate => {
            Finding::good(format!("sql: connected, {pending} migrations will be applied at start"))
        }
        (pending, 0) => Finding::wrong(format!(
            "sql: {pending} migrations are pending: run `pintalk migrate up` or set --auto-migrate"
        )),
        (pending, _) => Finding::wrong(format!(
            "sql: {pending} migrations are pending, and the schema has migrations of another release: install the release that matches it"
        )),
    }
}

async fn server(store: &Store, config: &Config) -> Result<Vec<Finding>, StoreError> {
    let settings = store.server_settings().await?;
    Ok(match store.dialect() {
        Dialect::Sqlite => vec![Finding::good(format!("sql: SQLite {}", settings.version))],
        Dialect::MySql => assess(&settings, config.limits.frame_bytes as u64),
    })
}

/// Assesses the version and the settings of a server. `frame_bytes` is the maximum size of a frame from a client.
fn assess(settings: &ServerSettings, frame_bytes: u64) -> Vec<Finding> {
    let ServerSettings { product, version, .. } = settings;
    let minimum = if *product == "MariaDB" { MINIMUM_MARIADB } else { MINIMUM_MYSQL };
    let mut findings = vec![match settings.release() {
        Some(release) if release >= minimum => Finding::good(format!("sql: {product} {version}")),
        _ => Finding::wrong(format!("sql: {product} {version}, {}.{} or later is required", minimum.0, minimum.1)),
    }];
    if let Some(variable) = settings.read_only() {
        findings.push(Finding::wrong(format!("sql: {variable} is on: use the address of the writable primary")));
    }
    let least = frame_bytes * PACKET_PER_FRAME;
    findings.push(match settings.number("max_allowed_packet") {
        None => Finding::risky("sql: max_allowed_packet cannot be read"),
        Some(bytes) if bytes < least => Finding::wrong(format!(
            "sql: max_allowed_packet is {bytes} bytes: messages of up to {frame_bytes} bytes (--limit-frame-bytes) need \
             {least}"
        )),
        Some(bytes) if bytes < FULL_BATCH_PACKET => Finding::risky(format!(
            "sql: max_allowed_packet is {bytes} bytes: messages are archived in small batches, set at least \
             {FULL_BATCH_PACKET}"
        )),
        Some(bytes) => Finding::good(format!("sql: max_allowed_packet is {bytes} bytes")),
    });
    if let Some(most) = settings.number("max_connections") {
        let text = format!("sql: max_connections is {most}, and one node opens up to {MYSQL_CONNECTIONS} connections");
        let is_enough = most >= 2 * u64::from(MYSQL_CONNECTIONS);
        findings.push(if is_enough { Finding::good(text) } else { Finding::risky(text) });
    }
    findings
}

/// Checks the privileges of a running node, and those of schema changes if the node applies pending migrations. The
/// privileges of a running node can only be checked if the schema exists.
async fn privileges(store: &Store, is_current: bool, auto_migrate: bool) -> Result<Vec<Finding>, StoreError> {
    if store.dialect() == Dialect::Sqlite {
        return Ok(Vec::new());
    }
    let mut missing = if is_current { store.missing_privileges().await? } else { Vec::new() };
    if auto_migrate {
        missing.extend(store.missing_schema_privileges().await?);
    }
    Ok(match (missing.as_slice(), is_current || auto_migrate) {
        ([], false) => Vec::new(),
        ([], true) => vec![Finding::good("sql: the user has the required privileges")],
        (missing, _) => vec![Finding::wrong(format!("sql: the user lacks the privileges {}", missing.join(", ")))],
    })
}

#[cfg(test)]
mod tests {
    use super::super::Severity::{Good, Risky, Wrong};
    use super::*;

    #[test]
    fn old_or_read_only_server_and_small_packet_are_wrong() {
        let severities = |product, version: &str, variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let settings = ServerSettings { product, version: version.to_owned(), variables };
            assess(&settings, 32 * 1024).into_iter().map(|finding| finding.severity).collect::<Vec<_>>()
        };
        let packet = |bytes| [("max_allowed_packet", bytes)];
        assert_eq!(severities("MySQL", "8.0.36", &packet("67108864")), [Good, Good]);
        assert_eq!(severities("MariaDB", "10.5.20-MariaDB", &packet("16777216")), [Wrong, Good]);
        assert_eq!(severities("MySQL", "5.7.44", &packet("1048576")), [Wrong, Risky]);
        assert_eq!(severities("MySQL", "9.1.0", &packet("65536")), [Good, Wrong]);
        let replica = [("read_only", "ON"), ("max_allowed_packet", "67108864"), ("max_connections", "20")];
        assert_eq!(severities("MariaDB", "11.4.2-MariaDB", &replica), [Good, Wrong, Good, Risky]);
    }
}
