//! Hosts and their settings.

pub(super) mod activation;
pub(super) mod profile;
pub(super) mod profile_image;

use chrono::{DateTime, Utc};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::IntoCondition;
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter};

use crate::domain::{Host, HostConfig, HostId, HostUuid};
use crate::store::entity::{user, user_config};
use crate::store::{HostRepository, StoreError, millis, parse_column};

/// Values of a new host. The caller checks the lengths (SPEC 2).
#[derive(Clone, Debug)]
pub struct NewHost {
    /// E-mail address for login.
    pub email: String,
    /// Public id of the host.
    pub uuid: HostUuid,
    /// Argon2id hash of the password, as a PHC string.
    pub password_hash: String,
    /// Access key, 22 characters.
    pub access_key: String,
    /// Secret key, 64 hex characters.
    pub secret_key: String,
    /// Name of the service; also the initial `profile_name`.
    pub service_name: String,
    /// Description of the service.
    pub service_expl: String,
    /// Normalised domains, separated by commas.
    pub service_domain: Option<String>,
}

/// Account and password hashes that a login is checked against.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Host that owns the account.
    pub host: Host,
    /// Argon2id hash as a PHC string, or the hash of an imported account in the format of its previous system.
    pub password_hash: String,
    /// Temporary password that is valid in addition to the permanent one.
    pub temporary: Option<TemporaryPassword>,
}

/// Temporary password that was sent by e-mail (SPEC 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemporaryPassword {
    /// SHA-256 of the password, in hex. The password is random, so a slow hash is not needed.
    pub hash: String,
    /// Expiry time of the password.
    pub until: DateTime<Utc>,
}

impl HostRepository<'_> {
    /// Creates a host with default settings.
    ///
    /// # Errors
    /// Returns `Conflict` if the address is taken. Addresses are compared case-insensitively.
    pub async fn create(self, new: NewHost, now: DateTime<Utc>) -> Result<Host, StoreError> {
        let (new, now) = (&new, millis(now));
        self.store
            .run("hosts", || async {
                let tx = self.store.begin().await?;
                let host = insert_host(&tx, new, now).await?;
                tx.commit().await?;
                Ok(host)
            })
            .await
    }

    /// Returns a host by id, or `None` if it does not exist. Includes deactivated hosts.
    pub async fn get(self, id: HostId) -> Result<Option<Host>, StoreError> {
        Ok(self.user_where(&user::Column::Id.eq(id.0)).await?.map(|found| found.host))
    }

    /// Returns a host by public id, or `None` if it does not exist. Includes deactivated hosts.
    pub async fn by_uuid(self, uuid: HostUuid) -> Result<Option<Host>, StoreError> {
        Ok(self.user_where(&user::Column::Uuid.eq(uuid.as_str())).await?.map(|found| found.host))
    }

    /// Returns a host by the current access key of its service, or `None` if no host has it. Includes deactivated
    /// hosts.
    pub async fn by_access_key(self, key: &str) -> Result<Option<Host>, StoreError> {
        Ok(self.user_where(&user::Column::AccessKey.eq(key)).await?.map(|found| found.host))
    }

    /// Returns a host and its password hashes by e-mail address, or `None` if there is no such host. The comparison is
    /// case-insensitive. Includes deactivated hosts.
    pub async fn credentials(self, email: &str) -> Result<Option<Credentials>, StoreError> {
        let key = email_key(email);
        let found = self.user_where(&user::Column::EmailKey.eq(key.as_str())).await?;
        // MySQL ignores trailing spaces in comparisons. Such a match is rejected, because rate limits treat an address
        // with trailing spaces as another account.
        Ok(found.filter(|found| email_key(&found.host.email) == key))
    }

    /// Returns a host and its password hashes by id, or `None` if there is no such host. Includes deactivated hosts.
    pub async fn credentials_of(self, id: HostId) -> Result<Option<Credentials>, StoreError> {
        self.user_where(&user::Column::Id.eq(id.0)).await
    }

    async fn user_where(self, is_wanted: &(impl IntoCondition + Clone)) -> Result<Option<Credentials>, StoreError> {
        let row = self
            .store
            .run("hosts", || {
                user::Entity::find()
                    .find_also_related(user_config::Entity)
                    .filter(is_wanted.clone().into_condition())
                    .one(&self.store.reader)
            })
            .await?;
        let Some((row, config)) = row else { return Ok(None) };
        let password_hash = row.password_hash.clone();
        let temporary =
            row.temporary_hash.clone().zip(row.temporary_until).map(|(hash, until)| TemporaryPassword { hash, until });
        Ok(Some(Credentials { host: to_host(row, config)?, password_hash, temporary }))
    }

    /// Sets the domains of a host's service, normalised and separated by commas.
    pub async fn set_service_domain(self, id: HostId, domains: &str) -> Result<(), StoreError> {
        self.store
            .run("hosts", || {
                user::Entity::update_many()
                    .col_expr(user::Column::ServiceDomain, domains.into())
                    .filter(user::Column::Id.eq(id.0))
                    .exec(&self.store.writer)
            })
            .await?;
        Ok(())
    }

    /// Replaces the settings of a host.
    pub async fn set_config(self, id: HostId, config: HostConfig) -> Result<(), StoreError> {
        self.store
            .run("hosts", || {
                user_config::Entity::update_many()
                    .col_expr(user_config::Column::UseOnlineStatus, config.use_online_status.into())
                    .col_expr(user_config::Column::EmailNotifications, config.email_notifications.into())
                    .filter(user_config::Column::UserId.eq(id.0))
                    .exec(&self.store.writer)
            })
            .await?;
        Ok(())
    }
}

/// Inserts a host with default settings.
pub(super) async fn insert_host(tx: &DatabaseTransaction, new: &NewHost, now: DateTime<Utc>) -> Result<Host, DbErr> {
    let row = user::ActiveModel {
        id: NotSet,
        email: Set(new.email.clone()),
        email_key: Set(email_key(&new.email)),
        password_hash: Set(new.password_hash.clone()),
        uuid: Set(new.uuid.to_string()),
        profile_name: Set(new.service_name.clone()),
        description: Set(String::new()),
        access_key: Set(new.access_key.clone()),
        secret_key: Set(new.secret_key.clone()),
        service_name: Set(new.service_name.clone()),
        service_expl: Set(new.service_expl.clone()),
        service_domain: Set(new.service_domain.clone()),
        profile_image: Set(None),
        is_deleted: Set(false),
        deleted_at: Set(None),
        created_at: Set(now),
        updated_at: Set(now),
        temporary_hash: Set(None),
        temporary_until: Set(None),
        disabled_at: Set(None),
    };
    let id = user::Entity::insert(row).exec(tx).await?.last_insert_id;
    let config = user_config::Model { user_id: id, use_online_status: true, email_notifications: true };
    user_config::Entity::insert(user_config::ActiveModel::from(config.clone())).exec_without_returning(tx).await?;
    Ok(Host {
        id: HostId(id),
        email: new.email.clone(),
        uuid: new.uuid,
        profile_name: new.service_name.clone(),
        description: String::new(),
        access_key: new.access_key.clone(),
        secret_key: new.secret_key.clone(),
        service_name: new.service_name.clone(),
        service_expl: new.service_expl.clone(),
        service_domain: new.service_domain.clone(),
        profile_image: None,
        is_deleted: false,
        deleted_at: None,
        created_at: now,
        updated_at: now,
        config: to_config(Some(config)),
    })
}

/// Returns the key of an e-mail address: the address in lower case.
pub(crate) fn email_key(email: &str) -> String {
    email.to_lowercase()
}

fn to_config(row: Option<user_config::Model>) -> HostConfig {
    HostConfig {
        use_online_status: row.as_ref().is_none_or(|row| row.use_online_status),
        email_notifications: row.is_none_or(|row| row.email_notifications),
    }
}

pub(super) fn to_host(row: user::Model, config: Option<user_config::Model>) -> Result<Host, DbErr> {
    Ok(Host {
        id: HostId(row.id),
        email: row.email,
        uuid: parse_column("user.uuid", &row.uuid)?,
        profile_name: row.profile_name,
        description: row.description,
        access_key: row.access_key,
        secret_key: row.secret_key,
        service_name: row.service_name,
        service_expl: row.service_expl,
        service_domain: row.service_domain,
        profile_image: row.profile_image,
        is_deleted: row.is_deleted,
        deleted_at: row.deleted_at,
        created_at: row.created_at,
        updated_at: row.updated_at,
        config: to_config(config),
    })
}
