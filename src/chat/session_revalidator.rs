//! Revalidates the accounts of this node's open host sockets. A socket is closed if its login was revoked or has
//! expired, or the account was deactivated. A status socket is also closed if the online status of its host was
//! disabled (SPEC 4, 5).
//!
//! Except for the expiry of a login, these changes are published as [`Control`](crate::domain::Control) events. This
//! module reads the database instead. It runs periodically, and also whenever an event may have been missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::DateTime;
use tokio::sync::Mutex;

use crate::accounts::Accounts;
use crate::accounts::hosts::Hosts;
use crate::backend::shutdown::Shutdown;
use crate::chat::hub::Hub;
use crate::domain::clock::{Agreement, Clock};
use crate::domain::{HostId, HostUuid};
use crate::protocol::Close;
use crate::protocol::status::status_frame;
use crate::store::{Store, StoreError};

/// Maximum number of logins or hosts per query.
const QUERY_HOSTS: usize = 500;

/// Delay before a failed check is retried.
const RETRY: Duration = Duration::from_secs(2);

/// Revalidates the host sessions of this node. Clones share their state.
#[derive(Clone)]
pub struct SessionRevalidator {
    hub: Arc<Hub>,
    store: Store,
    accounts: Accounts,
    hosts: Hosts,
    clock: Arc<dyn Clock>,
    clocks: Agreement,
    /// Whether a check has been requested and has not started yet.
    is_due: Arc<AtomicBool>,
    one_at_a_time: Arc<Mutex<()>>,
    shutdown: Shutdown,
}

impl std::fmt::Debug for SessionRevalidator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionRevalidator").field("is_due", &self.is_due).finish_non_exhaustive()
    }
}

impl SessionRevalidator {
    /// Creates the revalidator for the connections of `hub`.
    pub fn new(
        hub: Arc<Hub>,
        store: Store,
        accounts: Accounts,
        hosts: Hosts,
        clock: Arc<dyn Clock>,
        shutdown: Shutdown,
    ) -> Self {
        let (is_due, one_at_a_time) = (Arc::default(), Arc::default());
        let clocks = Agreement::assumed();
        Self { hub, store, accounts, hosts, clock, clocks, is_due, one_at_a_time, shutdown }
    }

    /// Suspends the expiry of logins while the clock skew of the cluster is above its limit or unknown.
    #[must_use]
    pub fn while_clocks_agree(mut self, clocks: Agreement) -> Self {
        self.clocks = clocks;
        self
    }

    /// Requests a check because events may have been missed. The check is retried until it succeeds.
    pub fn request_check(&self) {
        self.hosts.evict_all();
        if !self.is_due.swap(true, Ordering::Relaxed) {
            self.shutdown.spawn(self.clone().check_until_success());
        }
    }

    async fn check_until_success(self) {
        let _one = self.one_at_a_time.lock().await;
        // The flag is cleared before the database is read. A change that is missed after this point may not be visible
        // to the read and must schedule another check.
        self.is_due.store(false, Ordering::Relaxed);
        while let Err(error) = self.check().await {
            tracing::debug!(%error, "host session check failed, retrying");
            if self.shutdown.until_stopping(tokio::time::sleep(RETRY)).await.is_none() {
                return;
            }
        }
    }

    /// Closes the sockets whose login, account or status is no longer valid.
    ///
    /// # Errors
    /// Returns [`StoreError`] if the database could not be read. In that case, some sockets were not checked.
    pub async fn check(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        // While the clock may be wrong, no login expires, but sockets of revoked logins are still closed.
        let now = if self.clocks.holds() { now } else { DateTime::UNIX_EPOCH };
        let logins: Vec<Box<str>> = self.hub.logins().into_iter().collect();
        for part in logins.chunks(QUERY_HOSTS) {
            let part: Vec<&str> = part.iter().map(|sid| &**sid).collect();
            let alive = self.store.logins().active(&part, now).await?;
            for sid in part.into_iter().filter(|sid| !alive.iter().any(|alive| alive == sid)) {
                self.accounts.login_ended(sid);
                self.hub.close_login(sid);
            }
        }
        let hosts: Vec<HostId> = self.hub.hosts().into_iter().collect();
        for part in hosts.chunks(QUERY_HOSTS) {
            self.store.hosts().deactivated(part).await?.into_iter().for_each(|host| self.hub.close_host(host));
        }
        let statuses: Vec<HostUuid> = self.hub.statuses();
        for part in statuses.chunks(QUERY_HOSTS) {
            let hidden = self.store.hosts().hidden(part).await?;
            let offline = status_frame(false, &self.store.wire().wall_clock(self.clock.now()));
            hidden.into_iter().for_each(|host| self.hub.close_status(host, &offline, Close::Unavailable));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::NewAccount;
    use crate::accounts::tokens::TokenKeys;
    use crate::chat::hub::{Connection, Identity, Place, Registration};
    use crate::domain::Rng;
    use crate::domain::clock::{ManualClock, SystemClock};
    use crate::domain::{Host, HostConfig, RoomName};
    use crate::store::testing::on_fresh;
    use crate::store::{DeactivatedBy, Dialect};

    struct RevalidatorTest {
        clock: Arc<ManualClock>,
        accounts: Accounts,
        hub: Arc<Hub>,
        revalidator: SessionRevalidator,
        store: Store,
    }

    impl RevalidatorTest {
        fn on(store: Store) -> Self {
            let clock = Arc::new(ManualClock::new(SystemClock.now()));
            let keys = TokenKeys::new(&["a-secret-of-the-tests-that-is-long-enough"]).unwrap();
            let no_announcer = Arc::new(|_| Box::pin(async {}) as futures_util::future::BoxFuture<'static, ()>);
            let rng = Rng::from_seed(1);
            let accounts = Accounts::new(store.clone(), clock.clone(), rng.clone(), keys, no_announcer);
            let (hub, hosts) = (Hub::new(rng), Hosts::new(store.clone()));
            let shutdown = Shutdown::new();
            let revalidator =
                SessionRevalidator::new(hub.clone(), store.clone(), accounts.clone(), hosts, clock.clone(), shutdown);
            Self { clock, accounts, hub, revalidator, store }
        }

        /// Creates a host with three sockets: a chat socket and a status socket of the host, and the status socket of a
        /// guest who watches the host.
        async fn host(&self, name: &str) -> (Host, [(Arc<Connection>, Registration); 3]) {
            let new = NewAccount {
                email: format!("{name}@shop.example"),
                password: "pass word".into(),
                service_name: "Shop".into(),
                service_expl: String::new(),
                service_domain: None,
            };
            self.accounts.create_host(new).await.unwrap();
            let login = self.accounts.login(&format!("{name}@shop.example"), "pass word").await.unwrap();
            let claims = self.accounts.authenticate(&login.tokens.access).await.unwrap();
            let own = Identity::Host { host: login.host.id, sid: claims.sid.into() };
            let (room, status) = (Place::Room(RoomName::from_random([1; 16])), Place::Status(login.host.uuid));
            let sockets = [(room, own.clone()), (status, own), (status, Identity::Guest)].map(|(place, identity)| {
                let connection = self.hub.connection(identity);
                (connection.clone(), self.hub.register(place, connection))
            });
            (login.host, sockets)
        }

        async fn closes(&self, sockets: &[(Arc<Connection>, Registration)]) -> Vec<Option<Close>> {
            self.revalidator.check().await.unwrap();
            sockets.iter().map(|(connection, _)| connection.pending_close()).collect()
        }
    }

    #[tokio::test]
    async fn sockets_of_a_login_not_renewed_for_a_week_are_closed() {
        on_fresh(Dialect::Sqlite, |store, _| async move {
            let test = RevalidatorTest::on(store);
            let (_, sockets) = test.host("dev").await;
            assert_eq!(test.closes(&sockets).await, [None, None, None]);
            test.clock.advance(Duration::from_secs(7 * 24 * 3_600 + 1));
            let over = Some(Close::Unauthenticated);
            assert_eq!(test.closes(&sockets).await, [over, over, None]);
        })
        .await;
    }

    #[tokio::test]
    async fn while_the_clocks_disagree_logins_do_not_expire_but_can_be_ended() {
        on_fresh(Dialect::Sqlite, |store, _| async move {
            let mut test = RevalidatorTest::on(store);
            let clocks = Agreement::assumed();
            test.revalidator = test.revalidator.while_clocks_agree(clocks.clone());
            let (_, sockets) = test.host("dev").await;
            clocks.set(false);
            test.clock.advance(Duration::from_secs(8 * 24 * 3_600));
            assert_eq!(test.closes(&sockets).await, [None, None, None]);
            // The clock is corrected, and no socket was closed before the correction.
            test.clock.set(SystemClock.now());
            clocks.set(true);
            assert_eq!(test.closes(&sockets).await, [None, None, None]);
            clocks.set(false);
            let login = test.hub.logins().into_iter().next().unwrap();
            test.store.logins().end(&login, test.clock.now()).await.unwrap();
            let over = Some(Close::Unauthenticated);
            assert_eq!(test.closes(&sockets).await, [over, over, None]);
        })
        .await;
    }

    #[tokio::test]
    async fn sockets_of_deactivated_or_hidden_hosts_are_closed_without_an_announcement() {
        for dialect in [Dialect::Sqlite, Dialect::MySql] {
            on_fresh(dialect, |store, _| async move {
                let test = RevalidatorTest::on(store);
                let (hiding, hiding_sockets) = test.host("hiding").await;
                let (deactivated, deactivated_sockets) = test.host("deactivated").await;
                let (_, other) = test.host("other").await;
                test.store
                    .hosts()
                    .set_config(hiding.id, HostConfig { use_online_status: false, email_notifications: true })
                    .await
                    .unwrap();
                test.store.hosts().deactivate(deactivated.id, DeactivatedBy::Operator, test.clock.now()).await.unwrap();
                let (hidden, over) = (Some(Close::Unavailable), Some(Close::Unauthenticated));
                assert_eq!(test.closes(&hiding_sockets).await, [None, hidden, hidden]);
                assert_eq!(test.closes(&deactivated_sockets).await, [over, over, None]);
                assert_eq!(test.closes(&other).await, [None, None, None]);
            })
            .await;
        }
    }
}
