//! `pintalk user`: management of host accounts by the operator, also on a server without e-mail.

mod change;
mod create;
mod list;

use std::io::BufRead as _;
use std::str::FromStr;
use std::sync::Arc;

use clap::Subcommand;

use super::{Failure, USAGE, block_on, log_for_a_command, open_store, print_line};
use crate::accounts::tokens::TokenKeys;
use crate::accounts::{Accounts, Announce};
use crate::domain::clock::Chance;
use crate::domain::{Host, HostId};
use crate::node::clock_skew;
use crate::node::config::{ConfigError, Hidden};
use crate::protocol::api::User;
use crate::store::Store;

pub(super) use create::create;

#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Create a host and print it, including its keys.
    Create(create::CreateArgs),
    /// Print all hosts, without their secret keys.
    List(list::ListArgs),
    /// Deactivate a host: its keys and tokens become invalid and its logins end.
    #[command(after_help = change::WHEN)]
    Disable(change::StandingArgs),
    /// Reactivate a deactivated host, who has to log in again.
    #[command(after_help = change::WHEN)]
    Enable(change::StandingArgs),
    /// Set a host's password and end its logins.
    #[command(after_help = change::WHEN)]
    ResetPassword(change::PasswordArgs),
    /// Give a host's service new keys and print the host; the old keys stay valid for --key-grace.
    #[command(after_help = change::WHEN)]
    RotateKeys(change::KeysArgs),
}

pub(super) fn run(command: UserCommand) -> Result<u8, Failure> {
    log_for_a_command();
    match command {
        UserCommand::Create(args) => create::run(args),
        UserCommand::List(args) => list::run(&args),
        UserCommand::Disable(args) => change::disable(&args),
        UserCommand::Enable(args) => change::enable(&args),
        UserCommand::ResetPassword(args) => change::reset_password(&args),
        UserCommand::RotateKeys(args) => change::rotate_keys(&args),
    }
}

/// Reference to an existing host: e-mail address or id.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Email(String),
    Id(HostId),
}

impl FromStr for Who {
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

impl Who {
    async fn find(&self, store: &Store) -> Result<Host, Failure> {
        let found = match self {
            Self::Email(email) => store.hosts().credentials(email).await?.map(|known| known.host),
            Self::Id(id) => store.hosts().get(*id).await?,
        };
        found.ok_or_else(Self::unknown)
    }

    fn unknown() -> Failure {
        Failure::new("<HOST>: there is no account with this address or id")
    }
}

/// Builds the [`Accounts`] service over an open store. It uses the store's clock and the given `announce`.
async fn accounts(store: &Store, announce: Announce) -> Result<Accounts, Failure> {
    let chance = Chance::from_entropy();
    // No token is signed here, so a random key is sufficient.
    let keys = TokenKeys::new(&[chance.bytes::<32>()]).ok_or_else(|| Failure::new("no key for tokens"))?;
    Ok(Accounts::new(store.clone(), clock_skew::clock_of(store).await?, chance, keys, announce))
}

/// Announces nothing: no node needs to be notified.
fn in_silence() -> Announce {
    Arc::new(|_| Box::pin(std::future::ready(())))
}

fn password(given: Option<&Hidden>) -> Result<String, ConfigError> {
    match given.map(Hidden::expose) {
        None => {
            Err(ConfigError::new("password", "is missing: give it here, in PINTALK_USER_PASSWORD, or - to read it"))
        }
        Some("-") => {
            let mut line = String::new();
            let read = std::io::stdin().lock().read_line(&mut line);
            read.map_err(|error| ConfigError::new("password", format!("standard input: {error}")))?;
            Ok(line.trim_end_matches(['\r', '\n']).to_owned())
        }
        Some(password) => Ok(password.to_owned()),
    }
}

/// Prints a host including its keys, as a table or as the JSON of the API.
fn print(host: &Host, json: bool) -> Result<(), Failure> {
    if json {
        return print_line(&serde_json::to_string(&User::new(host, "")).map_err(Failure::new)?);
    }
    let facts = [
        ("id", host.id.0.to_string()),
        ("email", plain(&host.email)),
        ("uuid", host.uuid.to_string()),
        ("service name", plain(&host.service_name)),
        ("service domain", host.service_domain.as_deref().unwrap_or("-").to_owned()),
        ("access key", host.access_key.clone()),
        ("secret key", host.secret_key.clone()),
    ];
    let lines: Vec<_> = facts.iter().map(|(name, fact)| format!("{name:14}  {fact}")).collect();
    print_line(&lines.join("\n"))
}

/// Replaces control characters in user input, so that it cannot send escape sequences to the terminal.
fn plain(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_by_his_address_or_his_id() {
        assert_eq!("dev@shop.example".parse(), Ok(Who::Email("dev@shop.example".into())));
        assert_eq!("42".parse(), Ok(Who::Id(HostId(42))));
        for bad in ["", "dev", "+42", "-1", "99999999999999999999"] {
            assert!(bad.parse::<Who>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_cannot_play_with_the_terminal() {
        assert_eq!(plain("가게\u{1b}[2J\n"), "가게\u{fffd}[2J\u{fffd}");
    }
}
