//! `pintalk user list`: prints all hosts, without secret keys.

use clap::Args;

use super::{Failure, block_on, open_store, print_line, printable};
use crate::domain::{Host, HostId};
use crate::node::config::{self, StoreArgs};
use crate::protocol::api::User;
use crate::store::{DeactivatedBy, Store};

/// Number of hosts that one query reads.
const PAGE: u64 = 500;

#[derive(Args)]
pub(in crate::cli) struct ListArgs {
    /// Print a JSON list in the format of the API, with the state and without the secret keys.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

pub(super) fn run(args: &ListArgs) -> Result<u8, Failure> {
    let database = config::database(&args.store)?;
    block_on(async {
        let store = open_store(&database).await?;
        let hosts = all(&store).await;
        store.close().await;
        let hosts = hosts?;
        if args.json {
            print_line(&json(&hosts)?)?
        } else {
            print_line(&table(&hosts))?
        }
        Ok(0)
    })
}

/// Host, and who deactivated its account; `None` if the account is active.
type Listed = (Host, Option<DeactivatedBy>);

async fn all(store: &Store) -> Result<Vec<Listed>, Failure> {
    let mut hosts: Vec<Listed> = Vec::new();
    loop {
        let after = hosts.last().map_or(HostId(0), |(host, _)| host.id);
        let page = store.hosts().after(after, PAGE).await?;
        if page.is_empty() {
            return Ok(hosts);
        }
        hosts.extend(page);
    }
}

fn json(hosts: &[Listed]) -> Result<String, Failure> {
    let listed = hosts.iter().map(|(host, by)| {
        let mut listed = serde_json::to_value(User::new(host, ""))?;
        if let Some(fields) = listed.as_object_mut() {
            fields.remove("secretKey");
            fields.insert("state".to_owned(), state(*by).into());
        }
        Ok(listed)
    });
    let listed = listed.collect::<Result<Vec<_>, serde_json::Error>>().map_err(Failure::new)?;
    serde_json::to_string(&listed).map_err(Failure::new)
}

/// Returns the displayed state of an account. Hosts can restore an account in the state `left`, but not one in the
/// state `disabled`.
fn state(by: Option<DeactivatedBy>) -> &'static str {
    match by {
        None => "active",
        Some(DeactivatedBy::Host) => "left",
        Some(DeactivatedBy::Operator) => "disabled",
    }
}

/// Formats a header line and one line per host. Service names are in the last column, because their display width
/// depends on the terminal and would misalign later columns.
fn table(hosts: &[Listed]) -> String {
    let header = ["ID", "STATE", "CREATED", "EMAIL", "DOMAINS", "SERVICE"].map(str::to_owned);
    let rows = hosts.iter().map(|(host, by)| {
        [
            host.id.0.to_string(),
            state(*by).to_owned(),
            host.created_at.format("%Y-%m-%d").to_string(),
            printable(&host.email),
            host.service_domain.as_deref().unwrap_or("-").to_owned(),
            printable(&host.service_name),
        ]
    });
    let lines: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths = [0, 1, 2, 3, 4].map(width);
    let padded = |line: &[String; 6]| {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        text + &line[5]
    };
    lines.iter().map(padded).collect::<Vec<_>>().join("\n")
}
