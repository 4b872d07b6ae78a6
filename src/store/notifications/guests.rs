//! Decisions about guests: an e-mail with the missed messages, a request for consent, or neither.

use chrono::{DateTime, Utc};
use sea_orm::{DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QuerySelect};

use crate::store::consents::{Consent, ConsentPair, consent};
use crate::store::entity::{chatroom, notification};
use crate::store::mails::mail::insert_mail;
use crate::store::notifications::{active_host, is_row, missed, without_mail};
use crate::store::rooms::row::to_room;
use crate::store::{
    ConsentRequest, DueNotification, EXCERPT, GuestDigest, NotificationDecision, NotificationRepository, StoreError,
    WriteMail, mailbox_key, millis, to_column,
};

/// Decision about a guest, and the columns of the notification row that depend on it.
struct GuestOutcome {
    decision: NotificationDecision,
    /// Mailbox whose consent the notification waits for.
    awaits_consent: Option<String>,
    /// Sequence number of the first message that the guest missed.
    first_missed: i64,
}

/// Content of an e-mail to a guest, or the decision that no e-mail is sent.
enum GuestMail {
    Digest(Box<GuestDigest>),
    None(NotificationDecision),
}

impl NotificationRepository<'_> {
    /// Decides about a due notification of a guest, or of either side of a deleted room. No e-mail is sent if
    /// `is_present`, which must be queried after `due` was read. An absent recipient is e-mailed if they have consented
    /// and missed messages.
    pub async fn decide(
        self,
        due: &DueNotification,
        is_present: bool,
        now: DateTime<Utc>,
        write: &dyn WriteMail,
    ) -> Result<NotificationDecision, StoreError> {
        self.store.run("notifications", || self.decide_once(due, is_present, millis(now), write)).await
    }

    async fn decide_once(
        self,
        due: &DueNotification,
        is_present: bool,
        now: DateTime<Utc>,
        write: &dyn WriteMail,
    ) -> Result<NotificationDecision, DbErr> {
        let tx = self.store.begin().await?;
        let row = chatroom::Entity::find_by_id(due.chatroom.0).lock_exclusive().one(&tx).await?;
        let key = (due.chatroom.0, due.to.is_host());
        let known = notification::Entity::find_by_id(key).one(&tx).await?;
        let Some(known) = known.filter(|known| known.due_at == Some(due.due_at)) else {
            return Ok(NotificationDecision::Changed);
        };
        let Some(row) = row else {
            notification::Entity::delete_by_id(key).exec(&tx).await?;
            tx.commit().await?;
            return Ok(NotificationDecision::Closed);
        };
        let host = row.host_id;
        let outcome = match without_mail(&row, due, is_present) {
            Some(decision) => GuestOutcome { decision, awaits_consent: None, first_missed: known.first_seq },
            None => mail_missed(&tx, row, &known, now, write).await?,
        };
        let decision = outcome.decision;
        if decision != NotificationDecision::Changed {
            record(&tx, key, host, outcome, now).await?;
            tx.commit().await?;
        }
        Ok(decision)
    }
}

/// Updates the notification row after a decision.
async fn record(
    tx: &DatabaseTransaction,
    key: (i64, bool),
    host: i64,
    outcome: GuestOutcome,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let mut update = notification::Entity::update_many()
        .col_expr(notification::Column::DueAt, Option::<DateTime<Utc>>::None.into())
        .col_expr(notification::Column::HostId, host.into())
        .col_expr(notification::Column::AwaitsConsent, outcome.awaits_consent.into());
    if outcome.decision == NotificationDecision::Mailed {
        // The next absence starts at this message. A read position at or above `first_seq` then means that the
        // recipient has returned since this e-mail.
        update = update
            .col_expr(notification::Column::MailedAt, now.into())
            .col_expr(notification::Column::FirstSeq, outcome.first_missed.into());
    }
    update.filter(is_row(key)).exec(tx).await?;
    Ok(())
}

/// Writes the e-mail about the messages that a guest missed, if consent permits it.
async fn mail_missed(
    tx: &DatabaseTransaction,
    row: chatroom::Model,
    known: &notification::Model,
    now: DateTime<Utc>,
    write: &dyn WriteMail,
) -> Result<GuestOutcome, DbErr> {
    let digest = match content(tx, row, known).await? {
        GuestMail::Digest(digest) => digest,
        GuestMail::None(decision) => {
            return Ok(GuestOutcome { decision, awaits_consent: None, first_missed: known.first_seq });
        }
    };
    let pair = ConsentPair { host: digest.host.id, mailbox: mailbox_key(&digest.address) };
    let first_missed = digest.messages.first().map_or(known.first_seq, |message| to_column(message.seq));
    let decision = mail_guest(tx, &digest, &pair, now, write).await?;
    let waits = matches!(decision, NotificationDecision::Asked | NotificationDecision::Unconsented);
    Ok(GuestOutcome { decision, awaits_consent: waits.then_some(pair.mailbox), first_missed })
}

/// Writes the digest if the guest's mailbox has consented, or a request for consent if one is permitted.
async fn mail_guest(
    tx: &DatabaseTransaction,
    digest: &GuestDigest,
    pair: &ConsentPair,
    now: DateTime<Utc>,
    write: &dyn WriteMail,
) -> Result<NotificationDecision, DbErr> {
    let (mail, decision) = match consent(tx, pair, now).await? {
        Consent::Given => (write.guest_digest(digest), NotificationDecision::Mailed),
        Consent::Ask => {
            let GuestDigest { host, address, language, .. } = digest.clone();
            (write.consent_request(&ConsentRequest { host, address, language }), NotificationDecision::Asked)
        }
        Consent::Missing => return Ok(NotificationDecision::Unconsented),
        Consent::Withdrawn => return Ok(NotificationDecision::Unwanted),
    };
    let Some(mail) = mail else { return Ok(NotificationDecision::Unwanted) };
    insert_mail(tx, &mail, now).await?;
    Ok(decision)
}

/// Reads the content of an e-mail to a guest, or decides that no e-mail is sent.
async fn content(
    tx: &DatabaseTransaction,
    row: chatroom::Model,
    known: &notification::Model,
) -> Result<GuestMail, DbErr> {
    let Some(host) = active_host(tx, row.host_id).await? else {
        return Ok(GuestMail::None(NotificationDecision::Unwanted));
    };
    let Some(address) = row.guest_email.clone() else { return Ok(GuestMail::None(NotificationDecision::Unwanted)) };
    let (messages, more) = missed(tx, &row, known, EXCERPT).await?;
    if messages.is_empty() {
        return Ok(GuestMail::None(NotificationDecision::Read));
    }
    let language = row.guest_language.clone();
    Ok(GuestMail::Digest(Box::new(GuestDigest { room: to_room(row)?, host, address, language, messages, more })))
}
