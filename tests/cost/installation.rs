//! A node on a separate Redis and a separate database user, whose counters count only this node's work.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pintalk::accounts::tokens::TokenKeys;
use pintalk::accounts::{Accounts, NewAccount};
use pintalk::backend::shutdown::Shutdown;
use pintalk::domain::clock::SystemClock;
use pintalk::domain::{Host, Rng};
use pintalk::node::config::{Config, ServeArgs};
use pintalk::node::{self, AppError};
use pintalk::store::Store;
use pintalk_kit::database::{Database, TestDatabase};
use pintalk_kit::database_server::Root;
use pintalk_kit::eventually;
use pintalk_kit::redis::{Kind, Servers};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

const JWT_SECRET: &str = "a-secret-of-the-tests-that-is-long-enough";

/// Maximum time to start a node, even under callgrind on a busy machine.
const START: Duration = Duration::from_secs(60);

pub(crate) struct Installation {
    pub(crate) address: SocketAddr,
    pub(crate) host: Host,
    pub(crate) redis: Servers,
    pub(crate) database_url: String,
    pub(crate) user: String,
    database: TestDatabase,
    shutdown: Shutdown,
    run: JoinHandle<Result<(), AppError>>,
    _data: tempfile::TempDir,
}

impl Installation {
    /// Starts a node. It runs on the current thread, and only while a future runs on the returned runtime.
    pub(crate) fn start() -> (Self, Runtime) {
        let redis = Servers::start(Kind::Redis7);
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let installation = runtime.block_on(Self::start_on(redis));
        (installation, runtime)
    }

    async fn start_on(redis: Servers) -> Self {
        let database = TestDatabase::migrated(Database::MariaDb).await;
        let database_url = database.url.clone();
        let name = database_url.rsplit('/').next().expect("a name").to_owned();
        let user = format!("u{}", &name[name.len() - 16..]);
        let mut root = Root::connect(&database_url).await;
        // Makes the server count the statements of each user.
        root.run("SET GLOBAL userstat = 1").await;
        root.run(&format!("CREATE USER {user}@'%' IDENTIFIED BY 'p'")).await;
        root.run(&format!("GRANT ALL ON {name}.* TO {user}@'%'")).await;
        let store = Store::connect(&database_url).await.expect("the database answers");
        let host = sign_up(&store).await;
        store.close().await;
        let data = tempfile::tempdir().expect("a folder");
        let url = database_url.replacen("//root@", &format!("//{user}:p@"), 1);
        let (data_dir, redis_url) = (data.path().display().to_string(), redis.url());
        let flags = ["--listen", "127.0.0.1:0", "--drain-delay", "0s", "--drain", "200ms", "--trusted-proxies", "none"];
        let flags = flags.into_iter().chain(["--limits", "off", "--jwt-secret", JWT_SECRET, "--data-dir", &data_dir]);
        let args = ServeArgs::from_flags(flags.chain(["--redis-url", &redis_url, "--database-url", &url]));
        let mut config = Config::from_args(args.expect("flags"), &Rng::from_entropy()).expect("a configuration");
        let listener = TcpListener::bind(config.listen).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        config.bound_to(address).expect("an address");
        let shutdown = Shutdown::new();
        let node = node::build(config).await.expect("a node");
        let run = tokio::spawn(node.run(listener, shutdown.clone(), || {}));
        let http = reqwest::Client::new();
        eventually("the node is ready", START, async || {
            let answer = http.get(format!("http://{address}/health/ready")).send().await.ok()?;
            (answer.status() == 200).then_some(())
        })
        .await;
        Self { address, host, redis, database_url, user, database, shutdown, run, _data: data }
    }

    pub(crate) fn stop(self, runtime: &Runtime) {
        runtime.block_on(async {
            self.shutdown.begin();
            self.run.await.expect("a node does not panic").expect("a node ends in order");
            Root::connect(&self.database_url).await.run(&format!("DROP USER {}@'%'", self.user)).await;
            self.database.drop_it().await;
        });
    }
}

async fn sign_up(store: &Store) -> Host {
    let keys = TokenKeys::new(&[JWT_SECRET]).expect("keys");
    let discard_mails = Arc::new(|_| Box::pin(async {}) as futures_util::future::BoxFuture<'static, ()>);
    let accounts = Accounts::new(store.clone(), Arc::new(SystemClock), Rng::from_entropy(), keys, discard_mails);
    let new = NewAccount {
        email: "host@shop.example".into(),
        password: "correct horse battery".into(),
        service_name: "Shop".into(),
        service_expl: "Sells things".into(),
        service_domain: Some("shop.example".into()),
    };
    accounts.create_host(new).await.expect("a host")
}
