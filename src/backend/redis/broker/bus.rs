//! Implements [`Bus`] and [`BusHealth`] on Redis: rooms use sharded pub/sub, and account changes use a stream.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use fred::prelude::*;
use fred::types::streams::{XCapKind, XCapTrim};

use super::{RedisBroker, listener, publication};
use crate::backend::Unavailable;
use crate::backend::broker::{Bus, BusHealth, Sink};
use crate::backend::redis::call;
use crate::domain::{Control, RoomName, Side};

/// Approximate number of account changes that are kept for nodes that reconnect.
const CONTROL_LENGTH: i64 = 1_000;

#[async_trait]
impl Bus for RedisBroker {
    async fn subscribe(&self, sink: Arc<dyn Sink>) -> Result<(), Unavailable> {
        listener::start(self.redis.clone(), sink, self.probes.clone(), self.clocks.clone()).await
    }

    async fn notify(&self, room: RoomName, from: Side, frame: Bytes) -> Result<(), Unavailable> {
        let publication = publication::notice(room, from, &frame);
        let (client, bus) = (self.redis.client(), self.key_of(room, "bus")?);
        call(|| client.spublish::<(), _, _>(&bus, publication.clone())).await
    }

    async fn publish_control(&self, control: Control) -> Result<(), Unavailable> {
        let json = serde_json::to_string(&control).map_err(|error| Unavailable(error.to_string().into()))?;
        let (client, stream) = (self.redis.client(), self.redis.keys()?.control());
        call(|| {
            let cap = (XCapKind::MaxLen, XCapTrim::AlmostExact, CONTROL_LENGTH, None::<i64>);
            client.xadd::<(), _, _, _, _>(stream, false, cap, "*", ("e", &json))
        })
        .await?;
        call(|| client.publish::<(), _, _>(stream, "")).await
    }
}

impl BusHealth for RedisBroker {
    fn is_receiving(&self) -> bool {
        self.probes.is_receiving()
    }
}
