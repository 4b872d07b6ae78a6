//! Due notifications, and the decisions about whether to e-mail their recipients.
//!
//! A decision is one transaction that holds the lock of the room. Therefore only one node decides, and a concurrent
//! message is ordered before or after the decision. Decisions about guests are in [`guests`], those about hosts in
//! [`digests`].

pub(super) mod digests;
mod guests;

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::domain::{ChatroomId, Host, HostId, Message, Room, RoomName, Seq, Side, WireOffset};
use crate::store::counts::SeenThrough;
use crate::store::entity::{chat_message, chatroom, notification, user, user_config};
use crate::store::hosts::to_host;
use crate::store::messages::to_message;
use crate::store::notifications::digests::HostDigest;
use crate::store::{NotificationRepository, OutgoingMail, StoreError, from_column, millis};

/// Maximum number of messages of a room in an e-mail.
pub const EXCERPT: usize = 10;

/// Due notification of one recipient about one room.
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
    /// Time at which the notification became due.
    pub due_at: DateTime<Utc>,
    /// Highest sequence number of the room when the notification was read.
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

/// Decision about a due notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotificationDecision {
    /// An e-mail is in the outbox.
    Mailed,
    /// A request for consent is in the outbox.
    Asked,
    /// The mailbox has not consented to e-mail from this host.
    Unconsented,
    /// The recipient is in the room again.
    Present,
    /// The recipient has been in the room since the notification was recorded and has seen all messages.
    Read,
    /// The room was closed or deleted.
    Closed,
    /// The recipient has turned e-mails off, has unsubscribed, or has no address.
    Unwanted,
    /// Another node decided, or more messages arrived. If the notification is still due, it is processed again.
    Changed,
}

impl NotificationDecision {
    /// Returns whether the decision has written an e-mail to the outbox.
    pub fn has_mail(self) -> bool {
        matches!(self, Self::Mailed | Self::Asked)
    }
}

impl NotificationRepository<'_> {
    /// Returns the due notifications, longest due first, at most `most`.
    pub async fn due(self, now: DateTime<Utc>, most: u64) -> Result<Vec<DueNotification>, StoreError> {
        let now = millis(now);
        let due = notification::Entity::find()
            .filter(
                Condition::any()
                    .add(notification::Column::DueAt.lte(now))
                    .add(notification::Column::DueAt.gt(crate::store::unattended::latest_due(now))),
            )
            .order_by_asc(notification::Column::DueAt)
            .limit(most);
        self.store
            .run("notifications", || async { self.with_rooms(due.clone().all(&self.store.reader).await?).await })
            .await
    }

    /// Adds the data of the rooms to notification rows. Omits rows without a pending e-mail.
    pub(super) async fn with_rooms(self, rows: Vec<notification::Model>) -> Result<Vec<DueNotification>, DbErr> {
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
            .all(&self.store.reader)
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
}

/// Returns the decision about a notification of a locked room, or `None` if the decision depends on missed messages.
pub(super) fn without_mail(
    row: &chatroom::Model,
    due: &DueNotification,
    is_present: bool,
) -> Option<NotificationDecision> {
    if row.is_closed {
        Some(NotificationDecision::Closed)
    } else if is_present && from_column(row.last_seq) != due.last_seq {
        // The recipient may have left before the newest messages arrived, so the notification is processed again.
        Some(NotificationDecision::Changed)
    } else {
        is_present.then_some(NotificationDecision::Present)
    }
}

pub(super) fn is_row((chatroom, to_host): (i64, bool)) -> Condition {
    Condition::all().add(notification::Column::ChatroomId.eq(chatroom)).add(notification::Column::ToHost.eq(to_host))
}

/// Returns a host, or `None` if its account is not active.
pub(super) async fn active_host(tx: &DatabaseTransaction, id: i64) -> Result<Option<Host>, DbErr> {
    let found = user::Entity::find_by_id(id).find_also_related(user_config::Entity).one(tx).await?;
    found.filter(|(user, _)| !user.is_deleted).map(|(user, config)| to_host(user, config)).transpose()
}

/// Returns the messages of a locked room that a recipient missed, oldest first and at most `most`. Also returns whether
/// there are more.
pub(super) async fn missed(
    tx: &DatabaseTransaction,
    row: &chatroom::Model,
    known: &notification::Model,
    most: usize,
) -> Result<(Vec<Message>, bool), DbErr> {
    let seen = if known.to_host {
        SeenThrough { seq: row.checked_seq, at: row.last_checked_at }
    } else {
        SeenThrough { seq: row.guest_seen_seq, at: row.guest_seen_at }
    };
    let of_others = Condition::all()
        .add(chat_message::Column::ChatroomId.eq(known.chatroom_id))
        .add(chat_message::Column::Seq.gte(Ord::max(known.first_seq, row.purged_through + 1)))
        .add(chat_message::Column::IsHost.eq(!known.to_host));
    let missed = chat_message::Entity::find().filter(seen.missed(of_others));
    let rows = missed.order_by_asc(chat_message::Column::Seq).limit(most as u64 + 1).all(tx).await?;
    // E-mails contain no wall-clock times, so the offset has no effect here.
    let mut messages =
        rows.into_iter().map(|row| to_message(row, WireOffset::default())).collect::<Result<Vec<_>, _>>()?;
    let more = messages.len() > most;
    messages.truncate(most);
    Ok((messages, more))
}
