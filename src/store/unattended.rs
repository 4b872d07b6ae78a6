//! Notes who is to be mailed, in the very transaction that writes the messages he was not there for.
//!
//! It costs nothing while everybody is there. Else a batch reads the rows of those rooms, and writes at most once: the first
//! message of an absence makes somebody due, and the others find that he is.
//!
//! **Invariant:** a row is changed under the lock of its room. Only `due_at` of an existing row may also be moved without it: by
//! consent, and when a digest is deferred.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, DerivePartialModel, EntityTrait, QueryFilter};

use super::counts::Seen;
use super::entity::{chatroom, notification};
use super::{millis, to_column};
use crate::domain::{Message, Side};

/// How long what comes is gathered before it is mailed (SPEC 8).
const GATHER: TimeDelta = TimeDelta::seconds(60);

/// The least time between two e-mails to the guest of a room (SPEC 8). Hosts get digests: [`digests`](super::digests).
const MAIL_INTERVAL: TimeDelta = TimeDelta::hours(1);

/// What is known of a room's guest while the room's lock is held.
#[derive(Clone, Debug, DerivePartialModel)]
#[sea_orm(entity = "chatroom::Entity")]
pub(super) struct Contact {
    guest_email: Option<String>,
    guest_seen_at: Option<DateTime<Utc>>,
    guest_seen_seq: Option<i64>,
    host_id: i64,
}

/// The first message of a batch that somebody was not there for.
struct Unattended<'a> {
    to: Side,
    message: &'a Message,
    /// How far they had seen the room.
    seen: Seen,
    host_id: i64,
}

/// What of a batch nobody was there for, by room.
#[derive(Default)]
pub(super) struct UnattendedRooms<'a>(BTreeMap<(i64, bool), Unattended<'a>>);

impl<'a> UnattendedRooms<'a> {
    /// Notes a message that nobody of the other side was in the room for. A guest without an address is nobody's concern.
    pub(super) fn add(&mut self, message: &'a Message, contact: &Contact, host_seen: Seen) {
        let (to, seen) = match message.side {
            Side::Guest => (Side::Host, host_seen),
            Side::Host if contact.guest_email.is_none() => return,
            Side::Host => (Side::Guest, Seen { seq: contact.guest_seen_seq, at: contact.guest_seen_at }),
        };
        self.0.entry((message.chatroom.0, to.is_host())).or_insert(Unattended {
            to,
            message,
            seen,
            host_id: contact.host_id,
        });
    }

    /// Makes those due who are not yet, and were not told already in this absence. `due_from` is the time that the span before
    /// the e-mail is counted from, given that of the message.
    pub(super) async fn write(
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
        // `mailed_at` of a row that is there stays as it is.
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

/// When to e-mail about a message that arrives `now` and was missed; `None` when that is settled already.
fn due_at(row: Option<&notification::Model>, seen: Seen, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let gathered = now + GATHER;
    let Some(row) = row else { return Some(gathered) };
    // `first_seq` is the first message missed in that absence: a recipient who has seen it has been back since.
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
    // A clock that was ahead when the last e-mail was written delays this one by no more than the interval.
    let mailed_at = row.mailed_at.filter(|_| !row.to_host);
    Some(mailed_at.map_or(gathered, |mailed_at| gathered.max(mailed_at.min(now) + MAIL_INTERVAL)))
}

/// The latest that an e-mail can be due: a later time was written by a clock that was ahead.
pub(super) fn latest_due(now: DateTime<Utc>) -> DateTime<Utc> {
    now + GATHER + MAIL_INTERVAL
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

    fn seen(seq: Option<i64>, seconds: i64) -> Seen {
        Seen { seq, at: Some(at(seconds)) }
    }

    #[test]
    fn the_first_message_of_an_absence_makes_him_due_and_the_others_wait_with_it() {
        let nothing = Seen::default();
        assert_eq!(due_at(None, nothing, at(0)), Some(at(60)));
        let due = row(0, Some(60), None);
        assert_eq!(due_at(Some(&due), nothing, at(30)), None);
        // The number decides, regardless of the times.
        assert_eq!(due_at(Some(&due), seen(Some(0), 10), at(30)), None);
        assert_eq!(due_at(Some(&due), seen(Some(1), -5), at(30)), Some(at(90)), "back, and away again");
        // Without one, the time.
        assert_eq!(due_at(Some(&due), seen(None, -5), at(30)), None);
        assert_eq!(due_at(Some(&due), seen(None, 10), at(30)), Some(at(90)));
    }

    #[test]
    fn who_was_mailed_is_mailed_again_only_after_he_was_back_and_an_hour_later() {
        let mailed = row(0, None, Some(60));
        assert_eq!(due_at(Some(&mailed), Seen::default(), at(10_000)), None);
        assert_eq!(due_at(Some(&mailed), seen(Some(0), 100), at(10_000)), None);
        assert_eq!(due_at(Some(&mailed), seen(Some(1), 100), at(200)), Some(at(60 + 3_600)));
        assert_eq!(due_at(Some(&mailed), seen(Some(1), -100), at(10_000)), Some(at(10_060)));
        assert_eq!(due_at(Some(&mailed), seen(None, 59), at(10_000)), None);
        assert_eq!(due_at(Some(&mailed), seen(None, 100), at(10_000)), Some(at(10_060)));
        assert_eq!(due_at(Some(&row(0, None, None)), Seen::default(), at(5)), Some(at(65)), "nothing came of it");
        let of_host = notification::Model { to_host: true, ..mailed.clone() };
        assert_eq!(due_at(Some(&of_host), Seen::default(), at(10_000)), None);
        assert_eq!(
            due_at(Some(&of_host), seen(Some(1), 100), at(200)),
            Some(at(260)),
            "digests have an interval of their own"
        );
        let waiting = notification::Model { awaits_consent: Some("mailbox".into()), ..row(0, None, None) };
        assert_eq!(due_at(Some(&waiting), Seen::default(), at(10_000)), None, "waits for consent");
        assert_eq!(due_at(Some(&waiting), seen(Some(1), 100), at(200)), Some(at(260)));
        let ahead = row(0, None, Some(86_400));
        assert_eq!(due_at(Some(&ahead), seen(Some(1), 100), at(200)), Some(at(200 + 3_600)), "not a day later");
    }
}
