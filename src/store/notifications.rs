//! Who is due to be mailed, and what becomes of it: mailed, or not after all. Either is one transaction under the lock of the
//! room, so that of several nodes one decides, and a message that comes meanwhile is before or after it.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, Condition, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::counts::Seen;
use super::entity::{chat_message, chatroom, notification, user, user_config};
use super::hosts::to_host;
use super::messages::to_message;
use super::outbox::insert_mail;
use super::rooms::to_room;
use super::{OutgoingMail, Store, StoreError, from_column, millis, to_column, unattended};
use crate::domain::{ChatroomId, Host, Message, Room, RoomName, Seq, Side, WireOffset};

/// The most messages that a mail shows.
pub const EXCERPT: usize = 10;

/// Somebody who may have to be mailed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueNotification {
    /// About which room.
    pub chatroom: ChatroomId,
    /// Its name; `None` when it is gone.
    pub room: Option<RoomName>,
    /// Whom.
    pub to: Side,
    /// Since when he is due.
    pub due_at: DateTime<Utc>,
    /// The room's newest number when this was read.
    pub last_seq: Seq,
}

/// What a mail is about.
#[derive(Clone, Debug)]
pub struct Digest {
    /// The room.
    pub room: Room,
    /// Its host.
    pub host: Host,
    /// Whom to mail.
    pub to: Side,
    /// Where.
    pub address: String,
    /// In which language, if he ever said.
    pub language: Option<String>,
    /// What he missed, the oldest first, at most [`EXCERPT`].
    pub messages: Vec<Message>,
    /// Whether there is more.
    pub more: bool,
}

/// What became of somebody who was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// A mail is in the outbox.
    Mailed,
    /// He is in the room again.
    Present,
    /// He has been there since, and saw it all.
    Read,
    /// The room is closed, or gone.
    Closed,
    /// He wants no mails, or nobody knows where to.
    Unwanted,
    /// Somebody else settled it, or more came: it is looked at again if it is still due.
    Changed,
}

impl Store {
    /// Who is due, the longest first.
    pub async fn due_notifications(&self, now: DateTime<Utc>, most: u64) -> Result<Vec<DueNotification>, StoreError> {
        let now = millis(now);
        self.run(|| self.due_notifications_once(now, most)).await
    }

    async fn due_notifications_once(&self, now: DateTime<Utc>, most: u64) -> Result<Vec<DueNotification>, DbErr> {
        let rows = notification::Entity::find()
            .filter(
                Condition::any()
                    .add(notification::Column::DueAt.lte(now))
                    .add(notification::Column::DueAt.gt(unattended::latest_due(now))),
            )
            .order_by_asc(notification::Column::DueAt)
            .limit(most)
            .all(&self.reader)
            .await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let rooms: Vec<(i64, String, i64)> = chatroom::Entity::find()
            .select_only()
            .columns([chatroom::Column::Id, chatroom::Column::Name, chatroom::Column::LastSeq])
            .filter(chatroom::Column::Id.is_in(rows.iter().map(|row| row.chatroom_id)))
            .into_tuple()
            .all(&self.reader)
            .await?;
        let due = rows.into_iter().filter_map(|row| {
            let room = rooms.iter().find(|(id, ..)| *id == row.chatroom_id);
            Some(DueNotification {
                chatroom: ChatroomId(row.chatroom_id),
                room: room.and_then(|(_, name, _)| name.parse().ok()),
                to: Side::from_is_host(row.to_host),
                due_at: row.due_at?,
                last_seq: room.map_or(0, |(.., last_seq)| from_column(*last_seq)),
            })
        });
        Ok(due.collect())
    }

    /// Decides about somebody who is due. With `is_present`, which must have been asked after `due` was read, he is not mailed;
    /// else he is, with what `write` makes of it, unless he has no reason any more. `write` answers `None` for "not at all".
    pub async fn settle_notification(
        &self,
        due: &DueNotification,
        is_present: bool,
        now: DateTime<Utc>,
        write: &(dyn Fn(&Digest) -> Option<OutgoingMail> + Sync),
    ) -> Result<Settled, StoreError> {
        self.run(|| self.settle_notification_once(due, is_present, millis(now), write)).await
    }

    async fn settle_notification_once(
        &self,
        due: &DueNotification,
        is_present: bool,
        now: DateTime<Utc>,
        write: &(dyn Fn(&Digest) -> Option<OutgoingMail> + Sync),
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
        let mut first_missed = known.first_seq;
        let settled = if row.is_closed {
            Settled::Closed
        } else if is_present && from_column(row.last_seq) != due.last_seq {
            // He may have left before what came meanwhile.
            return Ok(Settled::Changed);
        } else if is_present {
            Settled::Present
        } else {
            match digest(&tx, row, &known).await? {
                Ok(digest) => match write(&digest) {
                    Some(mail) => {
                        first_missed = digest.messages.first().map_or(first_missed, |message| to_column(message.seq));
                        insert_mail(&tx, &mail, now).await?;
                        Settled::Mailed
                    }
                    None => Settled::Unwanted,
                },
                Err(why_not) => why_not,
            }
        };
        let mut update = notification::Entity::update_many()
            .col_expr(notification::Column::DueAt, Option::<DateTime<Utc>>::None.into());
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

fn is_row((chatroom, to_host): (i64, bool)) -> Condition {
    Condition::all().add(notification::Column::ChatroomId.eq(chatroom)).add(notification::Column::ToHost.eq(to_host))
}

/// Forgets a room that is being deleted.
pub(super) async fn forget(tx: &DatabaseTransaction, room: ChatroomId) -> Result<(), DbErr> {
    notification::Entity::delete_many().filter(notification::Column::ChatroomId.eq(room.0)).exec(tx).await?;
    Ok(())
}

/// What there is to mail, or why there is nothing.
async fn digest(
    tx: &DatabaseTransaction,
    row: chatroom::Model,
    known: &notification::Model,
) -> Result<Result<Digest, Settled>, DbErr> {
    let found = user::Entity::find_by_id(row.host_id).find_also_related(user_config::Entity).one(tx).await?;
    let Some((user, config)) = found.filter(|(user, _)| !user.is_deleted) else {
        return Ok(Err(Settled::Unwanted));
    };
    let host = to_host(user, config)?;
    let (to, address, language, seen) = if known.to_host {
        let address = host.config.email_notifications.then(|| host.email.clone());
        (Side::Host, address, None, Seen { seq: row.checked_seq, at: row.last_checked_at })
    } else {
        let seen = Seen { seq: row.guest_seen_seq, at: row.guest_seen_at };
        (Side::Guest, row.guest_email.clone(), row.guest_language.clone(), seen)
    };
    let Some(address) = address else { return Ok(Err(Settled::Unwanted)) };
    let of_others = Condition::all()
        .add(chat_message::Column::ChatroomId.eq(known.chatroom_id))
        .add(chat_message::Column::Seq.gte(Ord::max(known.first_seq, row.purged_through + 1)))
        .add(chat_message::Column::IsHost.eq(!known.to_host));
    let missed = chat_message::Entity::find().filter(seen.missed(of_others));
    let rows = missed.order_by_asc(chat_message::Column::Seq).limit(EXCERPT as u64 + 1).all(tx).await?;
    let mut messages = // No e-mail shows a wall clock.
        rows.into_iter().map(|row| to_message(row, WireOffset::default())).collect::<Result<Vec<_>, _>>()?;
    if messages.is_empty() {
        return Ok(Err(Settled::Read));
    }
    let more = messages.len() > EXCERPT;
    messages.truncate(EXCERPT);
    Ok(Ok(Digest { room: to_room(row)?, host, to, address, language, messages, more }))
}
