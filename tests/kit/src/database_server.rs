//! A MySQL or MariaDB server that belongs to one test, so the test may change the global settings of the server.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use sea_orm::sqlx::{self, AssertSqlSafe, Connection as _, Executor as _, Row as _};

use crate::certificates;
use crate::database::{Database, random_hex};
use crate::in_repository;

/// Database server process that is stopped on drop.
pub struct OwnServer {
    pub address: SocketAddr,
    stop: Vec<String>,
    folder: tempfile::TempDir,
}

/// TLS of a database server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerTls {
    /// The default of the server: MySQL creates its own certificate, and MariaDB supports no TLS.
    Default,
    /// TLS with a certificate for 127.0.0.1 of the CA in [`OwnServer::ca`].
    Signed,
    /// The server supports no TLS.
    Off,
}

impl OwnServer {
    pub async fn start(of: Database) -> Self {
        Self::start_with(of, ServerTls::Default).await
    }

    pub async fn start_with(of: Database, tls: ServerTls) -> Self {
        tokio::task::spawn_blocking(move || Self::start_now(of, tls)).await.expect("a server starts")
    }

    fn start_now(of: Database, tls: ServerTls) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let tls = match tls {
            ServerTls::Default => None,
            ServerTls::Signed => {
                certificates::create(folder.path());
                Some(folder.path().display().to_string())
            }
            ServerTls::Off => Some("off".to_owned()),
        };
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let (port, owner) = (address.port().to_string(), std::process::id().to_string());
        let program = |name: &str| in_repository("tests/servers").join(name);
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
        };
        start.extend(tls);
        let arguments = start.split_off(1);
        let output = Command::new(&start[0]).args(arguments).output().expect("the script runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { address, stop, folder }
    }

    /// Returns the folder of the server's files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the path of the CA certificate of [`ServerTls::Signed`].
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Returns the URL with which the root user connects. It contains no database name.
    pub fn url(&self) -> String {
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

/// Session of the root user. It does not belong to the store that is tested.
pub struct Root(pub sqlx::MySqlConnection);

impl Root {
    pub async fn connect(server: &str) -> Self {
        Self(sqlx::MySqlConnection::connect(server).await.expect("the server answers"))
    }

    pub async fn run(&mut self, statement: &str) {
        // All statements come from tests. Generated names contain only letters, digits and `_`.
        self.0
            .execute(AssertSqlSafe(statement.to_owned()))
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// Creates a database and a user who has all privileges on this database and no others. Returns both names.
    pub async fn create_database(&mut self) -> (String, String) {
        let name = format!("pintalk_test_{}", random_hex());
        let user = format!("u{}", &random_hex()[..16]);
        self.create_database_of(&name, &user).await;
        (name, user)
    }

    pub async fn create_database_of(&mut self, name: &str, user: &str) {
        self.run(&format!("CREATE DATABASE {name}")).await;
        self.run(&format!("CREATE USER {user}@'%' IDENTIFIED BY 'p'")).await;
        self.run(&format!("GRANT ALL ON {name}.* TO {user}@'%'")).await;
    }

    pub async fn drop_database(&mut self, (name, user): &(String, String)) {
        self.run(&format!("DROP DATABASE {name}")).await;
        self.run(&format!("DROP USER {user}@'%'")).await;
    }

    /// Kills every session of a user. Returns the number of sessions.
    pub async fn kill_sessions_of(&mut self, user: &str) -> usize {
        let list = format!("SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE user = '{user}'");
        let rows = self.0.fetch_all(AssertSqlSafe(list)).await.expect("the server answers");
        for row in &rows {
            // `KILL` fails if the session has ended since the query.
            let _ended = self.0.execute(AssertSqlSafe(format!("KILL {}", row.get::<i64, _>(0)))).await;
        }
        rows.len()
    }
}
