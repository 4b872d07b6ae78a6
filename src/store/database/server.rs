//! Version and settings of the database server, and trials of the privileges that a node needs. `pintalk check` reports
//! them.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement};

use crate::domain::StoreCause;
use crate::store::{Dialect, Store, StoreError};

/// Statements that require the privileges of a running node and change nothing.
const USES: [(&str, &str); 4] = [
    ("SELECT", "SELECT 1 FROM chat_message WHERE 1 = 0"),
    ("INSERT", "INSERT INTO chat_message SELECT * FROM chat_message WHERE 1 = 0"),
    ("UPDATE", "UPDATE chat_message SET message = message WHERE 1 = 0"),
    ("DELETE", "DELETE FROM chat_message WHERE 1 = 0"),
];

/// Statements that require the privileges of a schema change. They create a table and delete it.
const CHANGES: [(&str, &str); 4] = [
    ("CREATE", "CREATE TABLE IF NOT EXISTS pintalk_check (id BIGINT NOT NULL)"),
    ("ALTER", "ALTER TABLE pintalk_check ADD COLUMN number BIGINT"),
    ("INDEX", "CREATE INDEX pintalk_check_id ON pintalk_check (id)"),
    ("DROP", "DROP TABLE pintalk_check"),
];

/// Global variables that [`Store::server_settings`] reads.
const VARIABLES: &str = "'version', 'max_allowed_packet', 'max_connections', 'read_only', 'super_read_only', \
     'innodb_read_only'";

/// Version and settings of a database server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Product: MySQL, MariaDB or SQLite.
    pub product: &'static str,
    /// Version as the server reports it.
    pub version: String,
    /// Global variables, by name. Empty for SQLite.
    pub variables: HashMap<String, String>,
}

impl ServerSettings {
    /// Returns the major and the minor version. The minor version is 0 if it is not a number.
    pub fn release(&self) -> Option<(u32, u32)> {
        let mut numbers = self.version.split(['.', '-']).map(|part| part.parse().ok());
        Some((numbers.next().flatten()?, numbers.next().flatten().unwrap_or_default()))
    }

    /// Returns the value of a numeric variable.
    pub fn number(&self, variable: &str) -> Option<u64> {
        self.variables.get(variable)?.parse().ok()
    }

    /// Returns the name of the variable that makes the server read-only.
    pub fn read_only(&self) -> Option<&'static str> {
        let is_on = |name: &&str| {
            self.variables.get(*name).is_some_and(|value| !["OFF", "0"].contains(&value.to_ascii_uppercase().as_str()))
        };
        ["super_read_only", "innodb_read_only", "read_only"].into_iter().find(is_on)
    }
}

impl Store {
    /// Reads the version and the settings of the server.
    pub async fn server_settings(&self) -> Result<ServerSettings, StoreError> {
        match self.dialect {
            Dialect::Sqlite => {
                let rows = self.run("store", || read_pairs(&self.reader, "SELECT 'version', sqlite_version()")).await?;
                Ok(ServerSettings { product: "SQLite", version: version_of(&rows), variables: HashMap::new() })
            }
            Dialect::MySql => {
                let statement = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({VARIABLES})");
                let variables = self.run("store", || read_pairs(&self.reader, &statement)).await?;
                let version = version_of(&variables);
                let product = if version.contains("MariaDB") { "MariaDB" } else { "MySQL" };
                Ok(ServerSettings { product, version, variables })
            }
        }
    }

    /// Returns the privileges that a running node needs and this user does not have. Changes nothing. The schema must
    /// exist.
    pub async fn missing_privileges(&self) -> Result<Vec<&'static str>, StoreError> {
        self.denied(&self.writer, &USES).await
    }

    /// Returns the privileges that schema changes need and this user does not have. Creates the table `pintalk_check`
    /// and deletes it.
    pub async fn missing_schema_privileges(&self) -> Result<Vec<&'static str>, StoreError> {
        self.denied(&self.schema, &CHANGES).await
    }

    /// Executes each statement and returns the names of those that the server denies. If the server rejects a statement
    /// for another reason, such as its read-only mode, the user has the privilege. Returns nothing for SQLite, which has
    /// no privileges.
    async fn denied(
        &self,
        connection: &DatabaseConnection,
        trials: &[(&'static str, &str)],
    ) -> Result<Vec<&'static str>, StoreError> {
        let mut denied = Vec::new();
        if self.dialect == Dialect::Sqlite {
            return Ok(denied);
        }
        for (privilege, statement) in trials {
            let tried = self.run("store", || async {
                let fault = |error: DbErr| match StoreCause::of_sql(&error) {
                    cause if cause.is_of_network() => Err(error),
                    cause => Ok(cause.is_denial()),
                };
                connection.execute_unprepared(statement).await.map_or_else(fault, |_| Ok(false))
            });
            if tried.await? {
                denied.push(*privilege);
            }
        }
        Ok(denied)
    }
}

async fn read_pairs(connection: &DatabaseConnection, statement: &str) -> Result<HashMap<String, String>, DbErr> {
    let statement = Statement::from_string(connection.get_database_backend(), statement);
    let rows = connection.query_all_raw(statement).await?;
    rows.into_iter().map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?))).collect()
}

fn version_of(variables: &HashMap<String, String>) -> String {
    variables.get("version").cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(version: &str, variables: &[(&str, &str)]) -> ServerSettings {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ServerSettings { product: "MySQL", version: version.to_owned(), variables }
    }

    #[test]
    fn version_and_read_only_variable_are_parsed() {
        assert_eq!(settings("10.11.6-MariaDB-1:10.11.6", &[]).release(), Some((10, 11)));
        assert_eq!(settings("8.4.3", &[]).release(), Some((8, 4)));
        assert_eq!(settings("8.0.mysql_aurora.3.04.0", &[]).release(), Some((8, 0)));
        assert_eq!(settings("", &[]).release(), None);
        assert_eq!(settings("8.4.3", &[("read_only", "OFF"), ("super_read_only", "0")]).read_only(), None);
        assert_eq!(
            settings("8.4.3", &[("read_only", "ON"), ("super_read_only", "OFF")]).read_only(),
            Some("read_only")
        );
        assert_eq!(settings("12.1.1-MariaDB", &[("read_only", "NO_LOCK")]).read_only(), Some("read_only"));
    }
}
