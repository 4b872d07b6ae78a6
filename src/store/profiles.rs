//! What a host tells of himself.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::entity::user;
use super::{Store, StoreError, millis};
use crate::domain::HostId;

/// What changes of a host; `None` stays. Lengths are the caller's to check (SPEC 2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileChange {
    /// What guests see him called.
    pub profile_name: Option<String>,
    /// A few words about him.
    pub description: Option<String>,
    /// What the service is called.
    pub service_name: Option<String>,
    /// What the service is.
    pub service_expl: Option<String>,
    /// Normalised domains, or none.
    pub service_domain: Option<Option<String>>,
}

impl Store {
    /// Changes what a host tells of himself.
    pub async fn change_profile(
        &self,
        id: HostId,
        change: &ProfileChange,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut update = user::Entity::update_many().col_expr(user::Column::UpdatedAt, millis(now).into());
        for (column, text) in [
            (user::Column::ProfileName, &change.profile_name),
            (user::Column::Description, &change.description),
            (user::Column::ServiceName, &change.service_name),
            (user::Column::ServiceExpl, &change.service_expl),
        ] {
            if let Some(text) = text {
                update = update.col_expr(column, text.clone().into());
            }
        }
        if let Some(domain) = &change.service_domain {
            update = update.col_expr(user::Column::ServiceDomain, domain.clone().into());
        }
        let update = update.filter(user::Column::Id.eq(id.0));
        self.run(|| update.clone().exec(&self.writer)).await?;
        Ok(())
    }
}
