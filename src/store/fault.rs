//! Why a database cannot be written, as its errors show it.

use std::fmt;

use sea_orm::sqlx::mysql::MySqlDatabaseError;
use sea_orm::sqlx::{self, error::DatabaseError};
use sea_orm::{DbErr, RuntimeErr};

/// Why the database cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not answer, answers too late, or admits no connection.
    Unreachable,
    /// It answers and accepts no write: a replica, a primary that was demoted, a file system mounted read-only.
    ReadOnly,
    /// Its disk, tablespace or file is full.
    Full,
    /// The user lacks a right.
    Denied,
    /// A lock of another session blocks writes, as `LOCK TABLES` does.
    Locked,
    /// The files of SQLite were deleted, moved, replaced or truncated. Permanent: the process must be restarted.
    FilesLost,
    /// Any other error of the database.
    Failing,
}

impl fmt::Display for Fault {
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

impl Fault {
    /// The fault behind an error of an operation that is not the fault of its data.
    pub(super) fn of(error: &DbErr) -> Self {
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
            // A server option; a read-only transaction; read-only mode, of the server, of InnoDB, of a table; forced recovery; a
            // replica of group replication; a Galera node outside the primary component.
            1290 | 1792 | 1836 | 1874 | 1036 | 1881 | 3100 | 1047 => Self::ReadOnly,
            // Failed to write a file; disk full; the same twice; table full; binary log, twice.
            3 | 1021 | 1026 | 1114 | 1534 | 1598 => Self::Full,
            // A storage engine passes on ENOSPC.
            1030 if message.contains("28") => Self::Full,
            // Database; host, user, password; table; column; a right; a definer; socket authentication; password expired, twice;
            // account locked.
            1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1698 | 1820 | 1862 | 3118 => Self::Denied,
            1205 => Self::Locked,
            // Too many connections, of all, of one user, per hour; host blocked, host refused; database missing; shutdown, twice;
            // connection lost or killed; statement interrupted; session killed or expired.
            1040 | 1203 | 1226 | 1129 | 1130 | 1049 | 1053 | 1077..=1080 | 1152..=1161 | 1317 | 1927 | 3169 | 4031 => {
                Self::Unreachable
            }
            _ => Self::Failing,
        }
    }

    fn of_sqlite(error: &dyn DatabaseError) -> Self {
        let code = error.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or_default();
        match (code, code & 0xff) {
            // READONLY_DBMOVED
            (1032, _) => Self::FilesLost,
            (_, 8) => Self::ReadOnly,
            (_, 13) => Self::Full,
            // PERM, AUTH
            (_, 3 | 23) => Self::Denied,
            // BUSY, LOCKED
            (_, 5 | 6) => Self::Locked,
            // CANTOPEN
            (_, 14) => Self::Unreachable,
            _ => Self::Failing,
        }
    }

    /// Whether connections opened from now on may be free of it although those of before are not.
    pub(super) fn is_of_connection(self) -> bool {
        matches!(self, Self::Unreachable | Self::ReadOnly | Self::Denied | Self::Failing)
    }

    /// Whether it is certain from one failed operation. The others may be those of one connection or one statement.
    pub(super) fn is_certain(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Full | Self::Denied | Self::FilesLost)
    }

    /// Whether a later success of the probe does not rule it out: what the probe writes may fit where more does not.
    pub(super) fn outlasts_probe(self) -> bool {
        matches!(self, Self::Full | Self::Denied)
    }
}

/// Whether an operator can expect that the same call succeeds later without any change to it or to the user's rights.
pub fn is_temporary(error: &DbErr) -> bool {
    matches!(Fault::of(error), Fault::Unreachable | Fault::ReadOnly | Fault::Full | Fault::Locked)
}

/// Whether the server does not have a function that a statement calls.
pub(crate) fn is_missing_function(error: &DbErr) -> bool {
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
            (1290, "The MySQL server is running with the --super-read-only option", Fault::ReadOnly),
            (1836, "Running in read-only mode", Fault::ReadOnly),
            (1114, "The table 'chat_message' is full", Fault::Full),
            (1030, "Got error 28 \"No space left on device\" from storage engine InnoDB", Fault::Full),
            (1030, "Got error 1 \"Operation not permitted\" from storage engine", Fault::Failing),
            (1142, "INSERT command denied to user", Fault::Denied),
            (1040, "Too many connections", Fault::Unreachable),
            (1205, "Lock wait timeout exceeded", Fault::Locked),
            (1105, "Unknown error", Fault::Failing),
        ] {
            assert_eq!(Fault::of_mysql(number, message), fault, "{number}");
        }
    }
}
