//! Implements [`Recovery`] on Redis.

use async_trait::async_trait;
use fred::prelude::*;
use fred::types::{ClusterHash, CustomCommand};

use super::{RedisBroker, state_word, unexpected_reply};
use crate::backend::Unavailable;
use crate::backend::broker::recovery::{Reconciled, Recovery, RoomPage, WentBack};
use crate::backend::broker::{MessageLog as _, Partition};
use crate::backend::redis::call;
use crate::domain::RoomName;

/// Approximate number of rooms per page.
const PAGE: &str = "200";

#[async_trait]
impl Recovery for RedisBroker {
    async fn generation(&self) -> Result<Option<u64>, Unavailable> {
        // The generation must be readable while the node is suspended, because it determines when the suspension ends.
        let key = self.redis.installed()?.shared("generation");
        call(|| self.redis.client().get(&key)).await
    }

    async fn raise_generation(&self, generation: u64) -> Result<(), Unavailable> {
        // Only the leader writes the generation, so no other node writes it between this read and the write below.
        if self.generation().await?.is_some_and(|known| known >= generation) {
            return Ok(());
        }
        let key = self.redis.keys()?.shared("generation");
        call(|| self.redis.client().set::<(), _, _>(&key, generation as i64, None, None, false)).await
    }

    fn suspend(&self, differs: bool) {
        self.redis.suspend_for_database(differs);
    }

    async fn suspect(&self) -> Result<Option<WentBack>, Unavailable> {
        let mut worst = None;
        for partition in (0..self.partitions()).map(Partition) {
            let key = self.key(partition, "life")?;
            let found: Option<String> = call(|| self.redis.client().hget(&key, "suspect")).await?;
            let found = match found.as_deref() {
                Some("sql") => Some(WentBack::Sql),
                Some(_) => Some(WentBack::Redis),
                None => None,
            };
            worst = worst.max(found);
        }
        Ok(worst)
    }

    async fn begin_epoch(&self, partition: Partition) -> Result<(), Unavailable> {
        let nonce = u16::from_ne_bytes(self.rng.bytes());
        let args: Vec<Value> = vec![format!("{nonce:x}").into()];
        self.redis.eval(&self.scripts.begin_epoch, self.key(partition, "life")?, args).await.map(|_| ())
    }

    async fn clear_suspect(&self, partition: Partition) -> Result<(), Unavailable> {
        let key = self.key(partition, "life")?;
        call(|| self.redis.client().hdel::<(), _, _>(&key, "suspect")).await
    }

    async fn rooms(&self, partition: Partition, from: Option<String>) -> Result<RoomPage, Unavailable> {
        let idle = self.key(partition, "idle")?;
        let scan = CustomCommand::new_static("ZSCAN", ClusterHash::FirstKey, false);
        let args = vec![idle, from.unwrap_or_else(|| "0".to_owned()), "COUNT".to_owned(), PAGE.to_owned()];
        let (next, found): (String, Vec<String>) =
            call(|| self.redis.client().custom(scan.clone(), args.clone())).await?;
        // The answer contains pairs of room and score.
        let rooms = found.iter().step_by(2).filter_map(|name| name.parse::<RoomName>().ok()).collect();
        Ok(RoomPage { rooms, next: (next != "0").then_some(next) })
    }

    async fn reconcile(&self, room: &Reconciled) -> Result<Option<u64>, Unavailable> {
        let name = room.room;
        let keys = vec![self.room_key("room", name)?, self.room_key("log", name)?, self.key_of(name, "queue")?];
        let mut args: Vec<Value> = vec![
            name.as_str().into(),
            room.chatroom.0.into(),
            state_word(room.state).into(),
            (room.version as i64).into(),
            (room.stored as i64).into(),
            self.redis.node().as_str().into(),
            i64::from(room.is_forced).into(),
        ];
        args.extend(room.missing.iter().map(|seq| Value::from(*seq as i64)));
        let again = self.redis.eval(&self.scripts.reconcile, keys, args).await?;
        match again.as_i64() {
            Some(again @ 0..) => Ok(Some(again as u64)),
            Some(_) => Ok(None),
            None => Err(unexpected_reply("invalid number of messages")),
        }
    }
}
