//! Which image is a host's: here alone is decided which object is referred to.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, QuerySelect as _};

use super::entity::user;
use super::{Store, StoreError, millis};
use crate::domain::HostId;

/// What became of a host's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSwap {
    /// It is the new one now; this was the one before, which nobody refers to any more.
    Swapped(Option<String>),
    /// There is no such host.
    NoHost,
}

impl Store {
    /// Gives a host another image, or none, and tells which one he had: of two calls at once each is told another.
    ///
    /// # Errors
    /// It may be the new one or not.
    pub async fn swap_profile_image(
        &self,
        id: HostId,
        image: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<ImageSwap, StoreError> {
        let now = millis(now);
        self.run(|| self.swap_profile_image_once(id, image, now)).await
    }

    async fn swap_profile_image_once(
        &self,
        id: HostId,
        image: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<ImageSwap, DbErr> {
        let tx = self.begin().await?;
        let Some(row) = user::Entity::find_by_id(id.0).lock_exclusive().one(&tx).await? else {
            return Ok(ImageSwap::NoHost);
        };
        if row.profile_image.as_deref() != image {
            user::Entity::update_many()
                .col_expr(user::Column::ProfileImage, Expr::value(image.map(str::to_owned)))
                .col_expr(user::Column::UpdatedAt, Expr::value(now))
                .filter(user::Column::Id.eq(id.0))
                .exec(&tx)
                .await?;
        }
        tx.commit().await?;
        Ok(ImageSwap::Swapped(row.profile_image))
    }
}
