//! Reference from a host to its profile image. An object in the media storage is in use only while such a reference
//! exists.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, QuerySelect as _};

use crate::domain::HostId;
use crate::store::entity::user;
use crate::store::{HostRepository, StoreError, millis};

/// Result of replacing a host's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSwap {
    /// The new image is set. Contains the previous image, which is no longer referenced.
    Swapped(Option<String>),
    /// The host does not exist.
    NoHost,
}

impl HostRepository<'_> {
    /// Sets or removes a host's image and returns the previous one. Concurrent calls return different previous images.
    ///
    /// # Errors
    /// Returns an error if the database fails. It is then unknown whether the new image is set.
    pub async fn swap_profile_image(
        self,
        id: HostId,
        image: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<ImageSwap, StoreError> {
        let now = millis(now);
        self.store.run("profile_image", || self.swap_profile_image_once(id, image, now)).await
    }

    async fn swap_profile_image_once(
        self,
        id: HostId,
        image: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<ImageSwap, DbErr> {
        let tx = self.store.begin().await?;
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
