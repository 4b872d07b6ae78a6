//! Records notifications for absent recipients, in the transaction that writes the messages that they miss.
//!
//! A batch without missed messages runs no query. Otherwise, it reads the notification rows of the affected rooms and
//! writes to them in at most one statement. The first message of an absence creates a due notification, and later
//! messages change nothing.
//!
//! **Invariant:** a row is changed under the lock of its room. The only exception is `due_at` of an existing row:
//! granting consent and deferring a digest change it without that lock.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, DerivePartialModel, EntityTrait, QueryFilter};

use crate::domain::{ChatroomId, Message, Side};
use crate::store::counts::SeenThrough;
use crate::store::entity::{chatroom, notification};
use crate::store::{millis, to_column};

/// Time for which missed messages are collected before the e-mail is sent (SPEC 8).
const GATHER: TimeDelta = TimeDelta::seconds(60);

/// Minimum time between two e-mails to the guest of a room (SPEC 8). Hosts receive digests:
/// [`digests`](crate::store::notifications::digests).
const MAIL_INTERVAL: TimeDelta = TimeDelta::hours(1);

/// Columns with the data of a room's guest, read while the room is locked.
#[derive(Clone, Debug, DerivePartialModel)]
#[sea_orm(entity = "chatroom::Entity")]
pub(in crate::store) struct Contact {
    guest_email: Option<String>,
    guest_seen_at: Option<DateTime<Utc>>,
    guest_seen_seq: Option<i64>,
    host_id: i64,
}

/// First missed message of one recipient in a batch.
struct Unattended<'a> {
    to: Side,
    message: &'a Message,
    /// Position up to which the recipient has seen the room.
    seen: SeenThrough,
    host_id: i64,
}

/// First missed messages of a batch, by room and side.
#[derive(Default)]
pub(in crate::store) struct UnattendedRooms<'a>(BTreeMap<(i64, bool), Unattended<'a>>);

impl<'a> UnattendedRooms<'a> {
    /// Adds a message whose recipient has no connection in the room. Ignores guests without an address.
    pub(in crate::store) fn add(&mut self, message: &'a Message, contact: &Contact, host_seen: SeenThrough) {
        let (to, seen) = match message.side {
            Side::Guest => (Side::Host, host_seen),
            Side::Host if contact.guest_email.is_none() => return,
            Side::Host => (Side::Guest, SeenThrough { seq: contact.guest_seen_seq, at: contact.guest_seen_at }),
        };
        self.0.entry((message.chatroom.0, to.is_host())).or_insert(Unattended {
            to,
            message,
            seen,
            host_id: contact.host_id,
        });
    }

    /// Records due notifications, except for recipients who already have one or were e-mailed in this absence.
    /// `due_from` maps the time of a message to the time at which the delay of its e-mail starts.
    pub(in crate::store) async fn write(
        &self,
        tx: &DatabaseTransaction,
        due_from: impl Fn(DateTime<Utc>) -> DateTime<Utc>,
    ) -> Result<(), DbErr> {
        use notification::Column::{AwaitsConsent, ChatroomId, DueAt, FirstSeq, HostId, Since, ToHost};
        if self.0.is_empty() {
            return Ok(());
        }
        let known: HashMap<(i64, bool), notification::Model> = notification::Entity::find()
            .filter(ChatroomId.is_in(self.0.keys().map(|(room, _)| *room)))
            .all(tx)
            .await?
            .into_iter()
            .map(|row| ((row.chatroom_id, row.to_host), row))
            .collect();
        let rows: Vec<_> = self
            .0
            .iter()
            .filter_map(|(key, unattended)| {
                let since = millis(unattended.message.accepted_at);
                let due_at = due_at(known.get(key), unattended.seen, due_from(since))?;
                Some(notification::ActiveModel {
                    chatroom_id: Set(key.0),
                    to_host: Set(unattended.to.is_host()),
                    first_seq: Set(to_column(unattended.message.seq)),
                    since: Set(since),
                    due_at: Set(Some(due_at)),
                    mailed_at: Set(None),
                    host_id: Set(Some(unattended.host_id)),
                    awaits_consent: Set(None),
                })
            })
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        // `mailed_at` of an existing row stays unchanged.
        notification::Entity::insert_many(rows)
            .on_conflict(
                OnConflict::columns([ChatroomId, ToHost])
                    .update_columns([FirstSeq, Since, DueAt, HostId, AwaitsConsent])
                    .to_owned(),
            )
            .exec_without_returning(tx)
            .await?;
        Ok(())
    }
}

/// Returns the time at which the e-mail about a missed message that arrives at `now` is due. Returns `None` if the row
/// already covers the message.
fn due_at(row: Option<&notification::Model>, seen: SeenThrough, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let gathered = now + GATHER;
    let Some(row) = row else { return Some(gathered) };
    // `first_seq` is the number of the first message that the row covers. A recipient who has seen that message has
    // returned, so the new message starts a new absence.
    let was_back_after = |at| match seen.seq {
        Some(seq) => seq >= row.first_seq,
        None => seen.at.is_some_and(|seen| seen >= at),
    };
    let is_settled = match (row.due_at, row.mailed_at) {
        (Some(_), _) => !was_back_after(row.since),
        (None, Some(mailed_at)) => !was_back_after(mailed_at),
        (None, None) => row.awaits_consent.is_some() && !was_back_after(row.since),
    };
    if is_settled {
        return None;
    }
    // `mailed_at` is limited to `now`. If a clock was ahead at the last e-mail, this e-mail is therefore delayed by at
    // most `MAIL_INTERVAL`.
    let mailed_at = row.mailed_at.filter(|_| !row.to_host);
    Some(mailed_at.map_or(gathered, |mailed_at| gathered.max(mailed_at.min(now) + MAIL_INTERVAL)))
}

/// Returns the latest valid due time of an e-mail. A later time was written by a clock that was ahead.
pub(in crate::store) fn latest_due(now: DateTime<Utc>) -> DateTime<Utc> {
    now + GATHER + MAIL_INTERVAL
}

/// Deletes the notifications of a room that is being deleted.
pub(in crate::store) async fn forget(tx: &DatabaseTransaction, room: ChatroomId) -> Result<(), DbErr> {
    notification::Entity::delete_many().filter(notification::Column::ChatroomId.eq(room.0)).exec(tx).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    fn row(since: i64, due: Option<i64>, mailed: Option<i64>) -> notification::Model {
        notification::Model {
            chatroom_id: 1,
            to_host: false,
            first_seq: 1,
            since: at(since),
            due_at: due.map(at),
            mailed_at: mailed.map(at),
            host_id: Some(1),
            awaits_consent: None,
        }
    }

    fn seen(seq: Option<i64>, seconds: i64) -> SeenThrough {
        SeenThrough { seq, at: Some(at(seconds)) }
    }

    #[test]
    fn first_missed_message_makes_the_recipient_due() {
        let nothing = SeenThrough::default();
        assert_eq!(due_at(None, nothing, at(0)), Some(at(60)));
        let due = row(0, Some(60), None);
        assert_eq!(due_at(Some(&due), nothing, at(30)), None);
        // The sequence number decides, regardless of the time.
        assert_eq!(due_at(Some(&due), seen(Some(0), 10), at(30)), None);
        assert_eq!(due_at(Some(&due), seen(Some(1), -5), at(30)), Some(at(90)), "returned, and absent again");
        // If there is no sequence number, the time decides.
        assert_eq!(due_at(Some(&due), seen(None, -5), at(30)), None);
        assert_eq!(due_at(Some(&due), seen(None, 10), at(30)), Some(at(90)));
    }

    #[test]
    fn emailed_recipient_is_due_again_after_returning_and_an_hour() {
        let mailed = row(0, None, Some(60));
        assert_eq!(due_at(Some(&mailed), SeenThrough::default(), at(10_000)), None);
        assert_eq!(due_at(Some(&mailed), seen(Some(0), 100), at(10_000)), None);
        assert_eq!(due_at(Some(&mailed), seen(Some(1), 100), at(200)), Some(at(60 + 3_600)));
        assert_eq!(due_at(Some(&mailed), seen(Some(1), -100), at(10_000)), Some(at(10_060)));
        assert_eq!(due_at(Some(&mailed), seen(None, 59), at(10_000)), None);
        assert_eq!(due_at(Some(&mailed), seen(None, 100), at(10_000)), Some(at(10_060)));
        assert_eq!(
            due_at(Some(&row(0, None, None)), SeenThrough::default(), at(5)),
            Some(at(65)),
            "no e-mail was sent"
        );
        let of_host = notification::Model { to_host: true, ..mailed.clone() };
        assert_eq!(due_at(Some(&of_host), SeenThrough::default(), at(10_000)), None);
        assert_eq!(
            due_at(Some(&of_host), seen(Some(1), 100), at(200)),
            Some(at(260)),
            "digests have a separate interval"
        );
        let waiting = notification::Model { awaits_consent: Some("mailbox".into()), ..row(0, None, None) };
        assert_eq!(due_at(Some(&waiting), SeenThrough::default(), at(10_000)), None, "waits for consent");
        assert_eq!(due_at(Some(&waiting), seen(Some(1), 100), at(200)), Some(at(260)));
        let ahead = row(0, None, Some(86_400));
        assert_eq!(due_at(Some(&ahead), seen(Some(1), 100), at(200)), Some(at(200 + 3_600)), "not a day later");
    }
}
