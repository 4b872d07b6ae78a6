//! `pintalk user`: hosts from the command line, for a server that sends no mail yet.

use std::io::BufRead as _;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::{Failure, USAGE, block_on, log_for_a_command, open_store};
use crate::accounts::tokens::TokenKeys;
use crate::accounts::{Accounts, CreateHostError, NewAccount};
use crate::clock::{Chance, SystemClock};
use crate::config::{self, ConfigError, Hidden, StoreArgs};
use crate::domain::Host;
use crate::protocol::api::User;
use crate::store::Store;

#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Make a host and print him, his keys included.
    Create(CreateArgs),
}

#[derive(Args)]
pub(super) struct CreateArgs {
    /// Address he logs in with.
    #[arg(long)]
    email: String,
    /// At least 8 characters; `-` reads a line from standard input.
    #[arg(long, env = "PINTALK_USER_PASSWORD", hide_env_values = true, allow_hyphen_values = true)]
    password: Option<Hidden>,
    /// What his guests see it is called.
    #[arg(long)]
    service_name: String,
    /// Where his widget is embedded: host names with optional ports, separated by commas.
    #[arg(long)]
    service_domain: Option<String>,
    /// A few words about the service.
    #[arg(long, default_value = "")]
    service_expl: String,
    /// Print JSON, as the API answers it.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) fn run(command: UserCommand) -> Result<u8, Failure> {
    let UserCommand::Create(args) = command;
    log_for_a_command();
    let database = config::database(&args.store)?;
    let account = NewAccount {
        email: args.email,
        password: password(args.password.as_ref())?,
        service_name: args.service_name,
        service_expl: args.service_expl,
        service_domain: args.service_domain,
    };
    block_on(async {
        let store = open_store(&database).await?;
        let host = create(&store, account).await;
        store.close().await;
        let host = host?;
        if args.json {
            println!("{}", serde_json::to_string(&User::from(&host)).map_err(Failure::new)?);
        } else {
            print(&host);
        }
        Ok(0)
    })
}

/// Makes a host in an open store.
pub(super) async fn create(store: &Store, account: NewAccount) -> Result<Host, Failure> {
    let chance = Chance::from_entropy();
    // No token is signed here: any key will do.
    let keys = TokenKeys::new(&[chance.bytes::<32>()]).ok_or_else(|| Failure::new("no key for tokens"))?;
    let nobody = Arc::new(|_| -> futures_util::future::BoxFuture<'static, ()> { Box::pin(std::future::ready(())) });
    let accounts = Accounts::new(store.clone(), Arc::new(SystemClock), chance, keys, nobody);
    accounts.create_host(account).await.map_err(|error| match error {
        CreateHostError::Invalid(fields) => {
            let why = fields.iter().map(|(field, why)| format!("--{}: {why}", flag(field))).collect::<Vec<_>>();
            Failure { code: USAGE, sentence: why.join("; ") }
        }
        CreateHostError::EmailTaken => Failure::new("--email: there is an account with this address"),
        CreateHostError::Fault(fault) => Failure::new(fault),
    })
}

/// `serviceName` of the API is `service-name` here.
fn flag(field: &str) -> String {
    let mut flag = String::new();
    for character in field.chars() {
        if character.is_ascii_uppercase() {
            flag.push('-');
        }
        flag.push(character.to_ascii_lowercase());
    }
    flag
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

fn print(host: &Host) {
    println!("id              {}", host.id.0);
    println!("email           {}", host.email);
    println!("uuid            {}", host.uuid);
    println!("service name    {}", host.service_name);
    println!("service domain  {}", host.service_domain.as_deref().unwrap_or("-"));
    println!("access key      {}", host.access_key);
    println!("secret key      {}", host.secret_key);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_the_api_is_named_by_its_flag() {
        assert_eq!(flag("serviceDomain"), "service-domain");
        assert_eq!(flag("email"), "email");
    }
}
