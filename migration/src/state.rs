//! State of a database's schema relative to this release.

use std::collections::HashSet;

use sea_orm_migration::prelude::{IntoSchemaManagerConnection, MigratorTrait as _, SchemaManager};
use sea_orm_migration::sea_orm::{DatabaseConnection, DbErr, EntityTrait as _};
use sea_orm_migration::seaql_migrations;

use crate::Migrator;
use crate::lock::SchemaLock;

/// Changes of this release, and changes applied by another release.
///
/// A release also works with the schema of the next release. A node of this release therefore runs on a schema with
/// changes that this release does not contain, during a rolling update or after a rollback.
#[derive(Clone, Debug)]
pub struct SchemaState {
    /// Name of each change of this release, oldest first, and whether it is applied.
    pub changes: Vec<(String, bool)>,
    /// Names of applied changes that this release does not contain, oldest first.
    pub foreign: Vec<String>,
}

impl SchemaState {
    /// Reads the state of a database without changing it. The database may be empty.
    ///
    /// # Errors
    /// Returns an error if the database cannot be read.
    pub async fn read(connection: &DatabaseConnection) -> Result<Self, DbErr> {
        Self::read_on(connection).await
    }

    async fn read_on<'c>(connection: impl IntoSchemaManagerConnection<'c>) -> Result<Self, DbErr> {
        let manager = SchemaManager::new(connection);
        let is_new = !manager.has_table("seaql_migrations").await?;
        let applied =
            if is_new { Vec::new() } else { seaql_migrations::Entity::find().all(manager.get_connection()).await? };
        let mut applied: HashSet<String> = applied.into_iter().map(|row| row.version).collect();
        let changes = Migrator::migrations().into_iter().map(|change| {
            let is_applied = applied.remove(change.name());
            (change.name().to_owned(), is_applied)
        });
        let changes = changes.collect();
        let mut foreign: Vec<String> = applied.into_iter().collect();
        foreign.sort();
        Ok(Self { changes, foreign })
    }

    /// Returns the number of changes that are not applied yet.
    pub fn pending(&self) -> usize {
        self.changes.iter().filter(|(_, is_applied)| !is_applied).count()
    }

    /// Applies the pending changes, at most `steps` of them. Concurrent processes are serialised: each one applies only
    /// changes that are still pending when it holds the lock. If nothing is pending, this function takes no lock and
    /// writes nothing.
    ///
    /// # Errors
    /// Returns an error if the database rejects a change. Also returns an error if changes are pending and another
    /// release has applied its own changes: the operator must then install the release that matches the schema.
    pub async fn up(connection: &DatabaseConnection, steps: Option<u32>) -> Result<(), DbErr> {
        if !Self::read(connection).await?.has_work()? {
            return Ok(());
        }
        let lock = SchemaLock::acquire(connection).await?;
        let outcome = Self::up_on(&lock, steps).await;
        lock.release(outcome).await
    }

    /// Applies pending changes while holding the lock. Reads the state again first, because another process may have
    /// changed it.
    async fn up_on(lock: &SchemaLock, steps: Option<u32>) -> Result<(), DbErr> {
        if Self::read_on(lock.connection()).await?.has_work()? {
            Migrator::up(lock.connection(), steps).await?;
        }
        Ok(())
    }

    /// Returns whether changes are pending, or an error if this release must not apply them.
    fn has_work(&self) -> Result<bool, DbErr> {
        match (self.pending(), self.foreign.as_slice()) {
            (0, _) => Ok(false),
            (_, []) => Ok(true),
            (pending, foreign) => Err(DbErr::Custom(format!(
                "{pending} changes of this release are pending, and another release has applied {}",
                foreign.join(", ")
            ))),
        }
    }

    /// Reverts the newest `steps` changes while holding the lock that [`up`](Self::up) takes.
    ///
    /// # Errors
    /// Returns an error if the database rejects a change, or if changes of another release are applied. Only that
    /// release can revert them.
    pub async fn down(connection: &DatabaseConnection, steps: u32) -> Result<(), DbErr> {
        let lock = SchemaLock::acquire(connection).await?;
        let outcome = Self::down_on(&lock, steps).await;
        lock.release(outcome).await
    }

    async fn down_on(lock: &SchemaLock, steps: u32) -> Result<(), DbErr> {
        let state = Self::read_on(lock.connection()).await?;
        match state.foreign.as_slice() {
            [] => Migrator::down(lock.connection(), Some(steps)).await,
            foreign => Err(DbErr::Custom(format!("another release must first take back {}", foreign.join(", ")))),
        }
    }
}
