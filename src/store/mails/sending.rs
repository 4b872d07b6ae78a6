//! Limits on outgoing e-mail over all nodes, applied when an e-mail is sent.
//!
//! An e-mail is counted just before it is sent, while the lock of its class is held. Limits apply to the e-mails of the
//! last hour. Classes are counted separately, so that many e-mails of one class do not delay another class. The
//! separate limit per host prevents one host from using up the limit of the installation. An e-mail over a limit is
//! delayed until the limit permits it, together with all other due e-mails under the same limit. An e-mail that expires
//! before that time is dropped.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, ExprTrait as _, QueryFilter, QueryOrder,
    QuerySelect,
};

use crate::domain::HostId;
use crate::store::entity::{mail_class, mail_departure, mail_outbox};
use crate::store::{DueMail, MailClass, MailRepository, StoreError, mailbox_key, millis};

/// Period over which limits count.
const SPAN: TimeDelta = TimeDelta::hours(1);

/// Maximum number of e-mails of each class per hour; `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailQuotas {
    /// Limit per canonical mailbox.
    pub per_mailbox: Option<u32>,
    /// Limit per host on whose behalf e-mails are sent.
    pub per_host: Option<u32>,
    /// Limit of the whole installation.
    pub total: Option<u32>,
}

/// Scope in which a limit counts e-mails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailScope {
    /// E-mails to one mailbox.
    Mailbox,
    /// E-mails on behalf of one host.
    Host,
    /// E-mails of the installation.
    Installation,
}

impl MailScope {
    /// Returns the name of the scope in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mailbox => "mailbox",
            Self::Host => "host",
            Self::Installation => "installation",
        }
    }
}

/// Decision about sending an e-mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendDecision {
    /// The e-mail may be sent and has been counted.
    Send {
        /// Id of the row that counts the e-mail.
        id: i64,
        /// Current text of the e-mail, from which a room may have been removed since the e-mail was claimed.
        body: String,
    },
    /// Another node has claimed the e-mail, or it was deleted.
    NotWaiting,
    /// The e-mail is over a limit.
    Limited {
        /// Scope of the limit.
        scope: MailScope,
        /// Time at which the limit permits the e-mail.
        until: DateTime<Utc>,
    },
}

impl MailRepository<'_> {
    /// Decides whether a claimed e-mail may be sent, and counts it if so. After the decision to send an `at_most_once`
    /// e-mail, no node claims the e-mail again, because this node may crash after it has sent the e-mail.
    pub async fn begin_send(
        self,
        due: &DueMail,
        quotas: &MailQuotas,
        now: DateTime<Utc>,
    ) -> Result<SendDecision, StoreError> {
        self.store.run("departures", || self.begin_send_once(due, quotas, millis(now))).await
    }

    async fn begin_send_once(
        self,
        due: &DueMail,
        quotas: &MailQuotas,
        now: DateTime<Utc>,
    ) -> Result<SendDecision, DbErr> {
        let (class, mailbox) = (due.mail.kind.class(), mailbox_key(&due.mail.recipient));
        let tx = self.store.begin().await?;
        mail_class::Entity::find_by_id(class.as_str()).lock_exclusive().one(&tx).await?;
        let counted = |scope| is_counted(scope, class, &mailbox, due.mail.host);
        for (scope, quota) in [
            (MailScope::Host, quotas.per_host.filter(|_| due.mail.host.is_some())),
            (MailScope::Mailbox, quotas.per_mailbox),
            (MailScope::Installation, quotas.total),
        ] {
            let Some(quota) = quota else { continue };
            if let Some(until) = reached_until(&tx, counted(scope), quota, now).await? {
                return Ok(SendDecision::Limited { scope, until });
            }
        }
        let row = mail_departure::ActiveModel {
            id: NotSet,
            class: Set(class.as_str().to_owned()),
            mailbox: Set(mailbox),
            host_id: Set(due.mail.host.map(|host| host.0)),
            ends_at: Set(now + SPAN),
        };
        let id = mail_departure::Entity::insert(row).exec(&tx).await?.last_insert_id;
        let mut body = Some(due.mail.body.clone());
        if due.mail.at_most_once {
            let marked = mail_outbox::Entity::update_many()
                .col_expr(mail_outbox::Column::DueAt, millis(due.mail.expires_at).into())
                .filter(mail_outbox::Column::Id.eq(due.id))
                .filter(mail_outbox::Column::Attempts.eq(i64::from(due.attempts) + 1))
                .exec(&tx)
                .await?;
            if marked.rows_affected == 0 {
                return Ok(SendDecision::NotWaiting);
            }
            body = mail_outbox::Entity::find_by_id(due.id)
                .select_only()
                .column(mail_outbox::Column::Body)
                .into_tuple()
                .one(&tx)
                .await?;
        }
        let Some(body) = body else { return Ok(SendDecision::NotWaiting) };
        tx.commit().await?;
        Ok(SendDecision::Send { id, body })
    }

    /// Removes the count of an e-mail that was certainly not sent.
    pub async fn undo_send(self, id: i64) -> Result<(), StoreError> {
        self.store.run("departures", || mail_departure::Entity::delete_by_id(id).exec(&self.store.writer)).await?;
        Ok(())
    }

    /// Delays an e-mail that is over a limit, and all other due e-mails under the same limit, until the limit permits
    /// them or they expire. Returns the number of delayed e-mails.
    pub async fn delay(
        self,
        due: &DueMail,
        scope: MailScope,
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        use mail_outbox::Column::{DueAt, ExpiresAt, HostId, Id, Kind, Mailbox};
        let (now, until) = (millis(now), millis(until));
        let held_back = Condition::all()
            .add(DueAt.lte(now))
            .add(Kind.is_in(due.mail.kind.class().kinds()))
            .add_option((scope == MailScope::Mailbox).then(|| Mailbox.eq(mailbox_key(&due.mail.recipient))))
            .add_option((scope == MailScope::Host).then(|| HostId.eq(due.mail.host.map(|host| host.0))));
        let is_late = Expr::col(ExpiresAt).lt(until);
        let delayed = self
            .store
            .run("departures", || {
                mail_outbox::Entity::update_many()
                    .col_expr(
                        DueAt,
                        Expr::case(is_late.clone(), Expr::col(ExpiresAt)).finally(Expr::value(until)).into(),
                    )
                    .filter(Condition::any().add(Id.eq(due.id)).add(held_back.clone()))
                    .exec(&self.store.writer)
            })
            .await?;
        Ok(delayed.rows_affected)
    }
}

fn is_counted(scope: MailScope, class: MailClass, mailbox: &str, host: Option<HostId>) -> Condition {
    use mail_departure::Column;
    let of_class = Condition::all().add(Column::Class.eq(class.as_str()));
    match scope {
        MailScope::Mailbox => of_class.add(Column::Mailbox.eq(mailbox)),
        MailScope::Host => of_class.add(Column::HostId.eq(host.map(|host| host.0))),
        MailScope::Installation => of_class,
    }
}

/// Returns the time at which fewer than `quota` of the counted e-mails remain, or `None` if fewer remain already. Rows
/// whose `ends_at` is more than [`SPAN`] after `now` are ignored, because a clock that was ahead wrote them.
async fn reached_until(
    tx: &DatabaseTransaction,
    counted: Condition,
    quota: u32,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, DbErr> {
    use mail_departure::Column::EndsAt;
    mail_departure::Entity::find()
        .select_only()
        .column(EndsAt)
        .filter(counted.add(EndsAt.gt(now)).add(EndsAt.lte(now + SPAN)))
        .order_by_desc(EndsAt)
        .offset(u64::from(quota).saturating_sub(1))
        .limit(1)
        .into_tuple()
        .one(tx)
        .await
}
