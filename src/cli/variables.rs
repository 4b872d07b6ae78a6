//! Environment variables: which of them clap ignores, and warnings about names that are not options.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

use clap::Command;
use clap::builder::Resettable;

/// Prefix of all variables of the program.
const PREFIX: &str = "PINTALK_";

/// Prefixes of variables of builds and tests.
const OTHER_PREFIXES: [&str; 5] =
    ["PINTALK_TEST_", "PINTALK_CHAOS", "PINTALK_BENCH_", "PINTALK_BUILD_", "PINTALK_REVISION"];

/// Variables of `compose.yaml`. They are set in the shell from which the program may be started as well.
const COMPOSE: [&str; 1] = ["PINTALK_MYSQL_PASSWORD"];

/// Makes clap ignore environment variables that set no option. Compose files and Helm charts set variables with an
/// empty value. For a service named `pintalk-redis`, Kubernetes sets `PINTALK_REDIS_PORT=tcp://…`.
pub(super) fn without_unset(command: Command) -> Command {
    command
        .mut_args(|arg| {
            let is_unset = arg.get_env().and_then(|name| Some((name, std::env::var_os(name)?)));
            let is_unset = is_unset.is_some_and(|(name, value)| value.is_empty() || is_service_link(name, &value));
            if is_unset { arg.env(Resettable::<_>::Reset) } else { arg }
        })
        .mut_subcommands(without_unset)
}

/// Logs a warning for each variable with the prefix of the program that is not an option.
pub(super) fn warn_of_unknown(command: &Command) {
    for (name, closest) in unknown(std::env::vars_os(), command) {
        match closest {
            Some(closest) => tracing::warn!("{name} is not an option; did you mean {closest}?"),
            None => tracing::warn!("{name} is not an option"),
        }
    }
}

/// Returns the unknown variables, each with the option that has the closest name.
fn unknown(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    command: &Command,
) -> Vec<(String, Option<String>)> {
    let mut known = BTreeSet::new();
    add_variables(command, &mut known);
    let is_known = |name: &str| known.contains(name) || COMPOSE.contains(&name);
    let mut unknown: Vec<_> = variables
        .into_iter()
        .filter(|(name, value)| !is_service_link(name, value))
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with(PREFIX) && !is_known(name))
        .filter(|name| !OTHER_PREFIXES.iter().any(|other| name.starts_with(other)))
        .map(|name| {
            let closest = closest(&name, &known);
            (name, closest)
        })
        .collect();
    unknown.sort();
    unknown
}

/// Adds the variables of all options of a command and its subcommands.
fn add_variables(command: &Command, known: &mut BTreeSet<String>) {
    known.extend(command.get_arguments().filter_map(|arg| arg.get_env()?.to_str().map(str::to_owned)));
    for subcommand in command.get_subcommands() {
        add_variables(subcommand, known);
    }
}

/// Returns the known name that differs least. `None`: more than a third of the name differs.
fn closest(name: &str, known: &BTreeSet<String>) -> Option<String> {
    let own = name.strip_prefix(PREFIX)?;
    let others = known.iter().filter_map(|other| {
        let difference = strsim::damerau_levenshtein(own, other.strip_prefix(PREFIX)?);
        Some((difference, other))
    });
    let (difference, other) = others.min()?;
    (difference <= own.len().div_ceil(3)).then(|| other.clone())
}

/// Returns whether Kubernetes has set a variable for a service. For a service `pintalk`, these are
/// `PINTALK_SERVICE_HOST`, `PINTALK_SERVICE_PORT`, `PINTALK_SERVICE_PORT_HTTP`, `PINTALK_PORT=tcp://…`,
/// `PINTALK_PORT_8080_TCP=tcp://…`, `PINTALK_PORT_8080_TCP_PROTO`, `PINTALK_PORT_8080_TCP_PORT` and
/// `PINTALK_PORT_8080_TCP_ADDR`.
fn is_service_link(name: &OsStr, value: &OsStr) -> bool {
    let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { return false };
    let has_port = |rest: &str| rest.split('_').next().is_some_and(|port| port.parse::<u16>().is_ok());
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && value.contains("://"))
        || name.split("_PORT_").skip(1).any(has_port)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn unknown_of(variables: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
        let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        unknown(variables, &Cli::command())
    }

    #[test]
    fn unknown_variable_is_reported_with_the_closest_option() {
        for (name, closest) in [
            ("PINTALK_REDIS_ULR", Some("PINTALK_REDIS_URL")),
            ("PINTALK_JWT_SECRETS", Some("PINTALK_JWT_SECRET")),
            ("PINTALK_DATABASE_PASWORD_FILE", Some("PINTALK_DATABASE_PASSWORD_FILE")),
            ("PINTALK_TRUSTED_PROXY", Some("PINTALK_TRUSTED_PROXIES")),
            ("PINTALK_WORKERS", None),
        ] {
            assert_eq!(unknown_of(&[(name, "x")]), [(name.to_owned(), closest.map(str::to_owned))]);
        }
    }

    #[test]
    fn options_and_variables_of_kubernetes_are_known() {
        let known = [
            ("PINTALK_LISTEN", "127.0.0.1:1"),
            ("PINTALK_USER_PASSWORD", "x"),
            ("PINTALK_TEST_REDIS_URL", "x"),
            ("PATH", "x"),
            ("PINTALK_PORT", "tcp://10.0.0.1:8080"),
            ("PINTALK_SERVICE_HOST", "10.0.0.1"),
            ("PINTALK_SERVICE_PORT", "8080"),
            ("PINTALK_SERVICE_PORT_HTTP", "8080"),
            ("PINTALK_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("PINTALK_PORT_8080_TCP_PROTO", "tcp"),
            ("PINTALK_PORT_8080_TCP_PORT", "8080"),
            ("PINTALK_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("PINTALK_REDIS_PORT", "tcp://10.0.0.2:6379"),
            ("PINTALK_MYSQL_SERVICE_HOST", "10.0.0.3"),
        ];
        assert_eq!(unknown_of(&known), []);
        assert!(!is_service_link(OsStr::new("PINTALK_REDIS_PORT"), OsStr::new("6379")));
    }
}
