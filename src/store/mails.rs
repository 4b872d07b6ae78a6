//! Outbox of e-mails. They are written in the transaction that causes them, sent by the node that claims them first,
//! and deleted once a mail server has accepted them.
//!
//! Whether an e-mail may be sent is decided in [`departures`](super::departures).

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, ExprTrait as _, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::entity::{mail_consent, mail_outbox, mail_part};
use super::{Store, StoreError, mailbox_key, millis, to_column};
use crate::domain::{ChatroomId, HostId, Seq};

/// Maximum delay of an e-mail: the period of the limits plus a margin. A later due time was written by a clock that was
/// ahead, and the e-mail is due at once.
const LATEST_DUE: TimeDelta = TimeDelta::minutes(75);

/// Purpose of an e-mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailKind {
    /// A confirmation code or a temporary password.
    Account,
    /// Messages that a host missed.
    HostDigest,
    /// Messages that a guest missed.
    GuestDigest,
    /// A request for a guest's consent.
    Consent,
}

/// Class of e-mails that limits count separately, so that no class delays another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailClass {
    /// To the owners of accounts, on their own request.
    Account,
    /// Digests to hosts.
    Host,
    /// Digests and requests for consent to guests.
    Guest,
}

impl MailKind {
    const ALL: [Self; 4] = [Self::Account, Self::HostDigest, Self::GuestDigest, Self::Consent];

    fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::HostDigest => "host_digest",
            Self::GuestDigest => "guest_digest",
            Self::Consent => "consent",
        }
    }

    /// Reads the kind from a row. A node of an earlier release leaves the column null; of its e-mails only digests are
    /// sent at most once.
    fn of(row: &mail_outbox::Model) -> Self {
        let named = row.kind.as_deref().and_then(|kind| Self::ALL.into_iter().find(|known| known.as_str() == kind));
        named.unwrap_or(match (row.at_most_once, &row.unsubscribe_url) {
            (false, _) => Self::Account,
            (true, None) => Self::HostDigest,
            (true, Some(_)) => Self::GuestDigest,
        })
    }

    /// Class under which limits count this kind.
    pub fn class(self) -> MailClass {
        match self {
            Self::Account => MailClass::Account,
            Self::HostDigest => MailClass::Host,
            Self::GuestDigest | Self::Consent => MailClass::Guest,
        }
    }
}

impl MailClass {
    /// Name of the class in SQL and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Host => "host",
            Self::Guest => "guest",
        }
    }

    /// Names of the kinds in this class, as stored in the column.
    pub(super) fn kinds(self) -> impl Iterator<Item = &'static str> {
        MailKind::ALL.into_iter().filter(move |kind| kind.class() == self).map(MailKind::as_str)
    }
}

/// Text of one room in an e-mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailPart {
    /// Id of the room.
    pub room: ChatroomId,
    /// Sequence number of the newest message in the text.
    pub last_seq: Seq,
    /// Text of the room, as it appears in the body.
    pub text: String,
}

/// An e-mail to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingMail {
    /// E-mail address of the only recipient.
    pub recipient: String,
    /// Subject line; contains no text from users.
    pub subject: String,
    /// Plain text. Contains the texts of [`parts`](Self::parts) one after another.
    pub body: String,
    /// Time after which the e-mail is not sent.
    pub expires_at: DateTime<Utc>,
    /// Whether the e-mail is lost rather than sent twice after a crash.
    pub at_most_once: bool,
    /// One-click unsubscribe URL (RFC 8058).
    pub unsubscribe_url: Option<String>,
    /// Purpose of the e-mail.
    pub kind: MailKind,
    /// Host on whose behalf the e-mail is sent.
    pub host: Option<HostId>,
    /// Texts of the rooms, by ascending room id. Empty for e-mails read from the outbox.
    pub parts: Vec<MailPart>,
}

/// An e-mail that this node has claimed for sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueMail {
    /// Row id.
    pub id: i64,
    /// Number of earlier attempts.
    pub attempts: u32,
    /// Content of the e-mail.
    pub mail: OutgoingMail,
}

impl Store {
    /// Claims due e-mails until `again`. If this node crashes, another node sends them after `again`, except e-mails
    /// that have [departed](Self::depart) and must not be sent twice.
    pub async fn take_due_mails(
        &self,
        most: u64,
        now: DateTime<Utc>,
        again: DateTime<Utc>,
    ) -> Result<Vec<DueMail>, StoreError> {
        let (now, again) = (millis(now), millis(again));
        self.run("outbox", || self.take_due_mails_once(most, now, again)).await
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
                    // Excludes departed e-mails, whose due time is their expiry.
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
            // Of several nodes that read this row, one updates it first.
            let mine = mail_outbox::Entity::update_many()
                .col_expr(mail_outbox::Column::DueAt, again.into())
                .col_expr(mail_outbox::Column::Attempts, (row.attempts + 1).into())
                .filter(mail_outbox::Column::Id.eq(row.id))
                .filter(mail_outbox::Column::Attempts.eq(row.attempts))
                .exec(&self.writer)
                .await?;
            if mine.rows_affected > 0 {
                taken.push(to_due(row));
            }
        }
        Ok(taken)
    }

    /// Makes a claimed e-mail due again at `due_at`.
    pub async fn put_off_mail(&self, id: i64, due_at: DateTime<Utc>) -> Result<(), StoreError> {
        let due_at = millis(due_at);
        self.run("outbox", || {
            mail_outbox::Entity::update_many()
                .col_expr(mail_outbox::Column::DueAt, due_at.into())
                .filter(mail_outbox::Column::Id.eq(id))
                .exec(&self.writer)
        })
        .await?;
        Ok(())
    }

    /// Deletes an e-mail that a mail server has accepted or permanently rejected.
    pub async fn remove_mail(&self, id: i64) -> Result<(), StoreError> {
        self.run("outbox", || async {
            let tx = self.begin().await?;
            delete_mails(&tx, &[id]).await?;
            tx.commit().await
        })
        .await
    }

    /// Deletes an e-mail that was never handed to a mail server. If it is a request for consent, deletes the record of
    /// the request as well.
    pub async fn drop_mail(&self, due: &DueMail) -> Result<(), StoreError> {
        self.run("outbox", || async {
            let tx = self.begin().await?;
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

    /// Number of e-mails in the outbox.
    pub async fn waiting_mails(&self) -> Result<u64, StoreError> {
        let count: Option<i64> = self
            .run("outbox", || {
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

fn to_due(row: mail_outbox::Model) -> DueMail {
    let kind = MailKind::of(&row);
    DueMail {
        id: row.id,
        attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
        mail: OutgoingMail {
            recipient: row.recipient,
            subject: row.subject,
            body: row.body,
            expires_at: row.expires_at,
            at_most_once: row.at_most_once,
            unsubscribe_url: row.unsubscribe_url,
            kind,
            host: row.host_id.map(HostId),
            parts: Vec::new(),
        },
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
        kind: Set(Some(mail.kind.as_str().to_owned())),
        host_id: Set(mail.host.map(|host| host.0)),
        mailbox: Set(Some(mailbox_key(&mail.recipient))),
    };
    let inserted = mail_outbox::Entity::insert(row).exec(tx).await?;
    if mail.parts.is_empty() {
        return Ok(());
    }
    let parts = mail.parts.iter().map(|part| {
        mail_part::ActiveModel::from(mail_part::Model {
            mail_id: inserted.last_insert_id,
            chatroom_id: part.room.0,
            last_seq: to_column(part.last_seq),
            text: part.text.clone(),
        })
    });
    mail_part::Entity::insert_many(parts).exec_without_returning(tx).await?;
    Ok(())
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

/// Removes the text of a room from the waiting e-mails (SPEC 6.7): all of it, or the parts up to `through`. Deletes an
/// e-mail without any other text.
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
