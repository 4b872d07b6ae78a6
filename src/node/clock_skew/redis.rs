//! Reads the clocks of Redis servers.

use std::time::Instant;

use chrono::DateTime;
use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::Server;
use fred::types::{ClusterHash, CustomCommand, Value};

use crate::backend::Unavailable;
use crate::backend::redis::{Redis, call, within};
use crate::domain::clock::Reading;

/// Reads the clock of each Redis server to which the node is connected: the primary, or every primary of a Redis
/// Cluster.
pub(super) async fn readings(redis: &Redis) -> Result<Vec<(String, Reading)>, Unavailable> {
    let client = redis.client();
    let mut servers = client.active_connections();
    if servers.is_empty() {
        within(client.wait_for_connect()).await?;
        servers = client.active_connections();
    }
    let reading = servers.iter().map(|server| async move {
        let reading = call(|| read(client, server)).await?;
        Ok::<_, Unavailable>((server.to_string(), reading))
    });
    futures_util::future::try_join_all(reading).await
}

async fn read(client: &Client, server: &Server) -> Result<Reading, fred::error::Error> {
    let time = CustomCommand::new_static("TIME", ClusterHash::FirstKey, false);
    let asked = Instant::now();
    let (seconds, micros): (i64, i64) = if client.is_clustered() {
        client.with_cluster_node(server).custom(time, Vec::<Value>::new()).await?
    } else {
        client.custom(time, Vec::<Value>::new()).await?
    };
    let answered = Instant::now();
    let shown = DateTime::from_timestamp_micros(seconds.saturating_mul(1_000_000).saturating_add(micros));
    let shown = shown.ok_or_else(|| fred::error::Error::new(fred::error::ErrorKind::Protocol, "TIME is no instant"))?;
    Ok(Reading { shown, asked, answered })
}
