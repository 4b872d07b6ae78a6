//! Implements [`Seeding`] on Redis.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fred::prelude::*;

use super::{RedisBroker, state_word};
use crate::backend::Unavailable;
use crate::backend::broker::{Change, Partition, RoomStates as _, Seed, Seeding, Ticket};
use crate::domain::{RoomChange, RoomName};

/// Lifetime of a ticket to seed a room.
const TICKET_TTL: Duration = Duration::from_secs(10);

#[async_trait]
impl Seeding for RedisBroker {
    async fn epoch(&self, partition: Partition) -> Result<Option<String>, Unavailable> {
        let answer = self.redis.eval(&self.scripts.epoch, self.key(partition, "life")?, Vec::<Value>::new()).await?;
        Ok(answer.as_string())
    }

    async fn begin_seed(&self, room: RoomName) -> Result<Option<Ticket>, Unavailable> {
        let ticket = format!("{:032x}", u128::from_ne_bytes(self.rng.bytes::<16>()));
        let keys = vec![self.room_key("room", room)?, self.room_key("seed", room)?];
        let args: Vec<Value> = vec![ticket.as_str().into(), (TICKET_TTL.as_millis() as i64).into()];
        let given = self.redis.eval(&self.scripts.begin_seed, keys, args).await?;
        Ok((given.as_i64() == Some(1)).then_some(Ticket(ticket)))
    }

    async fn finish_seed(&self, room: RoomName, ticket: Ticket, seed: Seed) -> Result<bool, Unavailable> {
        let keys = vec![
            self.room_key("room", room)?,
            self.room_key("seed", room)?,
            self.room_key("ids", room)?,
            self.key_of(room, "idle")?,
        ];
        let mut args: Vec<Value> = vec![
            ticket.0.into(),
            seed.chatroom.0.into(),
            seed.host.0.into(),
            state_word(seed.state).into(),
            (seed.version as i64).into(),
            (seed.seq as i64).into(),
            seed.epoch.unwrap_or_else(|| "unknown".into()).into(),
            seed.last_at.timestamp_millis().into(),
            room.as_str().into(),
        ];
        for (side, id, seq) in seed.ids {
            args.extend([(seq as i64).into(), format!("{}:{id}", side.letter()).into()]);
        }
        let made = self.redis.eval(&self.scripts.finish_seed, keys, args).await?;
        Ok(made.as_i64() == Some(1))
    }

    async fn mark_deleted(&self, room: RoomName) -> Result<(), Unavailable> {
        // This version is higher than every version that the database assigns. Nothing can reopen the room, because a
        // deleted row is never restored.
        let change = Change { room, change: RoomChange::Delete, version: u64::from(u32::MAX), notice: Bytes::new() };
        self.apply(change).await
    }
}
