//! Tests of reads and events in every order.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex as PlainMutex;

use super::*;
use crate::chat::hub::{Identity, Place, Registration};
use crate::domain::clock::{Chance, ManualClock, SystemClock};

/// A store that returns a given status.
#[derive(Default)]
struct Said(PlainMutex<Option<Status>>);

#[async_trait]
impl Presence for Said {
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
        self.0.lock().ok_or_else(|| Unavailable("away".into()))
    }
    async fn greet(&self, _: HostUuid, _: Bytes) -> Result<(), Unavailable> {
        Ok(())
    }
}

struct Stage {
    hub: Arc<Hub>,
    said: Arc<Said>,
    watch: Watch,
    host: HostUuid,
}

struct Guest {
    connection: Arc<Connection>,
    registration: Registration,
}

impl Guest {
    /// Returns the statuses received since the last call.
    fn told(&self) -> Vec<bool> {
        let mut frames = VecDeque::new();
        self.connection.take(&mut frames, usize::MAX);
        frames.iter().map(|frame| !frame.windows(7).any(|word| word == b"offline")).collect()
    }
}

fn status(online: bool, version: u64) -> Status {
    Status { online, version }
}

impl Stage {
    fn new() -> Self {
        let hub = Hub::new(Chance::from_seed(1));
        let said = Arc::<Said>::default();
        let shown_at: (Arc<dyn Clock>, _) =
            (Arc::new(ManualClock::new(SystemClock.now())), "+09:00".parse().expect("an offset"));
        let shutdown = Shutdown::new();
        let watch = Watch::new(hub.clone(), said.clone(), shown_at, shutdown);
        Self { hub, said, watch, host: HostUuid::from_random([1; 16]) }
    }

    fn says(&self, status: Option<Status>) {
        *self.said.0.lock() = status;
    }

    fn guest(&self) -> Guest {
        let connection = self.hub.connection(Identity::Guest);
        let registration = self.hub.register(Place::Status(self.host), connection.clone());
        Guest { connection, registration }
    }

    async fn answer(&self, guest: &Guest, said: Status) {
        self.says(Some(said));
        self.watch.answer(self.host, &guest.connection).await.unwrap();
    }

    fn heard(&self, status: Status) {
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
    let stage = Stage::new();
    let guest = stage.guest();
    let mut told = Vec::new();
    for (online, version) in [(true, 5), (false, 7), (true, 6), (true, 5), (true, 8)] {
        stage.heard(status(online, version));
        told.extend(guest.told());
    }
    assert_eq!(told, [true, false, true]);
    // A guest that does not read meanwhile receives only the newest.
    for version in 9..100 {
        stage.heard(status(version % 2 == 0, version));
    }
    assert_eq!(guest.told(), [false]);
}

#[tokio::test]
async fn what_one_guest_was_answered_does_not_keep_the_event_from_others() {
    let stage = Stage::new();
    let (first, second) = (stage.guest(), stage.guest());
    stage.answer(&first, status(false, 5)).await;
    stage.answer(&second, status(true, 6)).await;
    stage.heard(status(true, 6));
    assert_eq!(first.told(), [true]);
    assert_eq!(second.told().last(), Some(&true));
    stage.answer(&second, status(false, 7)).await;
    assert_eq!(second.told(), [] as [bool; 0]);
    stage.heard(status(false, 7));
    assert_eq!((first.told(), second.told()), (vec![false], vec![false]));
}

#[tokio::test]
async fn an_answer_that_an_event_has_overtaken_is_not_given() {
    let stage = Stage::new();
    let guest = stage.guest();
    stage.heard(status(true, 5));
    stage.heard(status(false, 6));
    stage.answer(&guest, status(true, 5)).await;
    assert_eq!(guest.told(), [false]);
    stage.heard(status(true, 7));
    stage.answer(&guest, status(false, 6)).await;
    assert_eq!(guest.told(), [true]);
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_is_told_and_that_a_host_has_left_only_after_a_while() {
    let stage = Stage::new();
    let guest = stage.guest();
    stage.says(Some(status(true, 5)));
    stage.compared().await;
    assert_eq!(guest.told(), [true]);
    stage.says(Some(status(false, 6)));
    let began = tokio::time::Instant::now();
    stage.compared().await;
    assert_eq!(guest.told(), [false]);
    assert!(began.elapsed() >= SETTLING);
    stage.compared().await;
    assert_eq!(guest.told(), [] as [bool; 0], "there is nothing new");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_has_forgotten_and_is_told_again_makes_nobody_flicker() {
    let stage = Stage::new();
    let guest = stage.guest();
    stage.heard(status(true, 5));
    stage.says(Some(status(false, 0)));
    stage.watch.missed();
    tokio::time::sleep(SETTLING / 2).await;
    stage.says(Some(status(true, 9)));
    stage.heard(status(true, 9));
    tokio::time::sleep(SETTLING).await;
    assert!(guest.told().iter().all(|online| *online));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_says_nothing() {
    let stage = Stage::new();
    let guest = stage.guest();
    stage.heard(status(true, 5));
    guest.told();
    stage.watch.missed();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(guest.told(), [] as [bool; 0]);
    stage.says(Some(status(false, 6)));
    tokio::time::sleep(SETTLING * 2).await;
    assert_eq!(guest.told(), [false]);
}

#[tokio::test]
async fn whom_nobody_watches_is_forgotten() {
    let stage = Stage::new();
    let guest = stage.guest();
    stage.heard(status(true, 5));
    assert_eq!(stage.watch.known.len(), 1);
    drop(guest.registration);
    stage.watch.forget_unwatched(stage.host);
    stage.heard(status(false, 6));
    stage.compared().await;
    assert!(stage.watch.known.is_empty());
}
