//! Classification of database errors by the reason why the database cannot be written.

use std::fmt;

use sea_orm::sqlx::mysql::MySqlDatabaseError;
use sea_orm::sqlx::{self, error::DatabaseError};
use sea_orm::{DbErr, RuntimeErr};

/// Reason why the database cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFault {
    /// The database does not respond, responds too late, or refuses connections.
    Unreachable,
    /// The database responds but rejects writes. It is a replica or a demoted primary, or its file system is mounted
    /// read-only.
    ReadOnly,
    /// The disk, the tablespace or the file of the database is full.
    Full,
    /// The user lacks a privilege.
    Denied,
    /// A lock of another session blocks writes, for example `LOCK TABLES`.
    Locked,
    /// The SQLite files were deleted, moved, replaced or truncated. This is permanent: the process must be restarted.
    FilesLost,
    /// Any other error of the database.
    Failing,
}

impl fmt::Display for WriteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "unreachable",
            Self::ReadOnly => "read-only",
            Self::Full => "full",
            Self::Denied => "permission denied",
            Self::Locked => "locked",
            Self::FilesLost => "files lost",
            Self::Failing => "failing",
        })
    }
}

impl WriteFault {
    /// Returns the fault that an error indicates. The caller must have ruled out that the data caused the error.
    pub(in crate::store) fn of(error: &DbErr) -> Self {
        match error {
            DbErr::Exec(RuntimeErr::SqlxError(error))
            | DbErr::Query(RuntimeErr::SqlxError(error))
            | DbErr::Conn(RuntimeErr::SqlxError(error)) => match &**error {
                sqlx::Error::Database(error) => match error.try_downcast_ref::<MySqlDatabaseError>() {
                    Some(error) => Self::of_mysql(error.number(), error.message()),
                    None => Self::of_sqlite(&**error),
                },
                sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => Self::Failing,
                _ => Self::Unreachable,
            },
            DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Self::Unreachable,
            _ => Self::Failing,
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
            // Access denied to a database, table or column; rejected credentials; missing privileges; an expired password
            // or a locked account.
            1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1698 | 1820 | 1862 | 3118 => Self::Denied,
            1205 => Self::Locked,
            // Too many connections, a blocked host, a missing database, a shutdown, or a connection or statement that was
            // interrupted.
            1040 | 1203 | 1226 | 1129 | 1130 | 1049 | 1053 | 1077..=1080 | 1152..=1161 | 1317 | 1927 | 3169 | 4031 => {
                Self::Unreachable
            }
            _ => Self::Failing,
        }
    }

    fn of_sqlite(error: &dyn DatabaseError) -> Self {
        let code = error.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or_default();
        match (code, code & 0xff) {
            // This is the code `SQLITE_READONLY_DBMOVED`.
            (1032, _) => Self::FilesLost,
            (_, 8) => Self::ReadOnly,
            (_, 13) => Self::Full,
            // These are the codes `SQLITE_PERM` and `SQLITE_AUTH`.
            (_, 3 | 23) => Self::Denied,
            // These are the codes `SQLITE_BUSY` and `SQLITE_LOCKED`.
            (_, 5 | 6) => Self::Locked,
            // This is the code `SQLITE_CANTOPEN`.
            (_, 14) => Self::Unreachable,
            _ => Self::Failing,
        }
    }

    /// Returns whether the fault may be limited to existing connections. New connections may then work.
    pub(in crate::store) fn is_of_connection(self) -> bool {
        matches!(self, Self::Unreachable | Self::ReadOnly | Self::Denied | Self::Failing)
    }

    /// Returns whether one failed operation proves the fault. Other faults may affect only one connection or one
    /// statement.
    pub(in crate::store) fn is_certain(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Full | Self::Denied | Self::FilesLost)
    }

    /// Returns whether the fault may persist although the probe succeeds. The probe writes less than other operations
    /// and needs fewer privileges.
    pub(in crate::store) fn outlasts_probe(self) -> bool {
        matches!(self, Self::Full | Self::Denied)
    }
}

/// Returns whether the same call may succeed later without a change to the call or to the user's privileges.
pub fn is_temporary(error: &DbErr) -> bool {
    matches!(
        WriteFault::of(error),
        WriteFault::Unreachable | WriteFault::ReadOnly | WriteFault::Full | WriteFault::Locked
    )
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
        for (number, message, fault) in [
            (1290, "The MySQL server is running with the --super-read-only option", WriteFault::ReadOnly),
            (1836, "Running in read-only mode", WriteFault::ReadOnly),
            (1114, "The table 'chat_message' is full", WriteFault::Full),
            (1030, "Got error 28 \"No space left on device\" from storage engine InnoDB", WriteFault::Full),
            (1030, "Got error 1 \"Operation not permitted\" from storage engine", WriteFault::Failing),
            (1142, "INSERT command denied to user", WriteFault::Denied),
            (1040, "Too many connections", WriteFault::Unreachable),
            (1205, "Lock wait timeout exceeded", WriteFault::Locked),
            (1105, "Unknown error", WriteFault::Failing),
        ] {
            assert_eq!(WriteFault::of_mysql(number, message), fault, "{number}");
        }
    }
}
