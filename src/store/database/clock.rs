//! Clock of the database server.

use std::time::Instant;

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, Query};
use sea_orm::{ConnectionTrait as _, DbErr};

use crate::domain::clock::Reading;
use crate::store::{Dialect, Store, StoreError};

impl Store {
    /// Reads the server's clock. Returns `None` for SQLite, which uses the clock of this machine.
    pub async fn read_clock(&self) -> Result<Option<Reading>, StoreError> {
        match self.dialect {
            Dialect::Sqlite => Ok(None),
            Dialect::MySql => self.run("time", || self.read_clock_once()).await.map(Some),
        }
    }

    async fn read_clock_once(&self) -> Result<Reading, DbErr> {
        // sea-query has no function for `UTC_TIMESTAMP`.
        let query = Query::select().expr_as(Expr::cust("UTC_TIMESTAMP(6)"), "shown").to_owned();
        let asked = Instant::now();
        let row = self.reader.query_one(&query).await?;
        let answered = Instant::now();
        let row = row.ok_or_else(|| DbErr::RecordNotFound("UTC_TIMESTAMP".to_owned()))?;
        let shown: DateTime<Utc> = row.try_get("", "shown")?;
        Ok(Reading { shown, asked, answered })
    }
}
