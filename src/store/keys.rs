//! Keys of services: each host has one pair, and for a while those that it replaced.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::entity::{old_key, user};
use super::{Store, StoreError, millis};
use crate::domain::{Host, HostId};

/// The most replaced pairs of one host: whoever changes his keys all the time keeps no more rows than this.
pub const MAX_OLD_PAIRS: usize = 10;

/// An access key and the secret key that goes with it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// 22 characters.
    pub access_key: String,
    /// 64 hex characters.
    pub secret_key: String,
}

/// What becomes of the pairs that a host has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldKeys {
    /// The present one goes on until then, those before it until their own ends.
    GoodUntil(DateTime<Utc>),
    /// All end now.
    Revoked,
}

/// Whose service an access key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHolder {
    /// He.
    pub host: Arc<Host>,
    /// What has to come with the access key.
    pub secret_key: String,
    /// When a pair that was replaced ends; whoever asks compares. `None`: it is the present one.
    pub ends_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Whose service an access key names, the present one or one that was replaced, which may have ended.
    pub async fn key_holder(&self, access_key: &str) -> Result<Option<KeyHolder>, StoreError> {
        if let Some(host) = self.host_by_access_key(access_key).await? {
            return Ok(Some(KeyHolder { secret_key: host.secret_key.clone(), host: Arc::new(host), ends_at: None }));
        }
        // Asked second: a pair that was replaced between the two questions is found here.
        let old = self.run(|| old_key::Entity::find_by_id(access_key).one(&self.reader)).await?;
        let Some(old) = old else { return Ok(None) };
        let host = self.host(HostId(old.user_id)).await?;
        Ok(host.map(|host| KeyHolder { host: Arc::new(host), secret_key: old.secret_key, ends_at: Some(old.ends_at) }))
    }

    /// Gives a host a new pair of keys; `None` if there is no such host. Of the replaced ones the newest [`MAX_OLD_PAIRS`] stay
    /// at most.
    pub async fn rotate_keys(
        &self,
        host: HostId,
        new: &KeyPair,
        old: OldKeys,
        now: DateTime<Utc>,
    ) -> Result<Option<Host>, StoreError> {
        if !self.run(|| self.rotate_keys_once(host, new, old, millis(now))).await? {
            return Ok(None);
        }
        self.host(host).await
    }

    async fn rotate_keys_once(
        &self,
        host: HostId,
        new: &KeyPair,
        old: OldKeys,
        now: DateTime<Utc>,
    ) -> Result<bool, DbErr> {
        let tx = self.begin().await?;
        let Some(row) = user::Entity::find_by_id(host.0).lock_exclusive().one(&tx).await? else { return Ok(false) };
        // A repetition has nothing to replace.
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

/// What ends first goes first.
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
