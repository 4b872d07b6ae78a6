//! `pintalk user`: creates, lists and changes host accounts. The command also works if the server cannot send e-mail.

mod change;
mod create;
mod list;

use std::io::BufRead as _;
use std::str::FromStr;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::{Failure, USAGE, block_on, init_command_logging, open_store, print_line};
use crate::accounts::tokens::TokenKeys;
use crate::accounts::{Accounts, PublishControl};
use crate::domain::Rng;
use crate::domain::{Host, HostId};
use crate::node::clock_skew;
use crate::node::config::{ConfigError, FILES, Hidden, Secret, SecretFile};
use crate::protocol::api::User;
use crate::store::Store;

pub(super) use create::create;

#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Create a host and print it, including its keys.
    Create(create::CreateArgs),
    /// Print all hosts, without their secret keys.
    List(list::ListArgs),
    /// Deactivate a host: its keys, tokens and logins become invalid.
    #[command(after_help = change::AFTER_HELP)]
    Disable(change::AccountArgs),
    /// Reactivate a host. Hosts have to log in again.
    #[command(after_help = change::AFTER_HELP)]
    Enable(change::AccountArgs),
    /// Set a host's password and log the host out everywhere.
    #[command(after_help = change::AFTER_HELP)]
    ResetPassword(change::PasswordArgs),
    /// Replace a host's keys and print the host; the previous keys remain valid for --key-grace.
    #[command(after_help = change::AFTER_HELP)]
    RotateKeys(change::KeysArgs),
}

pub(super) fn run(command: UserCommand) -> Result<u8, Failure> {
    init_command_logging();
    match command {
        UserCommand::Create(args) => create::run(args),
        UserCommand::List(args) => list::run(&args),
        UserCommand::Disable(args) => change::disable(&args),
        UserCommand::Enable(args) => change::enable(&args),
        UserCommand::ResetPassword(args) => change::reset_password(&args),
        UserCommand::RotateKeys(args) => change::rotate_keys(&args),
    }
}

/// Reference to an existing host, by e-mail address or id.
#[derive(Clone, Debug, PartialEq, Eq)]
enum HostRef {
    Email(String),
    Id(HostId),
}

impl FromStr for HostRef {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_id = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(id) if is_id => Ok(Self::Id(HostId(id))),
            _ if text.contains('@') => Ok(Self::Email(text.trim().to_owned())),
            _ => Err("expected an e-mail address or an id"),
        }
    }
}

impl HostRef {
    async fn find(&self, store: &Store) -> Result<Host, Failure> {
        let found = match self {
            Self::Email(email) => store.hosts().credentials(email).await?.map(|credentials| credentials.host),
            Self::Id(id) => store.hosts().get(*id).await?,
        };
        found.ok_or_else(Self::unknown)
    }

    fn unknown() -> Failure {
        Failure::new("<HOST>: no account has this address or id")
    }
}

/// Creates the [`Accounts`] service for an open store. The service uses the clock of the store and passes account
/// changes to `publish`.
async fn accounts(store: &Store, publish: PublishControl) -> Result<Accounts, Failure> {
    let rng = Rng::from_entropy();
    // The command signs no tokens, so a random key is sufficient.
    let keys = TokenKeys::new(&[rng.bytes::<32>()]).ok_or_else(|| Failure::new("failed to create a token key"))?;
    Ok(Accounts::new(store.clone(), clock_skew::clock_of(store).await?, rng, keys, publish))
}

/// Returns a function that discards account changes. It is used if no node has to be notified.
fn publish_nothing() -> PublishControl {
    Arc::new(|_| Box::pin(std::future::ready(())))
}

/// Password of a host.
#[derive(Args)]
struct PasswordOption {
    /// Password, at least 8 characters; `-` reads a line from standard input.
    #[arg(
        long,
        env = "PINTALK_USER_PASSWORD",
        hide_env_values = true,
        allow_hyphen_values = true,
        group = "new_password"
    )]
    password: Option<Hidden>,
    /// File that contains --password.
    #[arg(long, env = "PINTALK_USER_PASSWORD_FILE", value_name = "FILE", help_heading = FILES, group = "new_password")]
    password_file: Option<SecretFile>,
}

fn password(option: &PasswordOption) -> Result<String, ConfigError> {
    let secret = Secret::of(["password", "password-file"], option.password.as_ref(), option.password_file.as_ref());
    match secret {
        None => Err(ConfigError::new(
            "password",
            "is missing: set PINTALK_USER_PASSWORD or PINTALK_USER_PASSWORD_FILE, or pass - to read it from standard input",
        )),
        Some(Secret { flag: "password", text: "-" }) => {
            let mut line = String::new();
            let read = std::io::stdin().lock().read_line(&mut line);
            read.map_err(|error| ConfigError::new("password", format!("standard input: {error}")))?;
            Ok(line.trim_end_matches(['\r', '\n']).to_owned())
        }
        Some(password) => Ok(password.text.to_owned()),
    }
}

/// Prints a host with its keys, as text or in the JSON format of the API.
fn print(host: &Host, json: bool) -> Result<(), Failure> {
    if json {
        return print_line(&serde_json::to_string(&User::new(host, "")).map_err(Failure::new)?);
    }
    let facts = [
        ("id", host.id.0.to_string()),
        ("email", printable(&host.email)),
        ("uuid", host.uuid.to_string()),
        ("service name", printable(&host.service_name)),
        ("service domain", host.service_domain.as_deref().unwrap_or("-").to_owned()),
        ("access key", host.access_key.clone()),
        ("secret key", host.secret_key.clone()),
    ];
    let lines: Vec<_> = facts.iter().map(|(name, fact)| format!("{name:14}  {fact}")).collect();
    print_line(&lines.join("\n"))
}

/// Replaces control characters, because stored strings could otherwise send escape sequences to the terminal.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_referenced_by_address_or_id() {
        assert_eq!("dev@shop.example".parse(), Ok(HostRef::Email("dev@shop.example".into())));
        assert_eq!("42".parse(), Ok(HostRef::Id(HostId(42))));
        for bad in ["", "dev", "+42", "-1", "99999999999999999999"] {
            assert!(bad.parse::<HostRef>().is_err(), "{bad}");
        }
    }

    #[test]
    fn escape_sequences_in_names_are_not_printed() {
        assert_eq!(printable("가게\u{1b}[2J\n"), "가게\u{fffd}[2J\u{fffd}");
    }
}
