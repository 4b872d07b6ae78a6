//! Provides each test with a new database on SQLite, MySQL or MariaDB.

use std::panic::resume_unwind;

use migration::{Migrator, MigratorTrait as _};
use pintalk_kit::database as kit;

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

/// Runs a test on a new database. The database is dropped afterwards, even if the test fails.
pub(crate) async fn on_fresh<F>(database: impl Into<Database>, test: impl FnOnce(Store, String) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let server = match database.into() {
        Database::Sqlite => {
            let folder = tempfile::tempdir().expect("a folder for the database");
            let url = format!("sqlite://{}/db.sqlite", folder.path().display());
            let store = Store::connect(&url).await.expect("the database answers");
            Migrator::up(store.connection(), None).await.expect("the schema is created");
            return run(store, url, test).await.unwrap_or_else(|panic| resume_unwind(panic));
        }
        Database::MySql => kit::Database::MySql,
        Database::MariaDb => kit::Database::MariaDb,
    };
    let fresh = kit::TestDatabase::migrated(server).await;
    let store = Store::connect(&fresh.url).await.expect("the database answers");
    let outcome = run(store, fresh.url.clone(), test).await;
    fresh.drop_it().await;
    outcome.unwrap_or_else(|panic| resume_unwind(panic));
}

/// Runs a test in a separate task, so that a panic does not prevent the cleanup.
async fn run<F>(
    store: Store,
    url: String,
    test: impl FnOnce(Store, String) -> F,
) -> Result<(), Box<dyn std::any::Any + Send + 'static>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let outcome = tokio::spawn(test(store.clone(), url)).await;
    store.close().await;
    outcome.map_err(tokio::task::JoinError::into_panic)
}
