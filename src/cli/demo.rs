//! `pintalk demo`: runs a complete node with a demo host, and serves a page that shows the guest's and the host's view.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::net::TcpListener;

use super::{Failure, block_on, init_logging, open_store, serve, user};
use crate::accounts::NewAccount;
use crate::domain::Host;
use crate::domain::Rng;
use crate::node::config::{self, Config, ConfigError, LogArgs, ServeArgs};
use crate::node::telemetry;
use crate::store::Store;
use crate::web::DemoHost;

const EMAIL: &str = "demo@pintalk.local";
/// Log filter that suppresses events about migrations, so that the first line of output is the address of the demo
/// page.
const FILTER: &str = "info,sqlx=warn,sqlx_core=warn,sea_orm_migration=warn";
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Options of the demo. All other options have the defaults of `serve`, regardless of the environment.
#[derive(Args)]
pub(super) struct DemoArgs {
    /// Address to listen on [default: 127.0.0.1:8080, or a free port if that is taken].
    #[arg(long, env = "PINTALK_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Directory for the database and files [default: a temporary directory that is deleted at exit].
    #[arg(long, env = "PINTALK_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
}

pub(super) fn run(args: DemoArgs) -> Result<u8, Failure> {
    init_logging(args.log.log_format, FILTER);
    telemetry::log_panics();
    let rng = Rng::from_entropy();
    let temporary = match args.data_dir {
        Some(_) => None,
        None => Some(TemporaryDir::new(&rng)?),
    };
    let data_dir = args.data_dir.or_else(|| temporary.as_ref().map(|dir| dir.0.clone())).unwrap_or_default();
    block_on(async {
        let listener = listen(args.listen).await?;
        let address = listener.local_addr().map_err(Failure::new)?;
        let mut serve = ServeArgs::from_flags([""; 0]).map_err(Failure::new)?;
        serve.store.data_dir = Some(data_dir);
        serve.log = args.log;
        let mut config = Config::from_args(serve, &rng)?;
        config.bound_to(address)?;
        // The demo has no load balancer that must detect the shutdown, so it stops quickly.
        (config.drain_delay, config.drain) = (Duration::ZERO, Duration::from_secs(1));
        let demo = demo_host(&config, address, &rng).await?;
        let banner = banner(address, &demo);
        config.demo = Some(demo);
        serve::node(config, listener, || telemetry::print(std::io::stdout(), banner)).await
    })
}

async fn listen(requested: Option<SocketAddr>) -> Result<TcpListener, Failure> {
    let address = requested.unwrap_or(DEFAULT_LISTEN);
    let bound = match TcpListener::bind(address).await {
        // The default port is in use, so the operating system selects a free port.
        Err(_) if requested.is_none() => TcpListener::bind(SocketAddr::new(address.ip(), 0)).await,
        bound => bound,
    };
    bound.map_err(|error| Failure::new(format!("--listen: cannot listen on {address}: {error}")))
}

/// Finds or creates the demo host. Permits the widget on the local domains with the port of `address`.
async fn demo_host(config: &Config, address: SocketAddr, rng: &Rng) -> Result<DemoHost, Failure> {
    let path = config.data_dir.join("demo-password");
    let password = config::read_or_create(&path, rng, || hex::encode(rng.bytes::<8>()))
        .map_err(|error| ConfigError::new("data-dir", format!("{}: {error}", path.display())))?;
    let domains = domains(address);
    let store = open_store(config.mode.database()).await?;
    let host = match store.hosts().credentials(EMAIL).await? {
        Some(known) => {
            update_domains(&store, &known.host, &domains).await?;
            known.host
        }
        None => {
            let account = NewAccount {
                email: EMAIL.to_owned(),
                password: password.clone(),
                service_name: "Lehm & Moos".to_owned(),
                service_expl: "A page with guest and host side by side".to_owned(),
                service_domain: Some(domains),
            };
            user::create(&store, account).await?
        }
    };
    store.close().await;
    Ok(DemoHost {
        email: host.email,
        password,
        access_key: host.access_key,
        secret_key: host.secret_key,
        uuid: host.uuid.to_string(),
    })
}

/// Returns the domains at which a browser on this machine can open the page.
fn domains(address: SocketAddr) -> String {
    let port = address.port();
    let mut domains = format!("localhost:{port},127.0.0.1:{port}");
    if !address.ip().is_unspecified() && address.ip() != Ipv4Addr::LOCALHOST {
        domains.push_str(&format!(",{address}"));
    }
    domains
}

/// Updates the domains of an existing demo host if they have changed, for example because another port is used.
async fn update_domains(store: &Store, host: &Host, domains: &str) -> Result<(), Failure> {
    if host.service_domain.as_deref() == Some(domains) {
        return Ok(());
    }
    store.hosts().set_service_domain(host.id, domains).await.map_err(Failure::new)
}

fn banner(address: SocketAddr, demo: &DemoHost) -> String {
    let shown =
        if address.ip().is_unspecified() { format!("127.0.0.1:{}", address.port()) } else { address.to_string() };
    let DemoHost { email, password, access_key, secret_key, uuid } = demo;
    format!(
        "\n  PinTalk demo\n\n  page        http://{shown}/demo\n  \
         e-mail      {email}\n  password    {password}\n  access key  {access_key}\n  secret key  {secret_key}\n  \
         uuid        {uuid}\n"
    )
}

/// Maximum time for the deletion of the directory at exit.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(3);

/// Temporary directory that is deleted on drop.
struct TemporaryDir(PathBuf);

impl TemporaryDir {
    fn new(rng: &Rng) -> Result<Self, ConfigError> {
        let path = std::env::temp_dir().join(format!("pintalk-demo-{}", hex::encode(rng.bytes::<8>())));
        let made = config::private_dir(&path);
        made.map_err(|error| ConfigError::new("data-dir", format!("{}: {error}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Deletes the directory. Retries, because threads of SQLite may still write to the directory after a forced shutdown.
fn remove(path: &Path) {
    let began = Instant::now();
    while let Err(error) = std::fs::remove_dir_all(path) {
        if !path.exists() {
            return;
        }
        if began.elapsed() > REMOVAL_TIMEOUT {
            tracing::warn!(path = %path.display(), %error, "failed to delete demo directory");
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demo_page_may_be_opened_under_every_name_of_this_machine() {
        assert_eq!(domains("127.0.0.1:8080".parse().unwrap()), "localhost:8080,127.0.0.1:8080");
        assert_eq!(domains("0.0.0.0:80".parse().unwrap()), "localhost:80,127.0.0.1:80");
        assert_eq!(domains("192.0.2.1:81".parse().unwrap()), "localhost:81,127.0.0.1:81,192.0.2.1:81");
    }

    #[tokio::test]
    async fn requested_port_that_is_taken_is_an_error() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = listen(Some(taken.local_addr().unwrap())).await.unwrap_err();
        assert!(error.message.starts_with("--listen: "), "{}", error.message);
    }
}
