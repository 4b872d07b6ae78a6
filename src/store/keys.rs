//! Keys of services. Each host has one current pair, and replaced pairs that stay valid until their expiry.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::domain::{Host, HostId};
use crate::store::entity::{old_key, user};
use crate::store::{KeyRepository, StoreError, millis};

/// Maximum number of replaced pairs kept per host, so that frequent rotation does not accumulate rows.
pub const MAX_OLD_PAIRS: usize = 10;

/// An access key and its secret key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// Access key, 22 characters.
    pub access_key: String,
    /// Secret key, 64 hex characters.
    pub secret_key: String,
}

/// Validity of a host's earlier pairs after a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldKeys {
    /// The current pair stays valid until this time; earlier pairs keep their own expiry.
    GoodUntil(DateTime<Utc>),
    /// All earlier pairs become invalid now.
    Revoked,
}

/// Host that an access key belongs to, with the rest of the key pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHolder {
    /// Owner of the key.
    pub host: Arc<Host>,
    /// Secret key that belongs to the access key.
    pub secret_key: String,
    /// Expiry of a replaced pair, which the caller must check. `None` for the current pair.
    pub ends_at: Option<DateTime<Utc>>,
}

impl KeyRepository<'_> {
    /// Returns the holder of an access key, current or replaced, or `None` if the key is unknown. A replaced key may
    /// have expired.
    pub async fn holder(self, access_key: &str) -> Result<Option<KeyHolder>, StoreError> {
        if let Some(host) = self.store.hosts().by_access_key(access_key).await? {
            return Ok(Some(KeyHolder { secret_key: host.secret_key.clone(), host: Arc::new(host), ends_at: None }));
        }
        // This query runs second, so that a pair replaced between the two queries is found.
        let old = self.store.run("keys", || old_key::Entity::find_by_id(access_key).one(&self.store.reader)).await?;
        let Some(old) = old else { return Ok(None) };
        let host = self.store.hosts().get(HostId(old.user_id)).await?;
        Ok(host.map(|host| KeyHolder { host: Arc::new(host), secret_key: old.secret_key, ends_at: Some(old.ends_at) }))
    }

    /// Replaces the key pair of a host and returns the host. Returns `None` if the host does not exist. At most
    /// [`MAX_OLD_PAIRS`] replaced pairs remain.
    pub async fn rotate(
        self,
        host: HostId,
        new: &KeyPair,
        old: OldKeys,
        now: DateTime<Utc>,
    ) -> Result<Option<Host>, StoreError> {
        if !self.store.run("keys", || self.rotate_once(host, new, old, millis(now))).await? {
            return Ok(None);
        }
        self.store.hosts().get(host).await
    }

    async fn rotate_once(self, host: HostId, new: &KeyPair, old: OldKeys, now: DateTime<Utc>) -> Result<bool, DbErr> {
        let tx = self.store.begin().await?;
        let Some(row) = user::Entity::find_by_id(host.0).lock_exclusive().one(&tx).await? else { return Ok(false) };
        // If the operation is retried after its commit, the new pair is already stored.
        if row.access_key != new.access_key {
            user::Entity::update_many()
                .col_expr(user::Column::AccessKey, new.access_key.as_str().into())
                .col_expr(user::Column::SecretKey, new.secret_key.as_str().into())
                .col_expr(user::Column::UpdatedAt, now.into())
                .filter(user::Column::Id.eq(host.0))
                .exec(&tx)
                .await?;
            if let OldKeys::GoodUntil(ends_at) = old {
                let replaced = old_key::Model {
                    access_key: row.access_key,
                    user_id: host.0,
                    secret_key: row.secret_key,
                    ends_at: millis(ends_at),
                };
                old_key::Entity::insert(old_key::ActiveModel::from(replaced)).exec_without_returning(&tx).await?;
            }
        }
        let mut over = old_key::Entity::delete_many().filter(old_key::Column::UserId.eq(host.0));
        if let OldKeys::GoodUntil(_) = old {
            over = over.filter(old_key::Column::EndsAt.lte(now));
        }
        over.exec(&tx).await?;
        delete_surplus(&tx, host).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// Deletes the replaced pairs that expire first, so that at most [`MAX_OLD_PAIRS`] remain.
async fn delete_surplus(tx: &DatabaseTransaction, host: HostId) -> Result<(), DbErr> {
    let newest_first: Vec<String> = old_key::Entity::find()
        .select_only()
        .column(old_key::Column::AccessKey)
        .filter(old_key::Column::UserId.eq(host.0))
        .order_by_desc(old_key::Column::EndsAt)
        .into_tuple()
        .all(tx)
        .await?;
    if let Some(surplus @ [_, ..]) = newest_first.get(MAX_OLD_PAIRS..) {
        let surplus = surplus.iter().map(String::as_str);
        old_key::Entity::delete_many().filter(old_key::Column::AccessKey.is_in(surplus)).exec(tx).await?;
    }
    Ok(())
}
