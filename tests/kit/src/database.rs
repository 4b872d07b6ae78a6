//! A database for one test, on a server of the run. Each target of whole-server tests includes this file by its path.

use sea_orm::{ConnectionTrait as _, Database as Connection};

/// Which server keeps a cluster's database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    MySql,
    MariaDb,
}

/// A database that is there for one test.
pub struct TestDatabase {
    server: String,
    name: String,
    pub url: String,
}

impl TestDatabase {
    pub async fn create(on: Database) -> Self {
        let variable = match on {
            Database::MySql => "PINTALK_TEST_MYSQL_URL",
            Database::MariaDb => "PINTALK_TEST_MARIADB_URL",
        };
        let server = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} must name a server: see tests/run"));
        let name = format!(
            "pintalk_server_{:032x}",
            u128::from_ne_bytes(pintalk::domain::clock::Chance::from_entropy().bytes())
        );
        let url = format!("{}/{name}", server.trim_end_matches('/'));
        let database = Self { server, name, url };
        database.on_server("CREATE DATABASE").await;
        database
    }

    pub async fn drop_it(self) {
        self.on_server("DROP DATABASE").await;
    }

    async fn on_server(&self, what: &str) {
        let connection = Connection::connect(&self.server).await.expect("the database server answers");
        connection.execute_unprepared(&format!("{what} {}", self.name)).await.expect("the database server obeys");
        connection.close().await.expect("the database server answers");
    }
}
