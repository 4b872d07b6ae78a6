//! A MySQL or MariaDB server for one test, whose global settings the test may change, and a TCP proxy in front of it.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::process::Command;

use sea_orm::sqlx::{self, AssertSqlSafe, Connection as _, Executor as _, Row as _};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Database;
use crate::domain::clock::Chance;

/// Server process that is stopped on drop.
pub(crate) struct OwnServer {
    pub(crate) address: SocketAddr,
    stop: Vec<String>,
    _folder: tempfile::TempDir,
}

impl OwnServer {
    pub(crate) async fn start(of: Database) -> Self {
        tokio::task::spawn_blocking(move || Self::start_now(of)).await.expect("a server starts")
    }

    fn start_now(of: Database) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = StdListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let (port, owner) = (address.port().to_string(), std::process::id().to_string());
        let program = |name: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(name);
        let (mut start, stop) = match of {
            Database::MySql => {
                let cache = std::env::var("XDG_CACHE_HOME")
                    .unwrap_or_else(|_| format!("{}/.cache", std::env::var("HOME").expect("a home")));
                let cache = format!("{cache}/pintalk-tests/mysql");
                let name = format!("store{port}");
                let script = program("mysql").display().to_string();
                let as_root = std::env::var("PINTALK_TEST_AS_ROOT").unwrap_or_default();
                let words = |action: &str| -> Vec<String> {
                    let prefix = as_root.split_whitespace().map(str::to_owned);
                    prefix.chain([script.clone(), action.to_owned(), cache.clone(), name.clone()]).collect()
                };
                ([words("start"), vec![port, owner]].concat(), words("stop"))
            }
            Database::MariaDb => {
                let data = folder.path().join("server").display().to_string();
                let script = program("mariadb").display().to_string();
                let start = vec![script.clone(), "start".to_owned(), data.clone(), port, owner];
                (start, vec![script, "stop".to_owned(), data])
            }
            Database::Sqlite => panic!("SQLite has no server"),
        };
        let arguments = start.split_off(1);
        let output = Command::new(&start[0]).args(arguments).output().expect("the script runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { address, stop, _folder: folder }
    }

    /// URL of the root user, without a database.
    pub(crate) fn url(&self) -> String {
        format!("mysql://root@{}", self.address)
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        if let Err(error) = Command::new(&self.stop[0]).args(&self.stop[1..]).output() {
            eprintln!("a server of a test does not stop: {error}");
        }
    }
}

/// Session of the root user, separate from the store.
pub(crate) struct Root(pub(crate) sqlx::MySqlConnection);

impl Root {
    pub(crate) async fn connect(server: &str) -> Self {
        Self(sqlx::MySqlConnection::connect(server).await.expect("the server answers"))
    }

    pub(crate) async fn run(&mut self, statement: &str) {
        // Statements come from tests, with names that consist of hex digits.
        self.0
            .execute(AssertSqlSafe(statement.to_owned()))
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// Creates a database, and a user with all privileges on it and no others. Returns both names.
    pub(crate) async fn create_database(&mut self) -> (String, String) {
        let name = format!("pintalk_test_{:032x}", u128::from_ne_bytes(Chance::from_entropy().bytes()));
        let user = format!("u{:016x}", u64::from_ne_bytes(Chance::from_entropy().bytes()));
        self.create_database_of(&name, &user).await;
        (name, user)
    }

    pub(crate) async fn create_database_of(&mut self, name: &str, user: &str) {
        self.run(&format!("CREATE DATABASE {name}")).await;
        self.run(&format!("CREATE USER {user}@'%' IDENTIFIED BY 'p'")).await;
        self.run(&format!("GRANT ALL ON {name}.* TO {user}@'%'")).await;
    }

    pub(crate) async fn drop_database(&mut self, (name, user): &(String, String)) {
        self.run(&format!("DROP DATABASE {name}")).await;
        self.run(&format!("DROP USER {user}@'%'")).await;
    }

    /// Kills every session of a user. Returns their number.
    pub(crate) async fn kill_sessions_of(&mut self, user: &str) -> usize {
        let list = format!("SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE user = '{user}'");
        let rows = self.0.fetch_all(AssertSqlSafe(list)).await.expect("the server answers");
        for row in &rows {
            // The session may have ended meanwhile.
            let _ended = self.0.execute(AssertSqlSafe(format!("KILL {}", row.get::<i64, _>(0)))).await;
        }
        rows.len()
    }
}

/// A TCP proxy. A connection keeps the target that was set when it was opened.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    target: watch::Sender<SocketAddr>,
    /// Connections up to this number no longer forward data.
    frozen: watch::Sender<usize>,
    accepted: watch::Receiver<usize>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (target, targets) = watch::channel(target);
        let (frozen, freezing) = watch::channel(0);
        let (count, accepted) = watch::channel(0);
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let number = *count.borrow() + 1;
                count.send_replace(number);
                let (target, mut freezing) = (*targets.borrow(), freezing.clone());
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        () = until_frozen(&mut freezing, number) => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, target, frozen, accepted, accepting }
    }

    /// Directs new connections to another server.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    /// Stops forwarding on all existing connections and keeps them open. Returns the number of connections accepted so
    /// far.
    pub(crate) fn freeze(&self) -> usize {
        let accepted = *self.accepted.borrow();
        self.frozen.send_replace(accepted);
        accepted
    }
}

async fn until_frozen(freezing: &mut watch::Receiver<usize>, number: usize) {
    if freezing.wait_for(|frozen| *frozen >= number).await.is_err() {
        // The proxy was dropped, but the connection stays open.
        std::future::pending::<()>().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
