//! Digests to hosts (SPEC 8): one e-mail for all rooms. A host receives at most one digest per [`INTERVAL`], and each
//! room is included at most once per absence.
//!
//! A digest is one transaction. It takes the host's lock, which is the row of `host_digest`, and then the locks of the
//! rooms.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::domain::{ChatroomId, Host, HostId, Message, Room};
use crate::store::entity::{chatroom, host_digest, notification};
use crate::store::mails::mail::insert_mail;
use crate::store::notifications::{active_host, is_row, missed, without_mail};
use crate::store::rooms::row::to_room;
use crate::store::{
    DueNotification, EXCERPT, NotificationDecision, NotificationRepository, StoreError, WriteMail, millis, to_column,
};

/// Minimum time between two digests to a host.
const INTERVAL: TimeDelta = TimeDelta::minutes(15);

/// Maximum number of rooms that one digest covers. Further rooms wait for the next digest.
pub const PENDING_ROOMS: u64 = 200;

/// Maximum number of rooms whose messages a digest shows.
pub const SHOWN_ROOMS: usize = 10;

/// Maximum number of messages in a digest.
const SHOWN_MESSAGES: usize = 30;

/// Messages that a host missed, as the content of one digest.
#[derive(Clone, Debug)]
pub struct HostDigest {
    /// Recipient of the digest.
    pub host: Host,
    /// Rooms that are shown, by ascending id, at most [`SHOWN_ROOMS`].
    pub rooms: Vec<RoomDigest>,
    /// Number of rooms that are not shown.
    pub others: usize,
}

/// Messages that a host missed in one room.
#[derive(Clone, Debug)]
pub struct RoomDigest {
    /// Room of the messages.
    pub room: Room,
    /// Missed messages, oldest first.
    pub messages: Vec<Message>,
    /// Whether more messages were missed than are shown.
    pub more: bool,
}

/// Decision about the rooms of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostDigestOutcome {
    /// One decision per given room, in the given order.
    Decided(Vec<NotificationDecision>),
    /// The last digest is too recent. The rooms become due again when the next digest may be written.
    Deferred,
}

impl NotificationRepository<'_> {
    /// Returns the rooms that wait for a digest to a host, due or not, at most [`PENDING_ROOMS`].
    pub async fn pending_rooms(self, host: HostId) -> Result<Vec<DueNotification>, StoreError> {
        let pending = notification::Entity::find()
            .filter(notification::Column::HostId.eq(host.0))
            .filter(notification::Column::ToHost.eq(true))
            .filter(notification::Column::DueAt.is_not_null())
            .order_by_asc(notification::Column::DueAt)
            .limit(PENDING_ROOMS);
        self.store
            .run("digests", || async { self.with_rooms(pending.clone().all(&self.store.reader).await?).await })
            .await
    }

    /// Postpones the due notifications of rooms until the next digest to their host may be written. Returns the number
    /// of postponed notifications, or `None` if the digest may be written now.
    pub async fn defer_digest(
        self,
        host: HostId,
        rooms: &[ChatroomId],
        now: DateTime<Utc>,
    ) -> Result<Option<u64>, StoreError> {
        let now = millis(now);
        let row = self.store.run("digests", || host_digest::Entity::find_by_id(host.0).one(&self.store.reader)).await?;
        let Some(next) = row.and_then(|row| next_digest(&row, now)) else { return Ok(None) };
        let postponed = self
            .store
            .run("digests", || {
                // This update runs without the locks of the rooms, because it only changes the time at which the
                // notifications are processed again.
                notification::Entity::update_many()
                    .col_expr(notification::Column::DueAt, next.into())
                    .filter(notification::Column::ToHost.eq(true))
                    .filter(notification::Column::DueAt.lte(now))
                    .filter(notification::Column::ChatroomId.is_in(rooms.iter().map(|room| room.0)))
                    .exec(&self.store.writer)
            })
            .await?;
        Ok(Some(postponed.rows_affected))
    }

    /// Decides about the pending notifications of a host. The flag of each room states whether the host is present in
    /// the room. Presence must be queried after the rooms were read. The messages that the host missed in rooms where
    /// they are absent become one e-mail.
    pub async fn decide_for_host(
        self,
        host: HostId,
        rooms: &[(bool, DueNotification)],
        now: DateTime<Utc>,
        write: &dyn WriteMail,
    ) -> Result<HostDigestOutcome, StoreError> {
        self.store.run("digests", || self.decide_for_host_once(host, rooms, millis(now), write)).await
    }

    async fn decide_for_host_once(
        self,
        host: HostId,
        rooms: &[(bool, DueNotification)],
        now: DateTime<Utc>,
        write: &dyn WriteMail,
    ) -> Result<HostDigestOutcome, DbErr> {
        let tx = self.store.begin().await?;
        if next_digest(&lock_digest(&tx, host).await?, now).is_some() {
            return Ok(HostDigestOutcome::Deferred);
        }
        let mut decisions = Decisions::read(&tx, host, rooms).await?;
        let to_mail = decisions.to_mail();
        let digest = match active_host(&tx, host.0).await?.filter(|host| host.config.email_notifications) {
            Some(host) => decisions.digest(&tx, host, &to_mail).await?,
            None => None,
        };
        let mail = digest.as_ref().and_then(|digest| write.host_digest(digest));
        if let Some(mail) = &mail {
            insert_mail(&tx, mail, now).await?;
            host_digest::Entity::update_many()
                .col_expr(host_digest::Column::MailedAt, now.into())
                .filter(host_digest::Column::HostId.eq(host.0))
                .exec(&tx)
                .await?;
        }
        decisions.finish(&tx, mail.is_some(), now).await?;
        tx.commit().await?;
        let settled = rooms.iter().map(|(_, due)| decisions.settled(due.chatroom)).collect();
        Ok(HostDigestOutcome::Decided(settled))
    }
}

/// Returns the time at which the next digest may be written, or `None` if it may be written now. If a clock was ahead
/// at the last digest, the next digest is delayed by at most [`INTERVAL`].
fn next_digest(row: &host_digest::Model, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let next = row.mailed_at?.min(now) + INTERVAL;
    (next > now).then_some(next)
}

async fn lock_digest(tx: &DatabaseTransaction, host: HostId) -> Result<host_digest::Model, DbErr> {
    let new = host_digest::ActiveModel { host_id: Set(host.0), mailed_at: Set(None) };
    let same = OnConflict::column(host_digest::Column::HostId).update_column(host_digest::Column::HostId).to_owned();
    host_digest::Entity::insert(new).on_conflict(same).exec_without_returning(tx).await?;
    let row = host_digest::Entity::find_by_id(host.0).lock_exclusive().one(tx).await?;
    row.ok_or_else(|| DbErr::RecordNotFound("host_digest".to_owned()))
}

/// Decisions about the rooms of a host. The rooms are locked.
struct Decisions {
    /// Rooms that may contain messages to e-mail.
    open: BTreeMap<i64, (chatroom::Model, notification::Model)>,
    decided: HashMap<i64, NotificationDecision>,
    /// Sequence number of the first missed message, per room.
    first_missed: HashMap<i64, i64>,
}

impl Decisions {
    async fn read(tx: &DatabaseTransaction, host: HostId, rooms: &[(bool, DueNotification)]) -> Result<Self, DbErr> {
        let ids = || rooms.iter().map(|(_, due)| due.chatroom.0);
        let locked = chatroom::Entity::find()
            .filter(chatroom::Column::Id.is_in(ids()))
            .filter(chatroom::Column::HostId.eq(host.0))
            .order_by_asc(chatroom::Column::Id)
            .lock_exclusive()
            .all(tx)
            .await?;
        let known = notification::Entity::find()
            .filter(notification::Column::ChatroomId.is_in(ids()))
            .filter(notification::Column::ToHost.eq(true))
            .all(tx)
            .await?;
        let mut known: HashMap<i64, notification::Model> =
            known.into_iter().map(|row| (row.chatroom_id, row)).collect();
        let mut locked: HashMap<i64, chatroom::Model> = locked.into_iter().map(|row| (row.id, row)).collect();
        let mut decisions = Self { open: BTreeMap::new(), decided: HashMap::new(), first_missed: HashMap::new() };
        for (is_present, due) in rooms {
            let id = due.chatroom.0;
            let known = known.remove(&id).filter(|known| known.due_at == Some(due.due_at));
            let (Some(row), Some(known)) = (locked.remove(&id), known) else {
                decisions.decided.insert(id, NotificationDecision::Changed);
                continue;
            };
            match without_mail(&row, due, *is_present) {
                Some(settled) => _ = decisions.decided.insert(id, settled),
                None => _ = decisions.open.insert(id, (row, known)),
            }
        }
        Ok(decisions)
    }

    /// Returns the rooms that have no decision yet.
    fn to_mail(&self) -> Vec<i64> {
        self.open.keys().copied().collect()
    }

    /// Collects the missed messages. Returns `None` if there are none.
    async fn digest(
        &mut self,
        tx: &DatabaseTransaction,
        host: Host,
        rooms: &[i64],
    ) -> Result<Option<HostDigest>, DbErr> {
        let most = (SHOWN_MESSAGES / rooms.len().clamp(1, SHOWN_ROOMS)).min(EXCERPT);
        let (mut shown, mut others) = (Vec::new(), 0);
        for id in rooms {
            let Some((row, known)) = self.open.get(id) else { continue };
            let (messages, more) = missed(tx, row, known, most).await?;
            let Some(first) = messages.first() else {
                self.open.remove(id);
                self.decided.insert(*id, NotificationDecision::Read);
                continue;
            };
            self.first_missed.insert(*id, to_column(first.seq));
            if shown.len() < SHOWN_ROOMS {
                shown.push(RoomDigest { room: to_room(row.clone())?, messages, more });
            } else {
                others += 1;
            }
        }
        Ok((!shown.is_empty()).then_some(HostDigest { host, rooms: shown, others }))
    }

    /// Records the decisions. If `is_mailed`, the e-mail contains the rooms that have no decision yet. Otherwise, no
    /// e-mail could be written for these rooms.
    async fn finish(&mut self, tx: &DatabaseTransaction, is_mailed: bool, now: DateTime<Utc>) -> Result<(), DbErr> {
        use notification::Column::{ChatroomId, DueAt, FirstSeq, MailedAt, ToHost};
        for (id, _) in std::mem::take(&mut self.open) {
            self.decided
                .insert(id, if is_mailed { NotificationDecision::Mailed } else { NotificationDecision::Unwanted });
        }
        let settled = |is: &dyn Fn(NotificationDecision) -> bool| -> Vec<i64> {
            self.decided.iter().filter(|(_, settled)| is(**settled)).map(|(id, _)| *id).collect()
        };
        let done = || {
            let done = notification::Entity::update_many().filter(ToHost.eq(true));
            done.col_expr(DueAt, Option::<DateTime<Utc>>::None.into())
        };
        let not_mailed =
            settled(&|settled| !matches!(settled, NotificationDecision::Changed | NotificationDecision::Mailed));
        if !not_mailed.is_empty() {
            done().filter(ChatroomId.is_in(not_mailed)).exec(tx).await?;
        }
        for id in settled(&|settled| settled == NotificationDecision::Mailed) {
            let mut update = notification::Entity::update_many()
                .col_expr(DueAt, Option::<DateTime<Utc>>::None.into())
                .col_expr(MailedAt, now.into());
            if let Some(first) = self.first_missed.get(&id) {
                // The next absence starts at this message. A read position at or above `first_seq` then means that the
                // host has returned since this e-mail.
                update = update.col_expr(FirstSeq, (*first).into());
            }
            update.filter(is_row((id, true))).exec(tx).await?;
        }
        Ok(())
    }

    fn settled(&self, room: ChatroomId) -> NotificationDecision {
        self.decided.get(&room.0).copied().unwrap_or(NotificationDecision::Changed)
    }
}
