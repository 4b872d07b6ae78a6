//! Classification of database errors by their cause, and the consequences of each cause.

use sea_orm::sqlx::mysql::MySqlDatabaseError;
use sea_orm::sqlx::{self, error::DatabaseError};
use sea_orm::{DbErr, RuntimeErr};

use crate::domain::StoreCause;

impl StoreCause {
    /// Returns the cause of a database error. The caller must have ruled out that the data caused the error.
    pub(in crate::store) fn of_sql(error: &DbErr) -> Self {
        match error {
            DbErr::Exec(RuntimeErr::SqlxError(error))
            | DbErr::Query(RuntimeErr::SqlxError(error))
            | DbErr::Conn(RuntimeErr::SqlxError(error)) => Self::of_sqlx(error),
            DbErr::ConnectionAcquire(_) => Self::NoResponse,
            DbErr::Conn(_) => Self::ConnectionLost,
            _ => Self::Other,
        }
    }

    /// Returns the cause of an error of the driver.
    pub(in crate::store) fn of_sqlx(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => match error.try_downcast_ref::<MySqlDatabaseError>() {
                Some(error) => Self::of_mysql(error.number(), error.message()),
                None => Self::of_sqlite(&**error),
            },
            sqlx::Error::Io(error) => Self::of_connection(&format!("{error:?}")).unwrap_or(Self::ConnectionLost),
            sqlx::Error::Tls(error) => Self::of_connection(&format!("{error:?}")).unwrap_or(Self::ConnectionLost),
            sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => Self::Other,
            sqlx::Error::PoolTimedOut => Self::NoResponse,
            _ => Self::ConnectionLost,
        }
    }

    fn of_mysql(number: u16, message: &str) -> Self {
        match number {
            // Errors of a server, transaction, InnoDB or table that is read-only, of forced recovery, of a replica in group
            // replication, and of a Galera node outside the primary component.
            1290 | 1792 | 1836 | 1874 | 1036 | 1881 | 3100 | 1047 => Self::ReadOnly,
            // EE_WRITE, ER_DISK_FULL, ER_ERROR_ON_WRITE, ER_RECORD_FILE_FULL, and failed writes of the binary log.
            3 | 1021 | 1026 | 1114 | 1534 | 1598 => Self::Full,
            // The storage engine reports error 28 (ENOSPC).
            1030 if message.contains("28") => Self::Full,
            // EE_OUTOFMEMORY, ER_OUTOFMEMORY, ER_OUT_OF_SORTMEMORY and ER_OUT_OF_RESOURCES.
            5 | 1037 | 1038 | 1041 => Self::OutOfMemory,
            1045 | 1698 => Self::WrongPassword,
            1820 | 1862 | 3118 | 4151 => Self::AccountLocked,
            // Access denied to a database, table, column or routine, and missing global privileges.
            1044 | 1142 | 1143 | 1227 | 1370 => Self::PermissionMissing(privilege(message)),
            1205 => Self::Locked,
            1040 | 1203 | 1226 => Self::TooManyConnections,
            1129 | 1130 => Self::HostBlocked,
            1049 => Self::UnknownDatabase,
            // ER_SECURE_TRANSPORT_REQUIRED.
            3159 => Self::TlsRequired,
            // A shutdown of the server.
            1053 | 1077..=1080 => Self::Stopping,
            // A connection or statement that was interrupted.
            1152..=1161 | 1317 | 1927 | 3169 | 4031 => Self::ConnectionLost,
            _ => Self::Other,
        }
    }

    fn of_sqlite(error: &dyn DatabaseError) -> Self {
        let code = error.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or_default();
        match (code, code & 0xff) {
            // This is the code `SQLITE_READONLY_DBMOVED`.
            (1032, _) => Self::FilesLost,
            (_, 8) => Self::ReadOnly,
            (_, 13) => Self::Full,
            (_, 7) => Self::OutOfMemory,
            // These are the codes `SQLITE_PERM` and `SQLITE_AUTH`.
            (_, 3 | 23) => Self::PermissionMissing("the database file".to_owned()),
            // These are the codes `SQLITE_BUSY` and `SQLITE_LOCKED`.
            (_, 5 | 6) => Self::Locked,
            // This is the code `SQLITE_CANTOPEN`.
            (_, 14) => Self::ConnectionLost,
            _ => Self::Other,
        }
    }

    /// Returns whether the fault may be limited to existing connections. New connections may then work.
    pub(in crate::store) fn is_of_connection(&self) -> bool {
        !matches!(self, Self::Full | Self::Locked | Self::FilesLost)
    }

    /// Returns whether one failed operation proves the fault. Other faults may affect only one connection or one
    /// statement.
    pub(in crate::store) fn is_certain(&self) -> bool {
        self.is_denial() || matches!(self, Self::ReadOnly | Self::Full | Self::FilesLost)
    }

    /// Returns whether the fault may persist although the probe succeeds. The probe writes less than other operations
    /// and needs fewer privileges.
    pub(in crate::store) fn outlasts_probe(&self) -> bool {
        self.is_denial() || *self == Self::Full
    }
}

/// Returns the privilege that an error of MySQL names: `INSERT command denied to user … for table 'chat_message'`.
fn privilege(message: &str) -> String {
    let command = message.split_once(" command denied").map(|(command, _)| command);
    let object =
        message.rsplit_once(" to database ").or_else(|| message.rsplit_once(" for ")).map(|(_, object)| object);
    let needed = message.split_once("at least one of) the ").and_then(|(_, rest)| rest.split_once(' '));
    match (command, object, needed) {
        (Some(command), Some(object), _) => format!("{command} on {object}"),
        (_, _, Some((needed, _))) => needed.to_owned(),
        (None, Some(object), _) => format!("database {object}"),
        _ => "this operation".to_owned(),
    }
}

/// Returns whether the same call may succeed later without a change to the call or to the user's privileges.
pub fn is_temporary(error: &DbErr) -> bool {
    let cause = StoreCause::of_sql(error);
    cause.is_of_network() || matches!(cause, StoreCause::ReadOnly | StoreCause::Full | StoreCause::Locked)
}

/// Returns whether a statement calls a function that the server does not have.
pub(super) fn is_missing_function(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error else {
        return false;
    };
    let sqlx::Error::Database(error) = &**error else { return false };
    error.try_downcast_ref::<MySqlDatabaseError>().is_some_and(|error| error.number() == 1305)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_of_mysql_has_its_fault() {
        for (number, message, cause) in [
            (1290, "The MySQL server is running with the --super-read-only option", StoreCause::ReadOnly),
            (1836, "Running in read-only mode", StoreCause::ReadOnly),
            (1114, "The table 'chat_message' is full", StoreCause::Full),
            (1030, "Got error 28 \"No space left on device\" from storage engine InnoDB", StoreCause::Full),
            (1030, "Got error 1 \"Operation not permitted\" from storage engine", StoreCause::Other),
            (1045, "Access denied for user 'pintalk'@'localhost' (using password: YES)", StoreCause::WrongPassword),
            (1040, "Too many connections", StoreCause::TooManyConnections),
            (1049, "Unknown database 'pintalk'", StoreCause::UnknownDatabase),
            (1205, "Lock wait timeout exceeded", StoreCause::Locked),
            (1105, "Unknown error", StoreCause::Other),
        ] {
            assert_eq!(StoreCause::of_mysql(number, message), cause, "{number}");
        }
    }

    #[test]
    fn a_missing_privilege_is_named() {
        for (number, message, named) in [
            (
                1142,
                "INSERT command denied to user 'u'@'localhost' for table 'chat_message'",
                "INSERT on table 'chat_message'",
            ),
            (1044, "Access denied for user 'u'@'%' to database 'pintalk'", "database 'pintalk'"),
            (1227, "Access denied; you need (at least one of) the SUPER privilege(s) for this operation", "SUPER"),
        ] {
            let cause = StoreCause::of_mysql(number, message);
            assert_eq!(cause, StoreCause::PermissionMissing(named.to_owned()));
        }
    }
}
