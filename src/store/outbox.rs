//! Mails on their way: written with what causes them, sent by whichever node comes first, gone once a mail server has them.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, ExprTrait as _, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::entity::mail_outbox;
use super::{Store, StoreError, millis};

/// No e-mail is put off for longer, so one that is due later was written by a clock that was ahead.
const LATEST_DUE: TimeDelta = TimeDelta::minutes(15);

/// A mail to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingMail {
    /// One address.
    pub recipient: String,
    /// A line; nothing in it comes from a user.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// After this it helps nobody.
    pub expires_at: DateTime<Utc>,
    /// Whether it is better lost than sent twice.
    pub at_most_once: bool,
    /// Where a click ends all mails like this one (RFC 8058).
    pub unsubscribe_url: Option<String>,
}

/// A mail that this node is to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueMail {
    /// Row id.
    pub id: i64,
    /// How often it has been tried before.
    pub attempts: u32,
    /// What it says.
    pub mail: OutgoingMail,
}

impl Store {
    /// Takes mails that are due, and puts each off until `again`: if this node dies another sends it then, unless the mail was
    /// [about to leave](Self::mail_leaves).
    pub async fn take_due_mails(
        &self,
        most: u64,
        now: DateTime<Utc>,
        again: DateTime<Utc>,
    ) -> Result<Vec<DueMail>, StoreError> {
        let (now, again) = (millis(now), millis(again));
        self.run(|| self.take_due_mails_once(most, now, again)).await
    }

    async fn take_due_mails_once(
        &self,
        most: u64,
        now: DateTime<Utc>,
        again: DateTime<Utc>,
    ) -> Result<Vec<DueMail>, DbErr> {
        let due = mail_outbox::Entity::find()
            .filter(
                Condition::any().add(mail_outbox::Column::DueAt.lte(now)).add(
                    // Not what is about to leave: that is due at its end.
                    Condition::all()
                        .add(mail_outbox::Column::DueAt.gt(now + LATEST_DUE))
                        .add(Expr::col(mail_outbox::Column::DueAt).lt(Expr::col(mail_outbox::Column::ExpiresAt))),
                ),
            )
            .order_by_asc(mail_outbox::Column::DueAt)
            .limit(most)
            .all(&self.reader)
            .await?;
        let mut taken = Vec::with_capacity(due.len());
        for row in due {
            // Of several nodes that saw it one is the first.
            let mine = mail_outbox::Entity::update_many()
                .col_expr(mail_outbox::Column::DueAt, again.into())
                .col_expr(mail_outbox::Column::Attempts, (row.attempts + 1).into())
                .filter(mail_outbox::Column::Id.eq(row.id))
                .filter(mail_outbox::Column::Attempts.eq(row.attempts))
                .exec(&self.writer)
                .await?;
            if mine.rows_affected > 0 {
                taken.push(DueMail {
                    id: row.id,
                    attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
                    mail: OutgoingMail {
                        recipient: row.recipient,
                        subject: row.subject,
                        body: row.body,
                        expires_at: row.expires_at,
                        at_most_once: row.at_most_once,
                        unsubscribe_url: row.unsubscribe_url,
                    },
                });
            }
        }
        Ok(taken)
    }

    /// A mail that is to leave at most once is about to: nobody else sends it from now on, since nobody knows how far a node got
    /// that died. False if another node has taken it meanwhile.
    pub async fn mail_leaves(&self, due: &DueMail) -> Result<bool, StoreError> {
        let expires_at = millis(due.mail.expires_at);
        let marked = self
            .run(|| {
                mail_outbox::Entity::update_many()
                    .col_expr(mail_outbox::Column::DueAt, expires_at.into())
                    .filter(mail_outbox::Column::Id.eq(due.id))
                    .filter(mail_outbox::Column::Attempts.eq(i64::from(due.attempts) + 1))
                    .exec(&self.writer)
            })
            .await?;
        Ok(marked.rows_affected > 0)
    }

    /// A mail that was taken has failed, and is due again at `due_at`.
    pub async fn put_off_mail(&self, id: i64, due_at: DateTime<Utc>) -> Result<(), StoreError> {
        let due_at = millis(due_at);
        self.run(|| {
            mail_outbox::Entity::update_many()
                .col_expr(mail_outbox::Column::DueAt, due_at.into())
                .filter(mail_outbox::Column::Id.eq(id))
                .exec(&self.writer)
        })
        .await?;
        Ok(())
    }

    /// A mail has left, or never will.
    pub async fn remove_mail(&self, id: i64) -> Result<(), StoreError> {
        self.run(|| mail_outbox::Entity::delete_by_id(id).exec(&self.writer)).await?;
        Ok(())
    }

    /// How many mails wait.
    pub async fn waiting_mails(&self) -> Result<u64, StoreError> {
        let count: Option<i64> = self
            .run(|| {
                mail_outbox::Entity::find()
                    .select_only()
                    .expr(mail_outbox::Column::Id.count())
                    .into_tuple()
                    .one(&self.reader)
            })
            .await?;
        Ok(super::from_column(count.unwrap_or_default()))
    }
}

pub(super) async fn insert_mail(
    tx: &DatabaseTransaction,
    mail: &OutgoingMail,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let row = mail_outbox::ActiveModel {
        id: NotSet,
        recipient: Set(mail.recipient.clone()),
        subject: Set(mail.subject.clone()),
        body: Set(mail.body.clone()),
        attempts: Set(0),
        due_at: Set(millis(now)),
        expires_at: Set(millis(mail.expires_at)),
        at_most_once: Set(mail.at_most_once),
        unsubscribe_url: Set(mail.unsubscribe_url.clone()),
    };
    mail_outbox::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}
