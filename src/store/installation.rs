//! Identity of the installation that owns this database: id, mode and generation.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DbErr, EntityTrait, ExprTrait, QueryFilter, QuerySelect, Set, SqlErr};

use crate::domain::InstallationId;
use crate::store::entity::{chatroom, installation};
use crate::store::{InstallationRepository, StoreError, from_column, millis, parse_column, to_column};

/// Key of the only row.
const ROW: i32 = 1;

/// Mode of the installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallationMode {
    /// Several nodes, which share a Redis.
    Cluster,
    /// A single-node server.
    Single,
}

impl InstallationMode {
    /// Returns the name of the mode in the column and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Single => "single",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Cluster, Self::Single].into_iter().find(|mode| mode.as_str() == word)
    }
}

/// Record of the installation in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Random id, created once.
    pub id: InstallationId,
    /// Mode of the installation.
    pub mode: InstallationMode,
    /// Generation of the data, which the leader increments. After a restore of this database to an earlier state, this
    /// generation is lower than the one in Redis.
    pub generation: u64,
}

impl InstallationRepository<'_> {
    /// Returns the installation, or `None` if the database has no record of it.
    pub async fn get(self) -> Result<Option<Installation>, StoreError> {
        let row =
            self.store.run("installation", || installation::Entity::find_by_id(ROW).one(&self.store.writer)).await?;
        Ok(row.map(to_installation).transpose()?)
    }

    /// Returns the installation. If the database has no record of it, creates one with the id `candidate`. The new
    /// record contains `mode`, unless a cluster of an earlier release has used the database. In that case, it contains
    /// [`InstallationMode::Cluster`].
    pub async fn ensure(
        self,
        candidate: InstallationId,
        mode: InstallationMode,
        now: DateTime<Utc>,
    ) -> Result<Installation, StoreError> {
        if let Some(known) = self.get().await? {
            return Ok(known);
        }
        let mode = if self.store.run("installation", || self.was_served_by_a_cluster()).await? {
            InstallationMode::Cluster
        } else {
            mode
        };
        let row = installation::ActiveModel {
            id: Set(ROW),
            installation_id: Set(candidate.to_string()),
            mode: Set(mode.as_str().to_owned()),
            generation: Set(0),
            created_at: Set(millis(now)),
        };
        let insert = || async {
            match installation::Entity::insert(row.clone()).exec_without_returning(&self.store.writer).await {
                // Another node inserted the row first.
                Err(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => Ok(()),
                inserted => inserted.map(|_| ()),
            }
        };
        self.store.run("installation", insert).await?;
        let made = self.get().await?;
        made.ok_or_else(|| StoreError::Unavailable("the installation row was deleted concurrently".into()))
    }

    /// Returns whether a cluster has used the database. Only the broker of a cluster records an epoch in the row of a
    /// room.
    async fn was_served_by_a_cluster(self) -> Result<bool, DbErr> {
        let found = chatroom::Entity::find()
            .select_only()
            .column(chatroom::Column::Id)
            .filter(chatroom::Column::LastEpoch.is_not_null())
            .limit(1)
            .into_tuple::<i64>()
            .one(&self.store.reader)
            .await?;
        Ok(found.is_some())
    }

    /// Sets the mode of the installation.
    pub async fn set_mode(self, mode: InstallationMode) -> Result<(), StoreError> {
        self.store
            .run("installation", || {
                installation::Entity::update_many()
                    .col_expr(installation::Column::Mode, mode.as_str().into())
                    .filter(installation::Column::Id.eq(ROW))
                    .exec(&self.store.writer)
            })
            .await?;
        Ok(())
    }

    /// Raises the generation to `generation`. Has no effect if the stored generation is higher.
    pub async fn raise_generation(self, generation: u64) -> Result<(), StoreError> {
        let generation = to_column(generation);
        self.store
            .run("installation", || {
                installation::Entity::update_many()
                    .col_expr(installation::Column::Generation, generation.into())
                    .filter(installation::Column::Id.eq(ROW))
                    .filter(Expr::col(installation::Column::Generation).lt(generation))
                    .exec(&self.store.writer)
            })
            .await?;
        Ok(())
    }
}

fn to_installation(row: installation::Model) -> Result<Installation, DbErr> {
    Ok(Installation {
        id: parse_column("installation.installation_id", &row.installation_id)?,
        mode: InstallationMode::parse(&row.mode)
            .ok_or_else(|| DbErr::Type("installation.mode holds an unknown word".to_owned()))?,
        generation: from_column(row.generation),
    })
}
