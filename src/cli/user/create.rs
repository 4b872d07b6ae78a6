//! `pintalk user create`: creates a host.

use clap::Args;

use super::{Failure, PasswordOption, USAGE, accounts, block_on, open_store, password, print, publish_nothing};
use crate::accounts::{CreateHostError, NewAccount};
use crate::domain::Host;
use crate::node::config::{self, StoreArgs};
use crate::store::Store;

#[derive(Args)]
pub(in crate::cli) struct CreateArgs {
    /// E-mail address of the host, used to log in.
    #[arg(long)]
    email: String,
    #[command(flatten)]
    password: PasswordOption,
    /// Name of the service, as shown to guests.
    #[arg(long)]
    service_name: String,
    /// Domains that embed the widget: host names with optional ports, separated by commas.
    #[arg(long)]
    service_domain: Option<String>,
    /// Short description of the service.
    #[arg(long, default_value = "")]
    service_expl: String,
    /// Print JSON in the format of the API.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) fn run(args: CreateArgs) -> Result<u8, Failure> {
    let database = config::database(&args.store)?;
    let account = NewAccount {
        email: args.email,
        password: password(&args.password)?,
        service_name: args.service_name,
        service_expl: args.service_expl,
        service_domain: args.service_domain,
    };
    block_on(async {
        let store = open_store(&database).await?;
        let host = create(&store, account).await;
        store.close().await;
        print(&host?, args.json)?;
        Ok(0)
    })
}

/// Creates a host in an open store.
pub(in crate::cli) async fn create(store: &Store, account: NewAccount) -> Result<Host, Failure> {
    let accounts = accounts(store, publish_nothing()).await?;
    accounts.create_host(account).await.map_err(|error| match error {
        CreateHostError::Invalid(fields) => {
            let problems =
                fields.iter().map(|(field, problem)| format!("--{}: {problem}", flag(field))).collect::<Vec<_>>();
            Failure { code: USAGE, message: problems.join("; ") }
        }
        CreateHostError::EmailTaken => Failure::new("--email: an account with this address already exists"),
        CreateHostError::Fault(fault) => Failure::new(fault),
    })
}

/// Returns the name of the flag that sets an API field, for example `service-name` for `serviceName`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_field_is_named_by_its_flag() {
        assert_eq!(flag("serviceDomain"), "service-domain");
        assert_eq!(flag("email"), "email");
    }
}
