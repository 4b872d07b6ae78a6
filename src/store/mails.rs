//! Outbox of e-mails. An e-mail is written in the transaction that causes it and sent by the node that claims it. It is
//! deleted once a mail server has accepted or permanently rejected it, or it has expired.
//!
//! [`sending`] decides whether an e-mail may be sent.

pub(super) mod mail;
pub(super) mod sending;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, ExprTrait as _, QueryFilter, QueryOrder,
    QuerySelect,
};

use crate::domain::{ChatroomId, HostId};
use crate::store::entity::{mail_consent, mail_outbox, mail_part};
use crate::store::mails::mail::to_due;
use crate::store::{DueMail, MailClass, MailKind};
use crate::store::{MailRepository, StoreError, from_column, mailbox_key, millis};

/// Maximum delay of an e-mail: the period of the limits plus a margin. A later due time was written by a clock that was
/// ahead. The e-mail is then due immediately.
const LATEST_DUE: TimeDelta = TimeDelta::minutes(75);

impl MailRepository<'_> {
    /// Claims due e-mails until the time `again` and returns them. If this node crashes, another node sends them after
    /// `again`. At-most-once e-mails whose sending has [begun](Self::begin_send) are not sent again.
    pub async fn claim_due(
        self,
        most: u64,
        now: DateTime<Utc>,
        again: DateTime<Utc>,
    ) -> Result<Vec<DueMail>, StoreError> {
        let (now, again) = (millis(now), millis(again));
        self.store.run("outbox", || self.claim_due_once(most, now, again)).await
    }

    async fn claim_due_once(self, most: u64, now: DateTime<Utc>, again: DateTime<Utc>) -> Result<Vec<DueMail>, DbErr> {
        let due = mail_outbox::Entity::find()
            .filter(
                Condition::any().add(mail_outbox::Column::DueAt.lte(now)).add(
                    // Excludes at-most-once e-mails whose sending has begun, because their due time is their expiry.
                    Condition::all()
                        .add(mail_outbox::Column::DueAt.gt(now + LATEST_DUE))
                        .add(Expr::col(mail_outbox::Column::DueAt).lt(Expr::col(mail_outbox::Column::ExpiresAt))),
                ),
            )
            .order_by_asc(mail_outbox::Column::DueAt)
            .limit(most)
            .all(&self.store.reader)
            .await?;
        let mut taken = Vec::with_capacity(due.len());
        for row in due {
            // If several nodes have read this row, the update of only one of them succeeds.
            let claimed = mail_outbox::Entity::update_many()
                .col_expr(mail_outbox::Column::DueAt, again.into())
                .col_expr(mail_outbox::Column::Attempts, (row.attempts + 1).into())
                .filter(mail_outbox::Column::Id.eq(row.id))
                .filter(mail_outbox::Column::Attempts.eq(row.attempts))
                .exec(&self.store.writer)
                .await?;
            if claimed.rows_affected > 0 {
                taken.push(to_due(row));
            }
        }
        Ok(taken)
    }

    /// Makes a claimed e-mail due again at `due_at`.
    pub async fn reschedule(self, id: i64, due_at: DateTime<Utc>) -> Result<(), StoreError> {
        let due_at = millis(due_at);
        self.store
            .run("outbox", || {
                mail_outbox::Entity::update_many()
                    .col_expr(mail_outbox::Column::DueAt, due_at.into())
                    .filter(mail_outbox::Column::Id.eq(id))
                    .exec(&self.store.writer)
            })
            .await?;
        Ok(())
    }

    /// Deletes an e-mail that a mail server has accepted or permanently rejected.
    pub async fn remove(self, id: i64) -> Result<(), StoreError> {
        self.store
            .run("outbox", || async {
                let tx = self.store.begin().await?;
                delete_mails(&tx, &[id]).await?;
                tx.commit().await
            })
            .await
    }

    /// Deletes an e-mail that was never sent to a mail server. If the e-mail is a request for consent, deletes the
    /// record of the request as well.
    pub async fn discard(self, due: &DueMail) -> Result<(), StoreError> {
        self.store
            .run("outbox", || async {
                let tx = self.store.begin().await?;
                delete_mails(&tx, &[due.id]).await?;
                if let (MailKind::Consent, Some(host)) = (due.mail.kind, due.mail.host) {
                    mail_consent::Entity::delete_many()
                        .filter(mail_consent::Column::HostId.eq(host.0))
                        .filter(mail_consent::Column::Mailbox.eq(mailbox_key(&due.mail.recipient)))
                        .filter(mail_consent::Column::GrantedAt.is_null())
                        .filter(mail_consent::Column::WithdrawnAt.is_null())
                        .exec(&tx)
                        .await?;
                }
                tx.commit().await
            })
            .await
    }

    /// Returns the number of e-mails in the outbox.
    pub async fn count(self) -> Result<u64, StoreError> {
        let count: Option<i64> = self
            .store
            .run("outbox", || {
                mail_outbox::Entity::find()
                    .select_only()
                    .expr(mail_outbox::Column::Id.count())
                    .into_tuple()
                    .one(&self.store.reader)
            })
            .await?;
        Ok(from_column(count.unwrap_or_default()))
    }
}

async fn delete_mails(tx: &DatabaseTransaction, ids: &[i64]) -> Result<(), DbErr> {
    mail_part::Entity::delete_many().filter(mail_part::Column::MailId.is_in(ids.iter().copied())).exec(tx).await?;
    mail_outbox::Entity::delete_many().filter(mail_outbox::Column::Id.is_in(ids.iter().copied())).exec(tx).await?;
    Ok(())
}

/// Deletes the waiting e-mails from a host to a guest's mailbox, for all rooms.
pub(super) async fn delete_mails_to(tx: &DatabaseTransaction, host: HostId, mailbox: &str) -> Result<(), DbErr> {
    let ids: Vec<i64> = mail_outbox::Entity::find()
        .select_only()
        .column(mail_outbox::Column::Id)
        .filter(mail_outbox::Column::HostId.eq(host.0))
        .filter(mail_outbox::Column::Mailbox.eq(mailbox))
        .filter(mail_outbox::Column::Kind.is_in(MailClass::Guest.kinds()))
        .into_tuple()
        .all(tx)
        .await?;
    if ids.is_empty() { Ok(()) } else { delete_mails(tx, &ids).await }
}

/// Removes the text of a room from the waiting e-mails (SPEC 6.7). With `through`, removes only the parts whose newest
/// message is at or below it. Deletes an e-mail that has no other text.
pub(super) async fn remove_text(tx: &DatabaseTransaction, room: ChatroomId, through: Option<i64>) -> Result<(), DbErr> {
    let of_room = mail_part::Entity::find()
        .filter(mail_part::Column::ChatroomId.eq(room.0))
        .filter(Condition::all().add_option(through.map(|through| mail_part::Column::LastSeq.lte(through))));
    for removed in of_room.all(tx).await? {
        let id = removed.mail_id;
        let row = mail_outbox::Entity::find_by_id(id).lock_exclusive().one(tx).await?;
        let parts = mail_part::Entity::find()
            .filter(mail_part::Column::MailId.eq(id))
            .order_by_asc(mail_part::Column::ChatroomId)
            .all(tx)
            .await?;
        let text = |keeps: &dyn Fn(&&mail_part::Model) -> bool| -> String {
            parts.iter().filter(keeps).map(|part| part.text.as_str()).collect()
        };
        let (whole, left) = (text(&|_| true), text(&|part| part.chatroom_id != room.0));
        match row.filter(|row| !left.is_empty() && row.body.contains(&whole)) {
            Some(row) => {
                mail_outbox::Entity::update_many()
                    .col_expr(mail_outbox::Column::Body, row.body.replacen(&whole, &left, 1).into())
                    .filter(mail_outbox::Column::Id.eq(id))
                    .exec(tx)
                    .await?;
                mail_part::Entity::delete_by_id((id, room.0)).exec(tx).await?;
            }
            None => delete_mails(tx, &[id]).await?,
        }
    }
    Ok(())
}
