//! Lists the rooms of a host. The list reflects every acknowledged message (SPEC 7): it is read from the database and
//! updated with newer messages from the broker.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::{RoomError, RoomFilter, RoomView, Rooms};
use crate::backend::Unavailable;
use crate::backend::broker::{RoomStatus, Tail, TailQuery};
use crate::domain::{ChatroomId, HostId, Room, RoomName};
use crate::protocol::chat::StoredFrame;
use crate::store::StoreError;

/// Maximum number of rooms per partition whose position in the list reflects messages that are not in the database yet.
/// The position of any other room is based on the database until its messages are archived.
const MAX_UNARCHIVED: usize = 1_000;

/// Status of a room in the broker, and its messages that are not in the database yet.
type Ahead = (Option<RoomStatus>, Option<Tail>);

/// Reason why rooms could not be compared with the broker.
#[derive(Debug, thiserror::Error)]
enum ReadAheadError {
    #[error(transparent)]
    Broker(#[from] Unavailable),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Maximum number of times that the rows are read if they change in the database while the broker is read.
const READS: usize = 3;

impl Rooms {
    /// Returns the number of rooms in a host's list, and one page of the list.
    ///
    /// # Errors
    /// Returns [`RoomError::Unavailable`] if the database could not be read.
    pub async fn list(
        &self,
        host: HostId,
        filter: RoomFilter,
        offset: u64,
        limit: u64,
    ) -> Result<(u64, Vec<RoomView>), RoomError> {
        // The broker is read before the page. The page then includes messages that are archived between the two reads.
        let ahead = self.rooms_ahead(host, &filter).await?;
        if ahead.is_empty() {
            let (count, rooms) = self.store.rooms().list(host, filter, offset, limit).await?;
            return Ok((count, self.views(rooms).await?));
        }
        // The query starts earlier by the number of rooms ahead, because the merge may place that many rooms before the
        // page.
        let start = offset.saturating_sub(ahead.len() as u64);
        let ids: Vec<ChatroomId> = ahead.iter().map(|view| view.room.id).collect();
        let (count, rest) = self.store.rooms().list_except(host, filter, &ids, start, limit + offset - start).await?;
        let page = merge(ahead, rest, start, offset, limit);
        let missing = page.iter().filter_map(|place| place.as_ref().err()).cloned().collect();
        let mut others = self.views(missing).await?.into_iter();
        Ok((count, page.into_iter().filter_map(|place| place.ok().or_else(|| others.next())).collect()))
    }

    /// Returns the rooms that move up in the list because of messages that are not in the database yet. Returns an
    /// empty list while the broker is unavailable; the room list then shows the state of the database.
    async fn rooms_ahead(&self, host: HostId, filter: &RoomFilter) -> Result<Vec<RoomView>, RoomError> {
        let Some(recent) = &self.recent else { return Ok(Vec::new()) };
        let names = match recent.unarchived_rooms(host, MAX_UNARCHIVED).await {
            Ok(names) => names,
            Err(error) => {
                tracing::debug!(%error, "failed to read unarchived rooms from redis, listing rooms from sql only");
                Vec::new()
            }
        };
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.store.rooms().list_named(host, filter, &names).await?;
        let before: HashMap<ChatroomId, DateTime<Utc>> = rows.iter().map(|room| (room.id, room.updated_at)).collect();
        let mut views = self.views(rows).await?;
        views.retain(|view| before.get(&view.room.id).is_some_and(|before| view.room.updated_at > *before));
        Ok(views)
    }

    /// Returns a room with its unread count and the presence of its guest.
    ///
    /// # Errors
    /// Returns [`RoomError::Unavailable`] if the database could not be read.
    pub async fn view(&self, room: Room) -> Result<RoomView, RoomError> {
        self.views(vec![room]).await?.pop().ok_or(RoomError::NotFound)
    }

    pub(super) async fn views(&self, mut rooms: Vec<Room>) -> Result<Vec<RoomView>, RoomError> {
        let found = match self.read_ahead(&mut rooms).await {
            Ok(found) => found,
            Err(ReadAheadError::Store(error)) => return Err(error.into()),
            // While the broker is unavailable, the list shows the state of the database.
            Err(ReadAheadError::Broker(error)) => {
                tracing::debug!(%error, "failed to read room states from redis, listing rooms from sql only");
                vec![(None, None); rooms.len()]
            }
        };
        let mut uncounted = HashMap::new();
        for room in rooms.iter().filter(|room| room.counts.through < room.last_seq) {
            let above = room.counts.through.max(room.purged_through);
            uncounted.insert(room.id, self.store.rooms().count_unread_above(room, above).await?);
        }
        let view = |(mut room, (status, tail)): (Room, Ahead)| {
            let mut unread = room.counts.unread + uncounted.get(&room.id).copied().unwrap_or(0);
            if let Some(tail) = tail {
                unread += tail.unread;
                apply_tail(&mut room, &tail);
            }
            let (guests, hosts) = status.map_or((0, 0), |status| (status.guests, status.hosts));
            if hosts > 0 {
                // While a socket of the host is in the room, the messages of the room count as read (SPEC 4).
                unread = 0;
                room.last_checked_at = room.last_checked_at.max(room.latest_msg_at);
            }
            room.last_checked_at = shown_check(&room, unread);
            RoomView { room, unread, guest_online: guests > 0 }
        };
        Ok(rooms.into_iter().zip(found).map(view).collect())
    }

    /// Reads the status and the newest messages of rooms from the broker. If the row of a room has changed since it was
    /// read, reads it again, because the broker may have removed messages that were archived.
    async fn read_ahead(&self, rooms: &mut [Room]) -> Result<Vec<Ahead>, ReadAheadError> {
        let names: Vec<RoomName> = rooms.iter().map(|room| room.name).collect();
        let mut reads = 0;
        loop {
            reads += 1;
            let statuses = self.states.status(&names).await?;
            let queries: Vec<Option<TailQuery>> =
                rooms.iter().zip(&statuses).map(|(room, status)| tail_query(room, status.as_ref()?)).collect();
            let asked: Vec<TailQuery> = queries.iter().flatten().copied().collect();
            let tails = match &self.recent {
                Some(recent) if !asked.is_empty() => recent.tails(&asked).await?,
                _ => vec![None; asked.len()],
            };
            let mut tails = tails.into_iter();
            let tails: Vec<Option<Tail>> =
                queries.iter().map(|query| query.and_then(|_| tails.next().flatten())).collect();
            let is_outdated = |at: usize| {
                let is_archived = statuses[at].as_ref().is_some_and(|status| status.archived > rooms[at].last_seq);
                is_archived || (queries[at].is_some() && tails[at].is_none())
            };
            let outdated: HashSet<ChatroomId> =
                (0..rooms.len()).filter(|at| is_outdated(*at)).map(|at| rooms[at].id).collect();
            if outdated.is_empty() || reads == READS {
                return Ok(statuses.into_iter().zip(tails).collect());
            }
            let ids: Vec<ChatroomId> = outdated.into_iter().collect();
            for row in self.store.rooms().get_many(&ids).await? {
                if let Some(room) = rooms.iter_mut().find(|room| room.id == row.id) {
                    *room = row;
                }
            }
        }
    }
}

/// Returns the query for the messages that are missing from the row of a room. Returns `None` if the row is up to date
/// or the broker has the room with another id.
fn tail_query(room: &Room, status: &RoomStatus) -> Option<TailQuery> {
    let after = room.last_seq.max(room.purged_through);
    (status.chatroom == room.id && status.seq > after).then_some(TailQuery {
        room: room.name,
        after,
        through: status.seq,
        seen: room.checked_seq.unwrap_or(0),
        seen_at: room.last_checked_at.filter(|_| room.checked_seq.is_none()),
    })
}

/// Updates a room with the values that its row will contain after its messages are archived.
fn apply_tail(room: &mut Room, tail: &Tail) {
    let Ok(newest) = serde_json::from_slice::<StoredFrame<'_>>(&tail.newest.frame) else {
        tracing::error!(room = %room.name, "failed to decode newest message of room");
        return;
    };
    room.latest_msg = Some(newest.message.into_owned());
    room.latest_msg_at = Some(tail.newest.accepted_at);
    room.updated_at = room.updated_at.max(tail.newest.accepted_at);
}

/// Returns `lastCheckedAt` for clients. Clients compare it with `latestMsgAt`, which may come from another clock. The
/// result is therefore adjusted: if both times exist, it is earlier than `latestMsgAt` if and only if the room has
/// unread messages.
fn shown_check(room: &Room, unread: u64) -> Option<DateTime<Utc>> {
    let checked = room.last_checked_at?;
    Some(match room.latest_msg_at {
        Some(latest) if unread > 0 => checked.min(latest - TimeDelta::milliseconds(1)),
        Some(latest) => checked.max(latest),
        None => checked,
    })
}

/// Merges two parts of a list and returns the page of `limit` rooms from `offset`. `ahead` is unordered. `rest` is in
/// list order and starts at position `start` of the list without the rooms of `ahead`. If `start` is above 0, rooms of
/// `ahead` that sort before all of `rest` belong to earlier pages.
fn merge(
    mut ahead: Vec<RoomView>,
    rest: Vec<Room>,
    start: u64,
    offset: u64,
    limit: u64,
) -> Vec<Result<RoomView, Room>> {
    ahead.sort_by_key(|view| std::cmp::Reverse(place(&view.room)));
    let (mut ahead, mut rest) = (ahead.into_iter().peekable(), rest.into_iter().peekable());
    let mut merged = Vec::with_capacity(ahead.len() + rest.len());
    loop {
        let is_ahead = match (ahead.peek(), rest.peek()) {
            (Some(view), Some(room)) => place(&view.room) > place(room),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => break,
        };
        let next = if is_ahead { ahead.next().map(Ok) } else { rest.next().map(Err) };
        merged.extend(next);
    }
    merged.into_iter().skip((offset - start) as usize).take(limit as usize).collect()
}

/// Returns the key by which the list is sorted in descending order.
fn place(room: &Room) -> (bool, Option<DateTime<Utc>>, DateTime<Utc>, bool, ChatroomId) {
    (room.is_fixed, room.fixed_at, room.updated_at, room.is_closed, room.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RoomCounts;

    fn room(id: i64, updated: i64) -> Room {
        let at = DateTime::from_timestamp(updated, 0).unwrap();
        Room {
            id: ChatroomId(id),
            host: HostId(1),
            guest: "guest".into(),
            name: RoomName::from_random([id as u8; 16]),
            latest_msg: None,
            latest_msg_at: None,
            last_checked_at: None,
            checked_seq: None,
            is_closed: false,
            closed_at: None,
            is_fixed: false,
            fixed_at: None,
            created_at: at,
            updated_at: at,
            last_seq: 0,
            last_epoch: None,
            state_version: 0,
            purged_through: 0,
            counts: RoomCounts::default(),
            has_contact: false,
        }
    }

    /// Each page of two merged lists of any length equals the same page of the whole list.
    #[test]
    fn a_page_of_two_merged_lists_equals_that_of_the_whole_list() {
        for ahead in [vec![1, 5, 9], vec![9], vec![0, 12], vec![3, 4, 5, 6], vec![11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]]
        {
            let rest: Vec<i64> = (0..13).rev().filter(|at| !ahead.contains(at)).collect();
            for (offset, limit) in (0..14_u64).flat_map(|offset| (1..5_u64).map(move |limit| (offset, limit))) {
                let start = offset.saturating_sub(ahead.len() as u64);
                let read = rest.iter().skip(start as usize).take((limit + offset - start) as usize);
                let views = ahead.iter().map(|at| RoomView { room: room(*at, *at), unread: 0, guest_online: false });
                let page = merge(views.collect(), read.map(|at| room(*at, *at)).collect(), start, offset, limit);
                let ids: Vec<i64> = page
                    .iter()
                    .map(|place| place.as_ref().map_or_else(|room| room.id.0, |view| view.room.id.0))
                    .collect();
                let wanted: Vec<i64> = (0..13).rev().skip(offset as usize).take(limit as usize).collect();
                assert_eq!(ids, wanted, "{ahead:?} {offset} {limit}");
            }
        }
    }
}
