//! What every node does by the clock, all the time: shows that it lives, watches its stores, and finishes what others left. What
//! one node does for all of them is in `duties`.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::node::Node;
use crate::accounts::Accounts;
use crate::hub::Hub;
use crate::redis::Redis;
use crate::relay::SWEEP_INTERVAL;
use crate::shutdown::Shutdown;
use crate::store::Store;

/// How often a node renews its lease, and asks whether the broker answers.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// How often SQL is asked whether it answers.
const SQL_INTERVAL: Duration = Duration::from_secs(5);

/// How often changes of rooms are looked for whose node did not get round to them.
const EVENTS_INTERVAL: Duration = Duration::from_secs(5);

/// How often the logins behind open sockets are looked up: one that ran out by itself is announced by nobody.
const LOGINS_INTERVAL: Duration = Duration::from_secs(60);

pub(super) fn start(node: &Node, store: &Store, redis: Option<&Redis>, shutdown: &Shutdown) {
    if let Some(redis) = redis.cloned() {
        let (health, broker) = (node.health.clone(), node.broker.clone());
        every(shutdown, HEARTBEAT_INTERVAL, move || {
            let (redis, health, broker) = (redis.clone(), health.clone(), broker.clone());
            async move {
                let beat = redis.heartbeat().await;
                health.set_broker(beat.is_ok() && broker.hears());
                if let Err(error) = beat {
                    tracing::warn!(%error, "the broker does not answer");
                }
            }
        });
    }
    if redis.is_some() {
        // A single node hears itself.
        let (mut sweep, stop) = (node.sweep(), shutdown.stopping_token());
        shutdown.spawn(async move {
            let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                sweep.step().await;
            }
        });
    }
    let (health, watched, is_broker) = (node.health.clone(), store.clone(), redis.is_none());
    every(shutdown, SQL_INTERVAL, move || {
        let (health, store) = (health.clone(), watched.clone());
        async move {
            let answer = store.ping().await;
            health.set_sql(answer.is_ok());
            if is_broker {
                // A single node accepts into SQL.
                health.set_broker(answer.is_ok());
            }
            if let Err(error) = answer {
                tracing::warn!(%error, "SQL does not answer");
            }
        }
    });
    let (accounts, hub) = (node.accounts.clone(), node.hub.clone());
    every(shutdown, LOGINS_INTERVAL, move || {
        let (accounts, hub) = (accounts.clone(), hub.clone());
        async move { end_dead_logins(&accounts, &hub).await }
    });
    let rooms = node.rooms.clone();
    every(shutdown, EVENTS_INTERVAL, move || {
        let rooms = rooms.clone();
        async move {
            if let Err(error) = rooms.redo_events().await {
                tracing::debug!(%error, "changes of rooms wait");
            }
        }
    });
}

/// Ends the sockets of logins that are over (SPEC 4: 4001).
async fn end_dead_logins(accounts: &Accounts, hub: &Hub) {
    for sid in hub.logins() {
        match accounts.is_alive(&sid).await {
            Ok(true) => {}
            Ok(false) => hub.end_login(&sid),
            Err(error) => {
                tracing::debug!(%error, "whether logins are over is asked again");
                return;
            }
        }
    }
}

/// Does something again and again until background work is to end.
fn every<F>(shutdown: &Shutdown, interval: Duration, work: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let stop = shutdown.stopping_token();
    shutdown.spawn(async move {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            work().await;
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::accounts::NewAccount;
    use crate::accounts::tokens::TokenKeys;
    use crate::clock::{Chance, Clock as _, ManualClock, SystemClock};
    use crate::domain::RoomName;
    use crate::hub::{Identity, Place};
    use crate::protocol::Close;
    use crate::store::Dialect;
    use crate::store::testing::on_fresh;

    #[tokio::test]
    async fn a_login_that_nobody_renews_for_a_week_ends_with_its_sockets() {
        on_fresh(Dialect::Sqlite, |store, _| async move {
            let clock = Arc::new(ManualClock::new(SystemClock.now()));
            let keys = TokenKeys::new(&["a-secret-of-the-tests-that-is-long-enough"]).unwrap();
            let nobody = Arc::new(|_| Box::pin(async {}) as futures_util::future::BoxFuture<'static, ()>);
            let chance = Chance::from_seed(1);
            let accounts = Accounts::new(store, clock.clone(), chance.clone(), keys, nobody);
            let new = NewAccount {
                email: "dev@shop.example".into(),
                password: "pass word".into(),
                service_name: "Shop".into(),
                service_expl: String::new(),
                service_domain: None,
            };
            accounts.create_host(new).await.unwrap();
            let login = accounts.login("dev@shop.example", "pass word").await.unwrap();
            let claims = accounts.authenticate(&login.tokens.access).await.unwrap();

            let hub = Hub::new(chance);
            let socket = hub.connection(Identity::Host { host: login.host.id, sid: claims.sid.into() });
            let _guard = hub.register(Place::Room(RoomName::from_random([1; 16])), socket.clone());
            end_dead_logins(&accounts, &hub).await;
            assert_eq!(socket.ending(), None);
            clock.advance(Duration::from_secs(7 * 24 * 3_600 + 1));
            end_dead_logins(&accounts, &hub).await;
            assert_eq!(socket.ending(), Some(Close::Unauthenticated));
        })
        .await;
    }
}
