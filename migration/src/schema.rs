//! Column and table definitions shared by migrations, per dialect.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

/// Builder of tables and columns for one dialect.
#[derive(Clone, Copy)]
pub(crate) struct ColumnBuilder {
    mysql: bool,
}

impl ColumnBuilder {
    /// Creates a builder for the database that is migrated.
    pub(crate) fn of(manager: &SchemaManager<'_>) -> Self {
        Self { mysql: manager.get_database_backend() == DbBackend::MySql }
    }

    /// Starts the definition of a table whose text columns are compared byte by byte by default. The collation is
    /// explicit because the defaults of servers differ.
    pub(crate) fn table(self, name: &'static str) -> TableCreateStatement {
        let mut table = Table::create();
        table.table(name).if_not_exists();
        if self.mysql {
            table.engine("InnoDB").character_set("utf8mb4").collate("utf8mb4_bin");
        }
        table
    }

    /// Returns a column for a time in UTC, in whole milliseconds. On SQLite, it contains text that sorts
    /// chronologically.
    pub(crate) fn instant(self, name: &'static str) -> ColumnDef {
        let mut column = ColumnDef::new(name);
        if self.mysql {
            column.custom("datetime(3)");
        } else {
            column.text();
        }
        column
    }

    /// Returns a column for human-readable text of at most `len` characters. `None` means unlimited.
    pub(crate) fn prose(self, name: &'static str, len: Option<u32>) -> ColumnDef {
        let mut column = ColumnDef::new(name);
        match len {
            Some(len) => column.string_len(len),
            None => column.text(),
        };
        if self.mysql {
            column.extra("COLLATE utf8mb4_unicode_ci");
        }
        column
    }
}

pub(crate) fn id(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().take()
}

pub(crate) fn number(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().default(0).take()
}

/// Returns a primary key column whose values are never reused. Late messages of a deleted room therefore cannot appear
/// in another room.
pub(crate) fn row_id() -> ColumnDef {
    ColumnDef::new("id").big_integer().not_null().auto_increment().primary_key().take()
}

/// Returns a column for an identifier of 22 characters.
pub(crate) fn token22(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).char_len(22).not_null().take()
}
