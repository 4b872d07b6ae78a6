//! Provides each test with a fresh database on each kind of server.

pub(crate) mod server;

use std::panic::resume_unwind;

use migration::{Migrator, MigratorTrait as _};
use sea_orm::sqlx::{self, AssertSqlSafe, Connection as _, Executor as _};

use crate::domain::clock::Chance;
use crate::store::{Dialect, Store};

/// Database system that a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    Sqlite,
    MySql,
    MariaDb,
}

impl From<Dialect> for Database {
    fn from(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Sqlite => Self::Sqlite,
            Dialect::MySql => Self::MySql,
        }
    }
}

/// Runs a test on a new database, which is dropped afterwards, even if the test fails.
pub(crate) async fn on_fresh<F>(database: impl Into<Database>, test: impl FnOnce(Store, String) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    // The variable contains a URL without a database, such as `mysql://root@127.0.0.1:3306`.
    let variable = match database.into() {
        Database::Sqlite => {
            let folder = tempfile::tempdir().expect("a folder for the database");
            let url = format!("sqlite://{}/db.sqlite", folder.path().display());
            return run(url, test).await.unwrap_or_else(|panic| resume_unwind(panic));
        }
        Database::MySql => "PINTALK_TEST_MYSQL_URL",
        Database::MariaDb => "PINTALK_TEST_MARIADB_URL",
    };
    let Ok(server) = std::env::var(variable) else { panic!("{variable} must name a server, as tests/run sees to") };
    let name = format!("pintalk_test_{:032x}", u128::from_ne_bytes(Chance::from_entropy().bytes()));
    on_server(&server, format!("CREATE DATABASE {name}")).await;
    let outcome = run(format!("{}/{name}", server.trim_end_matches('/')), test).await;
    on_server(&server, format!("DROP DATABASE {name}")).await;
    outcome.unwrap_or_else(|panic| resume_unwind(panic));
}

/// Runs the test in a separate task, so that a panic does not prevent the cleanup.
async fn run<F>(
    url: String,
    test: impl FnOnce(Store, String) -> F,
) -> Result<(), Box<dyn std::any::Any + Send + 'static>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let store = Store::connect(&url).await.expect("the database answers");
    Migrator::up(store.connection(), None).await.expect("the schema is made");
    let outcome = tokio::spawn(test(store.clone(), url)).await;
    store.close().await;
    outcome.map_err(tokio::task::JoinError::into_panic)
}

async fn on_server(server: &str, statement: String) {
    let mut connection = sqlx::MySqlConnection::connect(server).await.expect("the server answers");
    // The name of a database cannot be a parameter. This one consists of hex digits.
    connection.execute(AssertSqlSafe(statement)).await.expect("the server makes and drops databases");
}
