//! Words that migrations share: how a dialect spells a column.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

/// How a dialect spells a column.
#[derive(Clone, Copy)]
pub(crate) struct Words {
    mysql: bool,
}

impl Words {
    /// Of the database that is migrated.
    pub(crate) fn of(manager: &SchemaManager<'_>) -> Self {
        Self { mysql: manager.get_database_backend() == DbBackend::MySql }
    }

    /// A table whose text is compared byte by byte unless a column says otherwise. The collation is named because
    /// the servers' defaults differ.
    pub(crate) fn table(self, name: &'static str) -> TableCreateStatement {
        let mut table = Table::create();
        table.table(name).if_not_exists();
        if self.mysql {
            table.engine("InnoDB").character_set("utf8mb4").collate("utf8mb4_bin");
        }
        table
    }

    /// An instant: UTC, whole milliseconds. SQLite keeps text that sorts as time does.
    pub(crate) fn instant(self, name: &'static str) -> ColumnDef {
        let mut column = ColumnDef::new(name);
        if self.mysql {
            column.custom("datetime(3)");
        } else {
            column.text();
        }
        column
    }

    /// Text for people, of at most `len` characters, or long.
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

/// Ids are never given twice: a deleted room's late messages must not turn up in another room.
pub(crate) fn row_id() -> ColumnDef {
    ColumnDef::new("id").big_integer().not_null().auto_increment().primary_key().take()
}

/// An identifier of 22 characters.
pub(crate) fn token22(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).char_len(22).not_null().take()
}
