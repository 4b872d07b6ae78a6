//! Recipients who are due to be e-mailed about a room, and the decision about guests: an e-mail, a request for consent,
//! or neither. A decision is one transaction under the lock of the room. Of several nodes, one decides, and a
//! concurrent message is ordered before or after the decision. Decisions about hosts are in
//! [`digests`](super::digests).

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::consents::{Consent, ConsentPair, consent};
use super::counts::Seen;
use super::digests::HostDigest;
use super::entity::{chat_message, chatroom, notification, user, user_config};
use super::hosts::to_host;
use super::messages::to_message;
use super::outbox::insert_mail;
use super::rooms::to_room;
use super::{OutgoingMail, Store, StoreError, from_column, mailbox_key, millis, to_column, unattended};
use crate::domain::{ChatroomId, Host, HostId, Message, Room, RoomName, Seq, Side, WireOffset};

/// Maximum number of messages of a room in an e-mail.
pub const EXCERPT: usize = 10;

/// A recipient who may have to be e-mailed about a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueNotification {
    /// Id of the room.
    pub chatroom: ChatroomId,
    /// Name of the room; `None` if the room was deleted.
    pub room: Option<RoomName>,
    /// Host of the room; `None` if the room was deleted.
    pub host: Option<HostId>,
    /// Side of the recipient.
    pub to: Side,
    /// Time at which the recipient became due.
    pub due_at: DateTime<Utc>,
    /// Highest sequence number of the room when this was read.
    pub last_seq: Seq,
}

/// Messages that a guest missed, as the content of one e-mail.
#[derive(Clone, Debug)]
pub struct GuestDigest {
    /// Room of the messages.
    pub room: Room,
    /// Host of the room.
    pub host: Host,
    /// E-mail address of the guest.
    pub address: String,
    /// Language of the guest, if known.
    pub language: Option<String>,
    /// Missed messages, oldest first, at most [`EXCERPT`].
    pub messages: Vec<Message>,
    /// Whether more messages were missed than are shown.
    pub more: bool,
}

/// Request for a guest's consent to e-mail.
#[derive(Clone, Debug)]
pub struct ConsentRequest {
    /// Host who wants to e-mail the guest.
    pub host: Host,
    /// E-mail address of the guest.
    pub address: String,
    /// Language of the guest, if known.
    pub language: Option<String>,
}

/// Composes e-mails. `None` means that no e-mail is sent.
pub trait WriteMail: Sync {
    /// Composes the e-mail to a guest about missed messages.
    fn guest_digest(&self, digest: &GuestDigest) -> Option<OutgoingMail>;
    /// Composes the e-mail to a host about missed messages in all rooms.
    fn host_digest(&self, digest: &HostDigest) -> Option<OutgoingMail>;
    /// Composes a request for consent.
    fn consent_request(&self, request: &ConsentRequest) -> Option<OutgoingMail>;
}

/// Decision about a recipient who was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// An e-mail is in the outbox.
    Mailed,
    /// A request for consent is in the outbox.
    Asked,
    /// The mailbox has not consented to e-mail from this host.
    Unconsented,
    /// The recipient is in the room again.
    Present,
    /// The recipient has been in the room since then and has seen all messages.
    Read,
    /// The room was closed or deleted.
    Closed,
    /// The recipient has turned e-mails off, has unsubscribed, or has no address.
    Unwanted,
    /// Another node decided, or more messages arrived. If still due, the recipient is examined again.
    Changed,
}

impl Settled {
    /// Returns whether an e-mail was written.
    pub fn has_mail(self) -> bool {
        matches!(self, Self::Mailed | Self::Asked)
    }
}

impl Store {
    /// Returns the recipients who are due, longest due first, at most `most`.
    pub async fn due_notifications(&self, now: DateTime<Utc>, most: u64) -> Result<Vec<DueNotification>, StoreError> {
        let now = millis(now);
        let due = notification::Entity::find()
            .filter(
                Condition::any()
                    .add(notification::Column::DueAt.lte(now))
                    .add(notification::Column::DueAt.gt(unattended::latest_due(now))),
            )
            .order_by_asc(notification::Column::DueAt)
            .limit(most);
        self.run("notifications", || async { self.with_rooms(due.clone().all(&self.reader).await?).await }).await
    }

    /// Adds the data of the rooms to notification rows.
    pub(super) async fn with_rooms(&self, rows: Vec<notification::Model>) -> Result<Vec<DueNotification>, DbErr> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let rooms: Vec<(i64, String, i64, i64)> = chatroom::Entity::find()
            .select_only()
            .columns([
                chatroom::Column::Id,
                chatroom::Column::Name,
                chatroom::Column::LastSeq,
                chatroom::Column::HostId,
            ])
            .filter(chatroom::Column::Id.is_in(rows.iter().map(|row| row.chatroom_id)))
            .into_tuple()
            .all(&self.reader)
            .await?;
        let due = rows.into_iter().filter_map(|row| {
            let room = rooms.iter().find(|(id, ..)| *id == row.chatroom_id);
            Some(DueNotification {
                chatroom: ChatroomId(row.chatroom_id),
                room: room.and_then(|(_, name, ..)| name.parse().ok()),
                host: room.map(|(.., host)| HostId(*host)),
                to: Side::from_is_host(row.to_host),
                due_at: row.due_at?,
                last_seq: room.map_or(0, |(_, _, last_seq, _)| from_column(*last_seq)),
            })
        });
        Ok(due.collect())
    }

    /// Decides about a guest who is due, or about either side of a deleted room. Sends no e-mail if `is_present`, which
    /// must have been queried after `due` was read. Otherwise the recipient is e-mailed, if they consented and missed
    /// messages.
    pub async fn settle_notification(
        &self,
        due: &DueNotification,
        is_present: bool,
        now: DateTime<Utc>,
        write: &dyn WriteMail,
    ) -> Result<Settled, StoreError> {
        self.run("notifications", || self.settle_notification_once(due, is_present, millis(now), write)).await
    }

    async fn settle_notification_once(
        &self,
        due: &DueNotification,
        is_present: bool,
        now: DateTime<Utc>,
        write: &dyn WriteMail,
    ) -> Result<Settled, DbErr> {
        let tx = self.begin().await?;
        let row = chatroom::Entity::find_by_id(due.chatroom.0).lock_exclusive().one(&tx).await?;
        let key = (due.chatroom.0, due.to.is_host());
        let known = notification::Entity::find_by_id(key).one(&tx).await?;
        let Some(known) = known.filter(|known| known.due_at == Some(due.due_at)) else { return Ok(Settled::Changed) };
        let Some(row) = row else {
            notification::Entity::delete_by_id(key).exec(&tx).await?;
            tx.commit().await?;
            return Ok(Settled::Closed);
        };
        let host = row.host_id;
        let mut awaits_consent: Option<String> = None;
        let mut first_missed = known.first_seq;
        let settled = match without_mail(&row, due, is_present) {
            Some(settled) => settled,
            None => match guest_digest(&tx, row, &known).await? {
                Ok(digest) => {
                    let pair = ConsentPair { host: digest.host.id, mailbox: mailbox_key(&digest.address) };
                    first_missed = digest.messages.first().map_or(first_missed, |message| to_column(message.seq));
                    let settled = mail_guest(&tx, &digest, &pair, now, write).await?;
                    if matches!(settled, Settled::Asked | Settled::Unconsented) {
                        awaits_consent = Some(pair.mailbox);
                    }
                    settled
                }
                Err(why_not) => why_not,
            },
        };
        if settled == Settled::Changed {
            return Ok(settled);
        }
        let mut update = notification::Entity::update_many()
            .col_expr(notification::Column::DueAt, Option::<DateTime<Utc>>::None.into())
            .col_expr(notification::Column::HostId, host.into())
            .col_expr(notification::Column::AwaitsConsent, awaits_consent.into());
        if settled == Settled::Mailed {
            // A recipient who has seen this message has been back since the e-mail.
            update = update
                .col_expr(notification::Column::MailedAt, now.into())
                .col_expr(notification::Column::FirstSeq, first_missed.into());
        }
        update.filter(is_row(key)).exec(&tx).await?;
        tx.commit().await?;
        Ok(settled)
    }
}

/// Decision about a recipient of a locked room, if it does not depend on missed messages.
pub(super) fn without_mail(row: &chatroom::Model, due: &DueNotification, is_present: bool) -> Option<Settled> {
    if row.is_closed {
        Some(Settled::Closed)
    } else if is_present && from_column(row.last_seq) != due.last_seq {
        // The recipient may have left before the newest messages arrived.
        Some(Settled::Changed)
    } else {
        is_present.then_some(Settled::Present)
    }
}

/// Writes the e-mail that the consent of the guest's mailbox permits.
async fn mail_guest(
    tx: &DatabaseTransaction,
    digest: &GuestDigest,
    pair: &ConsentPair,
    now: DateTime<Utc>,
    write: &dyn WriteMail,
) -> Result<Settled, DbErr> {
    let (mail, settled) = match consent(tx, pair, now).await? {
        Consent::Given => (write.guest_digest(digest), Settled::Mailed),
        Consent::Ask => {
            let GuestDigest { host, address, language, .. } = digest.clone();
            (write.consent_request(&ConsentRequest { host, address, language }), Settled::Asked)
        }
        Consent::Missing => return Ok(Settled::Unconsented),
        Consent::Withdrawn => return Ok(Settled::Unwanted),
    };
    let Some(mail) = mail else { return Ok(Settled::Unwanted) };
    insert_mail(tx, &mail, now).await?;
    Ok(settled)
}

pub(super) fn is_row((chatroom, to_host): (i64, bool)) -> Condition {
    Condition::all().add(notification::Column::ChatroomId.eq(chatroom)).add(notification::Column::ToHost.eq(to_host))
}

/// Deletes the notifications of a room that is being deleted.
pub(super) async fn forget(tx: &DatabaseTransaction, room: ChatroomId) -> Result<(), DbErr> {
    notification::Entity::delete_many().filter(notification::Column::ChatroomId.eq(room.0)).exec(tx).await?;
    Ok(())
}

/// Returns a host whose account is active.
pub(super) async fn active_host(tx: &DatabaseTransaction, id: i64) -> Result<Option<Host>, DbErr> {
    let found = user::Entity::find_by_id(id).find_also_related(user_config::Entity).one(tx).await?;
    found.filter(|(user, _)| !user.is_deleted).map(|(user, config)| to_host(user, config)).transpose()
}

/// Returns the messages of a locked room that a recipient missed, oldest first and at most `most`, and whether there
/// are more.
pub(super) async fn missed(
    tx: &DatabaseTransaction,
    row: &chatroom::Model,
    known: &notification::Model,
    most: usize,
) -> Result<(Vec<Message>, bool), DbErr> {
    let seen = if known.to_host {
        Seen { seq: row.checked_seq, at: row.last_checked_at }
    } else {
        Seen { seq: row.guest_seen_seq, at: row.guest_seen_at }
    };
    let of_others = Condition::all()
        .add(chat_message::Column::ChatroomId.eq(known.chatroom_id))
        .add(chat_message::Column::Seq.gte(Ord::max(known.first_seq, row.purged_through + 1)))
        .add(chat_message::Column::IsHost.eq(!known.to_host));
    let missed = chat_message::Entity::find().filter(seen.missed(of_others));
    let rows = missed.order_by_asc(chat_message::Column::Seq).limit(most as u64 + 1).all(tx).await?;
    // No e-mail shows a wall clock, so any offset will do.
    let mut messages =
        rows.into_iter().map(|row| to_message(row, WireOffset::default())).collect::<Result<Vec<_>, _>>()?;
    let more = messages.len() > most;
    messages.truncate(most);
    Ok((messages, more))
}

/// Returns the content of an e-mail to a guest, or the reason why there is none.
async fn guest_digest(
    tx: &DatabaseTransaction,
    row: chatroom::Model,
    known: &notification::Model,
) -> Result<Result<GuestDigest, Settled>, DbErr> {
    let Some(host) = active_host(tx, row.host_id).await? else { return Ok(Err(Settled::Unwanted)) };
    let Some(address) = row.guest_email.clone() else { return Ok(Err(Settled::Unwanted)) };
    let (messages, more) = missed(tx, &row, known, EXCERPT).await?;
    if messages.is_empty() {
        return Ok(Err(Settled::Read));
    }
    let language = row.guest_language.clone();
    Ok(Ok(GuestDigest { room: to_room(row)?, host, address, language, messages, more }))
}
