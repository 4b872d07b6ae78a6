//! Consent of guests' mailboxes to e-mail from a host (SPEC 8). Consent is requested once. The owner of the mailbox
//! gives and withdraws it.
//!
//! The row of a host and a mailbox is locked while its consent is changed. If the lock of a room is needed as well, the
//! room is locked first.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect};

use crate::domain::HostId;
use crate::store::entity::{mail_consent, notification};
use crate::store::mails::delete_mails_to;
use crate::store::{ConsentRepository, StoreError, millis};

/// Maximum number of requests to one mailbox within [`MONTH`], over all hosts.
const MAX_REQUESTS: usize = 5;

const MONTH: TimeDelta = TimeDelta::days(30);

/// A host and a guest's mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentPair {
    /// Host that sends the e-mail.
    pub host: HostId,
    /// The [key](migration::mailbox_key) of the mailbox.
    pub mailbox: String,
}

/// Consent of a mailbox to e-mail from a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consent {
    /// Consent was given and not withdrawn.
    Given,
    /// Consent must be requested. The request has already been recorded.
    Ask,
    /// Consent was requested but not given, or a limit prevents a request now.
    Missing,
    /// Consent was withdrawn.
    Withdrawn,
}

/// Locks the row of a pair and returns its consent. If the result is `Ask`, the request has been recorded.
pub(super) async fn consent(
    tx: &DatabaseTransaction,
    pair: &ConsentPair,
    now: DateTime<Utc>,
) -> Result<Consent, DbErr> {
    use mail_consent::Column::{AskedAt, Mailbox};
    if let Some(row) = locked(tx, pair).await? {
        return Ok(match (row.granted_at, row.withdrawn_at) {
            (_, Some(_)) => Consent::Withdrawn,
            (Some(_), None) => Consent::Given,
            (None, None) => Consent::Missing,
        });
    }
    // The row is inserted before the requests are counted, so that two hosts that request consent concurrently count
    // each other's request.
    mail_consent::Entity::insert(row(pair, Some(now), None, None)).exec_without_returning(tx).await?;
    let asked: Vec<i64> = mail_consent::Entity::find()
        .select_only()
        .column(mail_consent::Column::HostId)
        .filter(Mailbox.eq(pair.mailbox.as_str()))
        .filter(AskedAt.gt(now - MONTH))
        .lock_exclusive()
        .into_tuple()
        .all(tx)
        .await?;
    if asked.len() <= MAX_REQUESTS {
        return Ok(Consent::Ask);
    }
    mail_consent::Entity::delete_by_id((pair.host.0, pair.mailbox.clone())).exec(tx).await?;
    Ok(Consent::Missing)
}

async fn locked(tx: &DatabaseTransaction, pair: &ConsentPair) -> Result<Option<mail_consent::Model>, DbErr> {
    mail_consent::Entity::find_by_id((pair.host.0, pair.mailbox.clone())).lock_exclusive().one(tx).await
}

fn row(
    pair: &ConsentPair,
    asked_at: Option<DateTime<Utc>>,
    granted_at: Option<DateTime<Utc>>,
    withdrawn_at: Option<DateTime<Utc>>,
) -> mail_consent::ActiveModel {
    mail_consent::ActiveModel {
        host_id: Set(pair.host.0),
        mailbox: Set(pair.mailbox.clone()),
        asked_at: Set(asked_at),
        granted_at: Set(granted_at),
        withdrawn_at: Set(withdrawn_at),
    }
}

impl ConsentRepository<'_> {
    /// Records consent, even after a withdrawal. The notifications that wait for it become due. Returns the number of
    /// these notifications. Idempotent.
    pub async fn grant(self, pair: &ConsentPair, now: DateTime<Utc>) -> Result<u64, StoreError> {
        self.store.run("consents", || self.grant_once(pair, millis(now))).await
    }

    async fn grant_once(self, pair: &ConsentPair, now: DateTime<Utc>) -> Result<u64, DbErr> {
        use mail_consent::Column::{GrantedAt, HostId, Mailbox, WithdrawnAt};
        let tx = self.store.begin().await?;
        let again = OnConflict::columns([HostId, Mailbox]).update_columns([GrantedAt, WithdrawnAt]).to_owned();
        mail_consent::Entity::insert(row(pair, None, Some(now), None))
            .on_conflict(again)
            .exec_without_returning(&tx)
            .await?;
        // The row of the pair is locked, so this update misses no notification: a concurrent decision about a room has
        // either committed already or will read this consent.
        let released = notification::Entity::update_many()
            .col_expr(notification::Column::DueAt, now.into())
            .col_expr(notification::Column::AwaitsConsent, Option::<String>::None.into())
            .filter(notification::Column::AwaitsConsent.eq(pair.mailbox.as_str()))
            .filter(notification::Column::HostId.eq(pair.host.0))
            .exec(&tx)
            .await?;
        tx.commit().await?;
        Ok(released.rows_affected)
    }

    /// Withdraws consent and deletes the waiting e-mails of the pair. Idempotent.
    pub async fn withdraw(self, pair: &ConsentPair, now: DateTime<Utc>) -> Result<(), StoreError> {
        use mail_consent::Column::{HostId, Mailbox, WithdrawnAt};
        let now = millis(now);
        self.store
            .run("consents", || async {
                let tx = self.store.begin().await?;
                let again = OnConflict::columns([HostId, Mailbox]).update_columns([WithdrawnAt]).to_owned();
                mail_consent::Entity::insert(row(pair, None, None, Some(now)))
                    .on_conflict(again)
                    .exec_without_returning(&tx)
                    .await?;
                delete_mails_to(&tx, pair.host, &pair.mailbox).await?;
                tx.commit().await
            })
            .await
    }
}
