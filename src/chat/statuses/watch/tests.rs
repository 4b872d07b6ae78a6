//! Tests with read results and change events that arrive in any order.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex as PlainMutex;

use super::*;
use crate::chat::hub::{Identity, Place, Registration};
use crate::domain::Rng;
use crate::domain::clock::{ManualClock, SystemClock};

/// Presence store that returns a given status.
#[derive(Default)]
struct FakePresence(PlainMutex<Option<Status>>);

#[async_trait]
impl Presence for FakePresence {
    async fn subscribe(&self, _: Arc<dyn PresenceSink>) -> Result<(), Unavailable> {
        Ok(())
    }
    async fn enter(&self, _: HostUuid) -> Result<(), Unavailable> {
        Ok(())
    }
    async fn leave(&self, _: HostUuid) -> Result<(), Unavailable> {
        Ok(())
    }
    async fn status(&self, _: HostUuid) -> Result<Status, Unavailable> {
        self.0.lock().ok_or_else(|| Unavailable("unavailable".into()))
    }
    async fn greet(&self, _: HostUuid, _: Bytes) -> Result<(), Unavailable> {
        Ok(())
    }
}

struct WatchTest {
    hub: Arc<Hub>,
    stored: Arc<FakePresence>,
    watch: Watch,
    host: HostUuid,
}

struct Guest {
    connection: Arc<Connection>,
    registration: Registration,
}

impl Guest {
    /// Returns the statuses that the guest received since the last call.
    fn received(&self) -> Vec<bool> {
        let mut frames = VecDeque::new();
        self.connection.take(&mut frames, usize::MAX);
        frames.iter().map(|frame| !frame.windows(7).any(|word| word == b"offline")).collect()
    }
}

fn status(online: bool, version: u64) -> Status {
    Status { online, version }
}

impl WatchTest {
    fn new() -> Self {
        let hub = Hub::new(Rng::from_seed(1));
        let stored = Arc::<FakePresence>::default();
        let shown_at: (Arc<dyn Clock>, _) =
            (Arc::new(ManualClock::new(SystemClock.now())), "+09:00".parse().expect("an offset"));
        let shutdown = Shutdown::new();
        let watch = Watch::new(hub.clone(), stored.clone(), shown_at, shutdown);
        Self { hub, stored, watch, host: HostUuid::from_random([1; 16]) }
    }

    fn store_returns(&self, status: Option<Status>) {
        *self.stored.0.lock() = status;
    }

    fn guest(&self) -> Guest {
        let connection = self.hub.connection(Identity::Guest);
        let registration = self.hub.register(Place::Status(self.host), connection.clone());
        Guest { connection, registration }
    }

    async fn answer(&self, guest: &Guest, stored: Status) {
        self.store_returns(Some(stored));
        self.watch.answer(self.host, &guest.connection).await.unwrap();
    }

    fn receive_event(&self, status: Status) {
        self.watch.presence(self.host, status);
    }

    /// Runs a comparison until it is complete.
    async fn compared(&self) {
        self.watch.missed();
        self.watch.shutdown.tasks().close();
        self.watch.shutdown.tasks().wait().await;
        self.watch.shutdown.tasks().reopen();
    }
}

#[tokio::test]
async fn an_older_event_is_ignored() {
    let test = WatchTest::new();
    let guest = test.guest();
    let mut received = Vec::new();
    for (online, version) in [(true, 5), (false, 7), (true, 6), (true, 5), (true, 8)] {
        test.receive_event(status(online, version));
        received.extend(guest.received());
    }
    assert_eq!(received, [true, false, true]);
    // A guest whose socket is not read while events arrive receives only the newest status.
    for version in 9..100 {
        test.receive_event(status(version % 2 == 0, version));
    }
    assert_eq!(guest.received(), [false]);
}

#[tokio::test]
async fn a_status_read_by_one_guest_does_not_suppress_the_event_for_others() {
    let test = WatchTest::new();
    let (first, second) = (test.guest(), test.guest());
    test.answer(&first, status(false, 5)).await;
    test.answer(&second, status(true, 6)).await;
    test.receive_event(status(true, 6));
    assert_eq!(first.received(), [true]);
    assert_eq!(second.received().last(), Some(&true));
    test.answer(&second, status(false, 7)).await;
    assert_eq!(second.received(), [] as [bool; 0]);
    test.receive_event(status(false, 7));
    assert_eq!((first.received(), second.received()), (vec![false], vec![false]));
}

#[tokio::test]
async fn a_read_overtaken_by_an_event_is_not_sent() {
    let test = WatchTest::new();
    let guest = test.guest();
    test.receive_event(status(true, 5));
    test.receive_event(status(false, 6));
    test.answer(&guest, status(true, 5)).await;
    assert_eq!(guest.received(), [false]);
    test.receive_event(status(true, 7));
    test.answer(&guest, status(false, 6)).await;
    assert_eq!(guest.received(), [true]);
}

#[tokio::test(start_paused = true)]
async fn missed_changes_are_sent_and_offline_only_after_a_delay() {
    let test = WatchTest::new();
    let guest = test.guest();
    test.store_returns(Some(status(true, 5)));
    test.compared().await;
    assert_eq!(guest.received(), [true]);
    test.store_returns(Some(status(false, 6)));
    let began = tokio::time::Instant::now();
    test.compared().await;
    assert_eq!(guest.received(), [false]);
    assert!(began.elapsed() >= SETTLING);
    test.compared().await;
    assert_eq!(guest.received(), [] as [bool; 0], "there is nothing new");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_lost_presence_and_receives_it_again_causes_no_offline() {
    let test = WatchTest::new();
    let guest = test.guest();
    test.receive_event(status(true, 5));
    test.store_returns(Some(status(false, 0)));
    test.watch.missed();
    tokio::time::sleep(SETTLING / 2).await;
    test.store_returns(Some(status(true, 9)));
    test.receive_event(status(true, 9));
    tokio::time::sleep(SETTLING).await;
    assert!(guest.received().iter().all(|online| *online));
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_store_changes_no_status() {
    let test = WatchTest::new();
    let guest = test.guest();
    test.receive_event(status(true, 5));
    guest.received();
    test.watch.missed();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(guest.received(), [] as [bool; 0]);
    test.store_returns(Some(status(false, 6)));
    tokio::time::sleep(SETTLING * 2).await;
    assert_eq!(guest.received(), [false]);
}

#[tokio::test]
async fn an_unwatched_host_is_removed() {
    let test = WatchTest::new();
    let guest = test.guest();
    test.receive_event(status(true, 5));
    assert_eq!(test.watch.known.len(), 1);
    drop(guest.registration);
    test.watch.forget_unwatched(test.host);
    test.receive_event(status(false, 6));
    test.compared().await;
    assert!(test.watch.known.is_empty());
}
