//! How a database's schema stands to this release.

use std::collections::HashSet;

use sea_orm_migration::prelude::{MigratorTrait as _, SchemaManager};
use sea_orm_migration::sea_orm::{DatabaseConnection, DbErr, EntityTrait as _};
use sea_orm_migration::seaql_migrations;

use crate::Migrator;

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
        let is_new = !SchemaManager::new(connection).has_table("seaql_migrations").await?;
        let applied = if is_new { Vec::new() } else { seaql_migrations::Entity::find().all(connection).await? };
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

    /// Applies what is pending, all of it or so many changes.
    ///
    /// # Errors
    /// If the database refuses a change, or some are pending although another release has applied its own: whichever of the
    /// two is right must be installed.
    pub async fn up(connection: &DatabaseConnection, steps: Option<u32>) -> Result<(), DbErr> {
        let state = Self::read(connection).await?;
        match (state.pending(), state.foreign.as_slice()) {
            (0, _) => Ok(()),
            (_, []) => Migrator::up(connection, steps).await,
            (pending, foreign) => Err(DbErr::Custom(format!(
                "{pending} changes of this release are pending, and another release has applied {}",
                foreign.join(", ")
            ))),
        }
    }

    /// Takes back the newest changes.
    ///
    /// # Errors
    /// If the database refuses, or another release's changes are applied: only that one knows how to take them back.
    pub async fn down(connection: &DatabaseConnection, steps: u32) -> Result<(), DbErr> {
        let state = Self::read(connection).await?;
        match state.foreign.as_slice() {
            [] => Migrator::down(connection, Some(steps)).await,
            foreign => Err(DbErr::Custom(format!("another release must first take back {}", foreign.join(", ")))),
        }
    }
}
