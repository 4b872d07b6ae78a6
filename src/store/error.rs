//! What can go wrong, sorted by what a caller can do about it.

use sea_orm::sqlx::mysql::MySqlDatabaseError;
use sea_orm::sqlx::{self, error::DatabaseError};
use sea_orm::{DbErr, RuntimeErr};

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database could not be reached, was too slow or too contended, or is not what it should be (no schema, read
    /// only, disk full): come back. The operation may have had its effect.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// A unique key is taken.
    #[error("already taken")]
    Conflict,
    /// This very statement or row can never succeed.
    #[error("the database refuses the data: {0}")]
    Data(String),
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        match class(&error) {
            Class::Unavailable | Class::Contention => StoreError::Unavailable(without_values(&error.to_string())),
            Class::Conflict => StoreError::Conflict,
            Class::Data => StoreError::Data(without_values(&error.to_string())),
        }
    }
}

/// A message of MySQL's without the value that it quotes, which may be what a client has written: errors are logged.
fn without_values(text: &str) -> String {
    for before in ["value: '", "value '", "entry '"] {
        let quoted = text.split_once(before).and_then(|(head, rest)| Some((head, rest.rsplit_once("' for ")?.1)));
        if let Some((head, tail)) = quoted {
            return format!("{head}{before}…' for {tail}");
        }
    }
    text.to_owned()
}

/// Whether the database rolled the transaction back only because of others: it may succeed when tried again.
pub(super) fn is_contention(error: &DbErr) -> bool {
    class(error) == Class::Contention
}

/// Whether an error is neither the fault of the data nor of other transactions.
pub(super) fn is_unavailable(error: &DbErr) -> bool {
    class(error) == Class::Unavailable
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Unavailable,
    Contention,
    Conflict,
    Data,
}

/// Only what is certainly the fault of the data is called so: a message that meets a `Data` error is given up, while
/// anything unknown waits for an operator.
fn class(error: &DbErr) -> Class {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error))
        | DbErr::Conn(RuntimeErr::SqlxError(error)) => match &**error {
            sqlx::Error::Database(error) => match error.try_downcast_ref::<MySqlDatabaseError>() {
                Some(error) => class_of_mysql(error),
                None => class_of_sqlite(&**error),
            },
            sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => Class::Data,
            _ => Class::Unavailable,
        },
        DbErr::Type(_) | DbErr::TryIntoErr { .. } | DbErr::Json(_) => Class::Data,
        _ => Class::Unavailable,
    }
}

fn class_of_mysql(error: &MySqlDatabaseError) -> Class {
    match error.number() {
        // Lock wait timeout; deadlock; MariaDB: the row changed since the snapshot was taken.
        1205 | 1213 | 1020 => Class::Contention,
        1022 | 1062 | 1169 | 1586 => Class::Conflict,
        // Null in a NOT NULL column; text that is not of the column's character set, twice; a failed check, twice.
        1048 | 1300 | 1366 | 3819 | 4025 => Class::Data,
        // A packet above `max_allowed_packet`, as the server and as a function report it: a part of the batch may fit.
        1153 | 1301 => Class::Data,
        // 22: data exceptions (too long, out of range, not a date).
        _ if error.code().is_some_and(|state| state.starts_with("22")) => Class::Data,
        _ => Class::Unavailable,
    }
}

fn class_of_sqlite(error: &dyn DatabaseError) -> Class {
    if error.is_unique_violation() {
        return Class::Conflict;
    }
    // The low byte is the primary code, the rest says more.
    let code = error.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or_default() & 0xff;
    match code {
        // BUSY, LOCKED
        5 | 6 => Class::Contention,
        // TOOBIG, CONSTRAINT, MISMATCH
        18..=20 => Class::Data,
        _ => Class::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_has_written_is_not_in_an_error() {
        for (said, kept) in [
            (
                "1366 (HY000): Incorrect string value: '\\xF0\\x9F it's for ' for column 'message' at row 1",
                "1366 (HY000): Incorrect string value: '…' for column 'message' at row 1",
            ),
            (
                "1062 (23000): Duplicate entry 'somebody@mail.example' for key 'user.email'",
                "1062 (23000): Duplicate entry '…' for key 'user.email'",
            ),
            ("Data too long for column 'message' at row 1", "Data too long for column 'message' at row 1"),
        ] {
            assert_eq!(without_values(said), kept);
        }
    }
}
