//! Errors of store operations, classified by how a caller handles them.

use sea_orm::sqlx::mysql::MySqlDatabaseError;
use sea_orm::sqlx::{self, error::DatabaseError};
use sea_orm::{DbErr, RuntimeErr};

use crate::domain::{StoreCause, StoreFault};

/// Reason why a store operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database was unreachable, too slow or contended, or in an unusable state (no schema, read-only, disk full).
    /// The caller may retry later. The operation may have taken effect.
    #[error("{0}")]
    Unavailable(StoreFault),
    /// The value of a unique key is already in use.
    #[error("the value of a unique key is already in use")]
    Conflict,
    /// The database rejects the statement or the row permanently.
    #[error("the database rejected the data: {0}")]
    Data(String),
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        match class(&error) {
            ErrorClass::Unavailable | ErrorClass::Contention => {
                StoreError::Unavailable(StoreFault::sql(StoreCause::of_sql(&error), without_values(&error.to_string())))
            }
            ErrorClass::Conflict => StoreError::Conflict,
            ErrorClass::Data => StoreError::Data(without_values(&error.to_string())),
        }
    }
}

impl From<StoreError> for StoreFault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(fault) => fault,
            error => StoreFault::sql(StoreCause::Other, error.to_string()),
        }
    }
}

/// Removes the quoted value from a MySQL error message. The value may be user input, and errors are logged.
fn without_values(text: &str) -> String {
    for before in ["value: '", "value '", "entry '"] {
        let quoted = text.split_once(before).and_then(|(head, rest)| Some((head, rest.rsplit_once("' for ")?.1)));
        if let Some((head, tail)) = quoted {
            return format!("{head}{before}…' for {tail}");
        }
    }
    text.to_owned()
}

/// Returns whether the database rolled the transaction back only because of concurrent transactions. A retry may then
/// succeed.
pub(in crate::store) fn is_contention(error: &DbErr) -> bool {
    class(error) == ErrorClass::Contention
}

/// Returns whether an error is caused neither by the data nor by concurrent transactions.
pub(in crate::store) fn is_unavailable(error: &DbErr) -> bool {
    class(error) == ErrorClass::Unavailable
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ErrorClass {
    Unavailable,
    Contention,
    Conflict,
    Data,
}

/// Classifies an error. The result is `Data` only if the data is certainly the cause: the archiver dead-letters a
/// message whose row fails with `Data`, and retries after all other errors.
fn class(error: &DbErr) -> ErrorClass {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error))
        | DbErr::Conn(RuntimeErr::SqlxError(error)) => match &**error {
            sqlx::Error::Database(error) => match error.try_downcast_ref::<MySqlDatabaseError>() {
                Some(error) => class_of_mysql(error),
                None => class_of_sqlite(&**error),
            },
            sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => ErrorClass::Data,
            _ => ErrorClass::Unavailable,
        },
        DbErr::Type(_) | DbErr::TryIntoErr { .. } | DbErr::Json(_) => ErrorClass::Data,
        _ => ErrorClass::Unavailable,
    }
}

fn class_of_mysql(error: &MySqlDatabaseError) -> ErrorClass {
    match error.number() {
        // ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK, and ER_CHECKREAD: on MariaDB, a row changed after the snapshot was
        // taken.
        1205 | 1213 | 1020 => ErrorClass::Contention,
        1022 | 1062 | 1169 | 1586 => ErrorClass::Conflict,
        // NULL in a NOT NULL column, text outside the column's character set, and violated CHECK constraints.
        1048 | 1300 | 1366 | 3819 | 4025 => ErrorClass::Data,
        // A packet exceeds `max_allowed_packet`. A smaller batch may be accepted.
        1153 | 1301 => ErrorClass::Data,
        // SQLSTATE class 22 contains data exceptions, such as a value that is too long or out of range, or an invalid
        // date.
        _ if error.code().is_some_and(|state| state.starts_with("22")) => ErrorClass::Data,
        _ => ErrorClass::Unavailable,
    }
}

fn class_of_sqlite(error: &dyn DatabaseError) -> ErrorClass {
    if error.is_unique_violation() {
        return ErrorClass::Conflict;
    }
    // The low byte is the primary result code; the other bits extend it.
    let code = error.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or_default() & 0xff;
    match code {
        // These are the codes `SQLITE_BUSY` and `SQLITE_LOCKED`.
        5 | 6 => ErrorClass::Contention,
        // These are the codes `SQLITE_TOOBIG`, `SQLITE_CONSTRAINT` and `SQLITE_MISMATCH`.
        18..=20 => ErrorClass::Data,
        _ => ErrorClass::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_client_is_not_in_an_error() {
        for (text, kept) in [
            (
                "1366 (HY000): Incorrect string value: '\\xF0\\x9F it's for ' for column 'message' at row 1",
                "1366 (HY000): Incorrect string value: '…' for column 'message' at row 1",
            ),
            (
                "1062 (23000): Duplicate entry 'unknown@mail.example' for key 'user.email'",
                "1062 (23000): Duplicate entry '…' for key 'user.email'",
            ),
            ("Data too long for column 'message' at row 1", "Data too long for column 'message' at row 1"),
        ] {
            assert_eq!(without_values(text), kept);
        }
    }
}
