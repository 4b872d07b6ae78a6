//! How a database's schema stands to this release.

use std::collections::HashSet;

use sea_orm_migration::prelude::{IntoSchemaManagerConnection, MigratorTrait as _, SchemaManager};
use sea_orm_migration::sea_orm::{DatabaseConnection, DbErr, EntityTrait as _};
use sea_orm_migration::seaql_migrations;

use crate::Migrator;
use crate::lock::SchemaLock;

/// The changes of this release, and those that another one has made.
///
/// A release works with the schema of the next one: while nodes are replaced, or after the next one was given up, its own nodes
/// start and go on where changes are applied that they do not know.
#[derive(Clone, Debug)]
pub struct SchemaState {
    /// Each change of this release by its name, oldest first, and whether it is applied.
    pub changes: Vec<(String, bool)>,
    /// What is applied and not of this release, oldest first.
    pub foreign: Vec<String>,
}

impl SchemaState {
    /// Of a database that may be empty. Changes nothing.
    ///
    /// # Errors
    /// If the database does not answer.
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

    /// How many changes are still to be applied.
    pub fn pending(&self) -> usize {
        self.changes.iter().filter(|(_, is_applied)| !is_applied).count()
    }

    /// Applies what is pending, all of it or so many changes. Processes that do so at the same time wait for each other: the first
    /// one applies, the others find nothing pending. If nothing is pending, no lock is taken and nothing is written.
    ///
    /// # Errors
    /// If the database refuses a change, or some are pending although another release has applied its own: whichever of the
    /// two is right must be installed.
    pub async fn up(connection: &DatabaseConnection, steps: Option<u32>) -> Result<(), DbErr> {
        if !Self::read(connection).await?.has_work()? {
            return Ok(());
        }
        let lock = SchemaLock::acquire(connection).await?;
        let outcome = Self::up_on(&lock, steps).await;
        lock.release(outcome).await
    }

    /// The state of before the lock may be out of date.
    async fn up_on(lock: &SchemaLock, steps: Option<u32>) -> Result<(), DbErr> {
        if Self::read_on(lock.connection()).await?.has_work()? {
            Migrator::up(lock.connection(), steps).await?;
        }
        Ok(())
    }

    /// Whether there are changes to apply and this release may apply them.
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

    /// Takes back the newest changes, under the same lock as [`up`](Self::up).
    ///
    /// # Errors
    /// If the database refuses, or another release's changes are applied: only that one knows how to take them back.
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
