//! Implements [`RoomStates`] on Redis.

use async_trait::async_trait;
use fred::prelude::*;

use super::{RedisBroker, TOMBSTONE_TTL, answer, publication, state_word};
use crate::backend::Unavailable;
use crate::backend::broker::{Change, LogEntry, MemberCounts, RecentLog as _, RoomStates, RoomStatus};
use crate::domain::{RoomChange, RoomName};

impl RedisBroker {
    /// Returns the status of a room. Returns `None` if this server does not have the room. If `members` is not `None`,
    /// also sets the numbers of this node's connections in the room.
    pub(super) async fn room(
        &self,
        room: RoomName,
        members: Option<MemberCounts>,
    ) -> Result<Option<RoomStatus>, Unavailable> {
        let keys = vec![self.room_key("room", room)?, self.key_of(room, "idle")?];
        let node = if members.is_some() { self.redis.node().to_string() } else { String::new() };
        let MemberCounts { guests, hosts, away } = members.unwrap_or_default();
        let args: Vec<Value> = vec![node.into(), guests.into(), hosts.into(), away.into(), room.as_str().into()];
        let answer = self.redis.eval(&self.scripts.members, keys.clone(), args.clone()).await?;
        let Some(found) = answer::room(answer)? else { return Ok(None) };
        let mut alive = self.redis.live_nodes(false).await?;
        if found.unknown(&alive, self.redis.node()).next().is_some() {
            // The cached list is up to two seconds old, so a node that has just started may be missing from it.
            alive = self.redis.live_nodes(true).await?;
            let dead: Vec<String> = found.unknown(&alive, self.redis.node()).map(str::to_owned).collect();
            if members.is_some() && !dead.is_empty() {
                let args: Vec<Value> = args.into_iter().chain(dead.into_iter().map(Value::from)).collect();
                self.redis.eval(&self.scripts.members, keys, args).await?;
            }
        }
        Ok(Some(found.status(&alive, self.redis.node())))
    }
}

#[async_trait]
impl RoomStates for RedisBroker {
    async fn set_counts(&self, room: RoomName, counts: MemberCounts) -> Result<Option<RoomStatus>, Unavailable> {
        self.room(room, Some(counts)).await
    }

    async fn enter(
        &self,
        room: RoomName,
        counts: MemberCounts,
        newest: usize,
    ) -> Result<Option<(RoomStatus, Vec<LogEntry>)>, Unavailable> {
        if newest == 0 {
            return Ok(self.set_counts(room, counts).await?.map(|status| (status, Vec::new())));
        }
        // Both calls run concurrently. A single script for both would take three times as long, because Lua unpacks
        // every log entry.
        let counted = self.set_counts(room, counts);
        let (status, log) = tokio::try_join!(counted, self.log_before(room, None, newest))?;
        Ok(status.map(|status| (status, log)))
    }

    async fn status(&self, rooms: &[RoomName]) -> Result<Vec<Option<RoomStatus>>, Unavailable> {
        // The calls run concurrently, and the client pipelines them.
        futures_util::future::try_join_all(rooms.iter().map(|room| self.room(*room, None))).await
    }

    async fn apply(&self, change: Change) -> Result<(), Unavailable> {
        let room = change.room;
        let of_room = ["room", "log", "ids", "seed"].iter().map(|kind| self.room_key(kind, room));
        let keys = of_room.chain([self.key_of(room, "idle")]).collect::<Result<Vec<String>, _>>()?;
        let args: Vec<Value> = vec![
            (change.version as i64).into(),
            state_word(change.change.state()).into(),
            self.key_of(room, "bus")?.into(),
            publication::changed(&change).into(),
            room.as_str().into(),
            (TOMBSTONE_TTL.as_secs() as i64).into(),
        ];
        self.redis.eval(&self.scripts.apply, keys, args).await?;
        if change.change == RoomChange::Delete {
            self.delete_dead_letters(room, None).await?;
        }
        Ok(())
    }

    async fn delete_if_empty(&self, room: RoomName, version: u64) -> Result<bool, Unavailable> {
        self.delete_unused(room, version).await
    }
}
