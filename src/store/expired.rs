//! Deletion of expired rows. Queries must check the expiry time, because an expired row may still exist.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::Query;
use sea_orm::{
    ColumnTrait, DbErr, EntityTrait, PaginatorTrait as _, QueryFilter, QueryOrder, QuerySelect, TryGetable, Value,
};

use crate::store::entity::{email_verification, login, mail_departure, mail_outbox, mail_part, old_key, webhook_event};
use crate::store::{ExpiredRepository, StoreError, millis};

/// Kind of row that expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiringRows {
    /// A login, revoked or not.
    Login,
    /// The confirmation code of an e-mail address.
    Verification,
    /// An e-mail that no node has sent before its expiry.
    Mail,
    /// The record of a sent e-mail that no longer counts towards a limit.
    SentMail,
    /// A replaced pair of keys.
    OldKey,
    /// The record of a webhook event that was delivered or has failed.
    Event,
}

impl ExpiredRepository<'_> {
    /// Deletes up to `limit` rows that expired at or before `ended_by`, in the order of their expiry. Returns the
    /// number of deleted rows.
    pub async fn delete(self, what: ExpiringRows, ended_by: DateTime<Utc>, limit: u64) -> Result<u64, StoreError> {
        use {email_verification as verification, mail_outbox as mail};
        let by = millis(ended_by);
        self.store
            .run("expired", || async {
                match what {
                    ExpiringRows::Login => {
                        self.delete_rows::<login::Entity, String>(
                            login::Column::Sid,
                            login::Column::ExpiresAt,
                            by,
                            limit,
                        )
                        .await
                    }
                    ExpiringRows::Verification => {
                        let (key, end) = (verification::Column::Ticket, verification::Column::ExpiresAt);
                        self.delete_rows::<verification::Entity, String>(key, end, by, limit).await
                    }
                    ExpiringRows::Mail => {
                        let deleted = self
                            .delete_rows::<mail::Entity, i64>(mail::Column::Id, mail::Column::ExpiresAt, by, limit)
                            .await?;
                        // Deletes the parts of the deleted e-mails. Only waiting e-mails have parts, so the statement
                        // examines few rows.
                        let waits = Query::select().column(mail::Column::Id).from(mail::Entity).take();
                        let orphans = mail_part::Column::MailId.not_in_subquery(waits);
                        mail_part::Entity::delete_many().filter(orphans).exec(&self.store.writer).await?;
                        Ok(deleted)
                    }
                    ExpiringRows::SentMail => {
                        let (key, end) = (mail_departure::Column::Id, mail_departure::Column::EndsAt);
                        self.delete_rows::<mail_departure::Entity, i64>(key, end, by, limit).await
                    }
                    ExpiringRows::OldKey => {
                        self.delete_rows::<old_key::Entity, String>(
                            old_key::Column::AccessKey,
                            old_key::Column::EndsAt,
                            by,
                            limit,
                        )
                        .await
                    }
                    ExpiringRows::Event => {
                        let (key, end) = (webhook_event::Column::Id, webhook_event::Column::EndsAt);
                        self.delete_rows::<webhook_event::Entity, i64>(key, end, by, limit).await
                    }
                }
            })
            .await
    }

    /// Returns the number of rows that expired at or before `ended_by`.
    pub async fn count(self, what: ExpiringRows, ended_by: DateTime<Utc>) -> Result<u64, StoreError> {
        let by = millis(ended_by);
        self.store
            .run("expired", || async {
                match what {
                    ExpiringRows::Login => self.count_rows::<login::Entity>(login::Column::ExpiresAt, by).await,
                    ExpiringRows::Verification => {
                        self.count_rows::<email_verification::Entity>(email_verification::Column::ExpiresAt, by).await
                    }
                    ExpiringRows::Mail => {
                        self.count_rows::<mail_outbox::Entity>(mail_outbox::Column::ExpiresAt, by).await
                    }
                    ExpiringRows::SentMail => {
                        self.count_rows::<mail_departure::Entity>(mail_departure::Column::EndsAt, by).await
                    }
                    ExpiringRows::OldKey => self.count_rows::<old_key::Entity>(old_key::Column::EndsAt, by).await,
                    ExpiringRows::Event => {
                        self.count_rows::<webhook_event::Entity>(webhook_event::Column::EndsAt, by).await
                    }
                }
            })
            .await
    }

    async fn delete_rows<E: EntityTrait, K: TryGetable + Into<Value>>(
        self,
        key: E::Column,
        end: E::Column,
        by: DateTime<Utc>,
        limit: u64,
    ) -> Result<u64, DbErr> {
        let keys: Vec<K> = E::find()
            .select_only()
            .column(key)
            .filter(end.lte(by))
            .order_by_asc(end)
            .limit(limit)
            .into_tuple()
            .all(&self.store.writer)
            .await?;
        if keys.is_empty() {
            return Ok(0);
        }
        // The condition is repeated, because the expiry of a row may have been extended since the row was selected.
        let deleted = E::delete_many().filter(key.is_in(keys)).filter(end.lte(by)).exec(&self.store.writer).await?;
        Ok(deleted.rows_affected)
    }

    async fn count_rows<E>(self, end: E::Column, by: DateTime<Utc>) -> Result<u64, DbErr>
    where
        E: EntityTrait,
        E::Model: Sync,
    {
        E::find().filter(end.lte(by)).count(&self.store.reader).await
    }
}
