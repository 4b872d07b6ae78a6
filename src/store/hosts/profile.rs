//! Public profile of a host.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::domain::HostId;
use crate::store::entity::user;
use crate::store::{HostRepository, StoreError, millis};

/// Changes to a host's profile. `None` leaves a field unchanged. The caller checks the lengths (SPEC 2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileChange {
    /// Name that guests see.
    pub profile_name: Option<String>,
    /// Description that guests see.
    pub description: Option<String>,
    /// Name of the service.
    pub service_name: Option<String>,
    /// Description of the service.
    pub service_expl: Option<String>,
    /// Normalised domains, separated by commas; `Some(None)` removes them.
    pub service_domain: Option<Option<String>>,
}

impl HostRepository<'_> {
    /// Updates the profile of a host.
    pub async fn change_profile(
        self,
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
        self.store.run("profiles", || update.clone().exec(&self.store.writer)).await?;
        Ok(())
    }
}
