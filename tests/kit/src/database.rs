//! A MySQL or MariaDB database for one test, on a server that `tests/run` started.

use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState};

use migration::{Migrator, MigratorTrait as _};
use sea_orm::sqlx::{self, AssertSqlSafe, Connection as _, MySqlConnection, Row as _};

/// Database server that a cluster uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    MySql,
    MariaDb,
}

impl Database {
    /// Returns the URL of the server without a database, such as `mysql://root@127.0.0.1:3306`.
    pub fn server(self) -> String {
        let variable = match self {
            Self::MySql => "PINTALK_TEST_MYSQL_URL",
            Self::MariaDb => "PINTALK_TEST_MARIADB_URL",
        };
        let server = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} must name a server: see tests/run"));
        server.trim_end_matches('/').to_owned()
    }
}

/// Database of one test, on a server that tests share.
pub struct TestDatabase {
    server: String,
    name: String,
    pub url: String,
}

impl TestDatabase {
    /// Creates an empty database.
    pub async fn create(on: Database) -> Self {
        let database = Self::named(on);
        database.on_server(&format!("CREATE DATABASE {}", database.name)).await;
        database
    }

    /// Creates a database with the current schema and its initial rows.
    pub async fn migrated(on: Database) -> Self {
        let database = Self::named(on);
        let schema = schema_of(&database.server).await;
        database.on_server(&format!("CREATE DATABASE {0}; USE {0}; {schema}", database.name)).await;
        database
    }

    pub async fn drop_it(self) {
        self.on_server(&format!("DROP DATABASE {}", self.name)).await;
    }

    fn named(on: Database) -> Self {
        let server = on.server();
        let name = format!("pintalk_test_{}", random_hex());
        let url = format!("{server}/{name}");
        Self { server, name, url }
    }

    async fn on_server(&self, statements: &str) {
        let mut connection = connect(&self.server).await;
        run(&mut connection, statements).await;
        connection.close().await.expect("the database server answers");
    }
}

/// Returns 32 random hexadecimal digits.
pub(crate) fn random_hex() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

async fn connect(server: &str) -> MySqlConnection {
    MySqlConnection::connect(server).await.expect("the database server answers")
}

async fn run(connection: &mut MySqlConnection, statements: &str) {
    // All statements come from tests or from the template. Generated names contain only letters, digits and `_`.
    let statements = AssertSqlSafe(statements.to_owned());
    sqlx::raw_sql(statements).execute(connection).await.expect("the database server executes statements");
}

/// Returns the statements that create the current schema with its initial rows.
///
/// Migrations take five times as long as these statements. Each test program therefore migrates one database per
/// server, the template. All other migrated databases are created with the statements that the template contains.
async fn schema_of(server: &str) -> String {
    let template = format!("pintalk_template_{:016x}", program());
    let mut connection = connect(server).await;
    if let Some(schema) = stored(&mut connection, &template).await {
        return schema;
    }
    // Test processes of the same program run concurrently. The lock ensures that only one of them creates the template.
    run(&mut connection, &format!("SELECT GET_LOCK('{template}', 60)")).await;
    let schema = match stored(&mut connection, &template).await {
        Some(schema) => schema,
        None => create_template(&mut connection, server, &template).await,
    };
    // Closing the connection releases the lock.
    connection.close().await.expect("the database server answers");
    schema
}

/// Returns a hash that identifies this build of the test program. Another build may contain other migrations.
fn program() -> u64 {
    let path = std::env::current_exe().expect("the path of the program");
    let file = path.metadata().expect("the file of the program");
    let mut hasher = DefaultHasher::new();
    (path, file.len(), file.modified().expect("the time of the build")).hash(&mut hasher);
    hasher.finish()
}

async fn stored(connection: &mut MySqlConnection, template: &str) -> Option<String> {
    let select = AssertSqlSafe(format!("SELECT statements FROM {template}.template"));
    // The query fails if the template does not exist.
    let row = sqlx::query(select).fetch_optional(connection).await.ok()?;
    row.map(|row| row.get_unchecked(0))
}

async fn create_template(connection: &mut MySqlConnection, server: &str, template: &str) -> String {
    // A process that was killed may have left an incomplete template.
    run(connection, &format!("DROP DATABASE IF EXISTS {template}; CREATE DATABASE {template}; USE {template}")).await;
    let migrated = sea_orm::Database::connect(format!("{server}/{template}")).await.expect("the template answers");
    Migrator::up(&migrated, None).await.expect("the schema is created");
    migrated.close().await.expect("the database server answers");
    let mut schema = "SET foreign_key_checks = 0;\n".to_owned();
    for table in sqlx::query("SHOW TABLES").fetch_all(&mut *connection).await.expect("tables") {
        let table: String = table.get_unchecked(0);
        let show = AssertSqlSafe(format!("SHOW CREATE TABLE `{table}`"));
        let created = sqlx::query(show).fetch_one(&mut *connection).await.expect("a table");
        let created: String = created.get_unchecked(1);
        schema += &format!("{created};\n");
        // Empty tables are skipped: some have generated columns, and MySQL rejects `INSERT … SELECT *` into such
        // tables.
        let filled = AssertSqlSafe(format!("SELECT 1 FROM `{table}` LIMIT 1"));
        if sqlx::query(filled).fetch_optional(&mut *connection).await.expect("a table").is_some() {
            schema += &format!("INSERT INTO `{table}` SELECT * FROM {template}.`{table}`;\n");
        }
    }
    schema += "SET foreign_key_checks = 1;\n";
    run(connection, "CREATE TABLE template (statements MEDIUMTEXT NOT NULL)").await;
    let store = sqlx::query("INSERT INTO template VALUES (?)").bind(&schema);
    store.execute(connection).await.expect("the template is stored");
    schema
}
