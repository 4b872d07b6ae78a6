use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use pintalk_kit::webhook_receiver::{Receiver, Reply};

use super::*;
use crate::domain::clock::{Clock, ManualClock};
use crate::domain::{EventKinds, Host, HostUuid, Room, RoomName};
use crate::outbound::webhooks::{IsAllowed, Webhooks};
use crate::store::testing::{Database, on_fresh};
use crate::store::{Append, EventState, NewHost, NewRoom, WebhookChange};

/// Generates one test per function and database system. Each test runs the function on that database system.
macro_rules! on_every_database {
    ($($name:ident),* $(,)?) => { $(mod $name {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn on_sqlite() {
            super::on(super::Database::Sqlite, super::$name).await;
        }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn on_mysql() {
            super::on(super::Database::MySql, super::$name).await;
        }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn on_mariadb() {
            super::on(super::Database::MariaDb, super::$name).await;
        }
    })* };
}

on_every_database!(
    events_arrive_once_signed_and_in_room_order,
    failing_receiver_is_retried_with_backoff_for_three_days,
    recovered_receiver_gets_all_events_with_same_ids,
    events_of_crashed_node_are_sent_after_its_lease,
);

async fn on<F>(database: Database, test: impl FnOnce(Setup) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    on_fresh(database, move |store, _| async move { test(Setup::new(store)).await }).await;
}

struct Setup {
    store: Store,
    clock: Arc<ManualClock>,
    dispatcher: WebhookDispatcher,
    webhooks: Webhooks,
}

impl Setup {
    fn new(store: Store) -> Self {
        let clock = Arc::new(ManualClock::new(DateTime::from_timestamp(1_700_000_000, 0).unwrap()));
        let loopback: IsAllowed = Arc::new(|address: IpAddr| address == IpAddr::from([127, 0, 0, 1]));
        let mut sender = EventSender::new(Some(loopback), clock.clone()).unwrap();
        sender.client.set_timeout(Duration::from_secs(2));
        let rng = Rng::from_seed(1);
        let dispatcher = WebhookDispatcher::new(store.clone(), sender.clone(), rng.clone());
        let webhooks = Webhooks::new(store.clone(), sender, rng);
        Self { store, clock, dispatcher, webhooks }
    }

    async fn host(&self, email: &str) -> Host {
        let rng = Rng::from_entropy();
        let new = NewHost {
            email: email.to_owned(),
            uuid: HostUuid::from_random(rng.bytes()),
            password_hash: "$argon2id$".to_owned(),
            access_key: HostUuid::from_random(rng.bytes()).to_string(),
            secret_key: "5e".repeat(32),
            service_name: "Shop".to_owned(),
            service_expl: String::new(),
            service_domain: None,
        };
        self.store.hosts().create(new, self.clock.now()).await.unwrap()
    }

    /// Sets a webhook for all events of a host. Returns the secret.
    async fn hook(&self, host: &Host, url: &str) -> String {
        let change = WebhookChange { url: url.to_owned(), events: EventKinds::ALL, is_enabled: true };
        self.webhooks.set(host.id, change).await.unwrap().0.secret
    }

    async fn room(&self, host: &Host) -> Room {
        let name = RoomName::from_random(Rng::from_entropy().bytes());
        let guest = "용감한 고양이".to_owned();
        let new = NewRoom { host: host.id, guest, name, idempotency_key: None, life: None };
        self.store.rooms().create(new, self.clock.now()).await.unwrap()
    }

    async fn write(&self, room: &Room, texts: std::ops::Range<usize>) {
        let batch: Vec<Append> = texts
            .map(|at| Append {
                room: room.name,
                side: crate::domain::Side::Guest,
                id: format!("m{at}").parse().unwrap(),
                text: format!("text {at}"),
                datetime: "2023-03-23T08:15:07".parse().unwrap(),
                unattended: false,
            })
            .collect();
        self.store.messages().append(&batch, self.clock.now()).await.unwrap();
    }

    /// Returns the numbers of a host's events that are waiting, delivered and failed.
    async fn states(&self, host: &Host) -> [usize; 3] {
        let events = self.store.webhooks().recent_events(host.id, 1_000).await.unwrap();
        [EventState::Waiting, EventState::Delivered, EventState::Failed]
            .map(|state| events.iter().filter(|event| event.state == state).count())
    }
}

async fn events_arrive_once_signed_and_in_room_order(setup: Setup) {
    let (host, receiver) = (setup.host("a@shop.example").await, Receiver::start().await);
    let secret = setup.hook(&host, &receiver.url()).await;
    let rooms = [setup.room(&host).await, setup.room(&host).await];
    for room in &rooms {
        setup.write(room, 0..40).await;
    }
    assert_eq!(setup.dispatcher.round().await, Ok(1));
    assert_eq!(setup.dispatcher.round().await, Ok(0));
    assert_eq!((receiver.received().len(), receiver.different()), (82, 82));
    assert_eq!(setup.states(&host).await, [0, 82, 0]);
    for room in &rooms {
        let came = receiver.received();
        let seqs: Vec<i64> = came
            .iter()
            .filter(|event| event.json()["data"]["room"]["id"] == room.id.0)
            .map(|event| event.json()["data"]["message"]["seq"].as_i64().unwrap_or_default())
            .collect();
        assert_eq!(seqs, (0..=40).collect::<Vec<i64>>());
    }
    let first = receiver.received().remove(0);
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/hooks?of=shop"));
    assert_eq!((first.header("content-type"), first.header("webhook-timestamp")), ("application/json", "1700000000"));
    assert!(first.header("user-agent").starts_with("PinTalk/"));
    assert_eq!(first.json()["id"], first.id());
    assert!(first.is_signed_with(&secret) && !first.is_signed_with("whsec_b25l"));

    // For a day after the replacement, requests are signed with both secrets.
    let new = setup.webhooks.rotate(host.id, false).await.unwrap().unwrap().secret;
    setup.write(&rooms[0], 40..41).await;
    setup.dispatcher.round().await.unwrap();
    let both = receiver.received().pop().unwrap();
    assert!(both.is_signed_with(&new) && both.is_signed_with(&secret));
    setup.clock.advance(Duration::from_secs(86_400));
    setup.write(&rooms[0], 41..42).await;
    setup.dispatcher.round().await.unwrap();
    let one = receiver.received().pop().unwrap();
    assert!(one.is_signed_with(&new) && !one.is_signed_with(&secret));
}

async fn failing_receiver_is_retried_with_backoff_for_three_days(setup: Setup) {
    let (host, receiver) = (setup.host("a@shop.example").await, Receiver::start().await);
    setup.hook(&host, &receiver.url()).await;
    receiver.reply(Reply::Status(500));
    setup.room(&host).await;
    let began = setup.clock.now();
    let mut tries: Vec<i64> = Vec::new();
    while setup.states(&host).await[0] > 0 {
        let elapsed = (setup.clock.now() - began).num_seconds();
        assert!(elapsed < 3 * 86_400, "the event must have failed by then");
        if setup.dispatcher.round().await.unwrap() > 0 {
            tries.push(elapsed);
        }
        // The steps are short enough to observe each retry, and long enough to reach the last attempt.
        setup.clock.advance(Duration::from_secs(if elapsed < 600 { 1 } else { 120 }));
    }
    assert_eq!(setup.states(&host).await, [0, 0, 1]);
    assert_eq!(tries.len(), receiver.received().len());
    assert_eq!(receiver.different(), 1, "the event id does not change");
    let intervals: Vec<i64> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((4..=7).contains(&intervals[0]) && (16..=25).contains(&intervals[1]), "{intervals:?}");
    assert!(
        intervals.iter().all(|gap| *gap <= 6 * 3_600 * 12 / 10 + 120) && intervals.last() > Some(&(4 * 3_600)),
        "{intervals:?}"
    );
    assert!((12..=25).contains(&tries.len()) && tries.last() > Some(&(60 * 3_600)), "{tries:?}");
    let record = setup.store.webhooks().recent_events(host.id, 1).await.unwrap().remove(0);
    assert_eq!((record.status, record.attempts as usize), (Some(500), tries.len()));
    assert_eq!(record.problem.as_deref(), Some("answered 500"));
}

async fn recovered_receiver_gets_all_events_with_same_ids(setup: Setup) {
    let (host, receiver) = (setup.host("a@shop.example").await, Receiver::start().await);
    setup.hook(&host, &receiver.url()).await;
    let room = setup.room(&host).await;
    setup.write(&room, 0..100).await;
    receiver.reply(Reply::Status(503));
    for _ in 0..200 {
        setup.dispatcher.round().await.unwrap();
        setup.clock.advance(Duration::from_secs(10));
    }
    let in_vain = receiver.received().len();
    assert!(in_vain < 40, "retries must be rare: {in_vain} in half an hour");
    receiver.reply(Reply::Status(204));
    for _ in 0..400 {
        setup.dispatcher.round().await.unwrap();
        setup.clock.advance(Duration::from_secs(60));
    }
    assert_eq!(setup.states(&host).await, [0, 101, 0]);
    assert_eq!((receiver.received().len(), receiver.different()), (in_vain + 101, 101));
}

async fn events_of_crashed_node_are_sent_after_its_lease(setup: Setup) {
    let (host, receiver) = (setup.host("a@shop.example").await, Receiver::start().await);
    setup.hook(&host, &receiver.url()).await;
    setup.room(&host).await;
    let due = setup.store.webhooks().due(setup.clock.now()).await.unwrap()[0];
    setup.store.webhooks().acquire_lease(&due, setup.clock.now() + LEASE).await.unwrap().unwrap();
    setup.clock.advance(Duration::from_millis(19_999));
    assert_eq!(setup.dispatcher.round().await, Ok(0), "its lease has not expired");
    setup.clock.advance(Duration::from_millis(1));
    assert_eq!(setup.dispatcher.round().await, Ok(1));
    assert_eq!((receiver.received().len(), setup.states(&host).await), (1, [0, 1, 0]));
}

/// Generates tests that run on SQLite only.
macro_rules! on_sqlite {
    ($($(#[$meta:meta])* async fn $name:ident($setup:ident) $body:block)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            on(Database::Sqlite, async move |$setup: Setup| $body).await;
        }
    )* };
}

on_sqlite! {
    async fn unresponsive_receiver_does_not_delay_others(setup) {
        let (slow, fast) = (Receiver::start().await, Receiver::start().await);
        slow.reply(Reply::Silence);
        let hosts = [setup.host("slow@shop.example").await, setup.host("fast@shop.example").await];
        for (host, receiver) in hosts.iter().zip([&slow, &fast]) {
            setup.hook(host, &receiver.url()).await;
            for _ in 0..10 {
                setup.write(&setup.room(host).await, 0..10).await;
            }
        }
        let began = Instant::now();
        let (round, ()) = tokio::join!(setup.dispatcher.round(), fast.wait_for(110, Duration::from_secs(20)));
        assert_eq!(round, Ok(2));
        assert!(began.elapsed() >= Duration::from_secs(2), "the slow receiver used its full time limit");
        assert_eq!(setup.states(&hosts[1]).await, [0, 110, 0]);
        assert_eq!(slow.received().len(), MAX_ROOMS, "paused after the first failure");
        let record = setup.store.webhooks().recent_events(hosts[0].id, 1_000).await.unwrap();
        let record = record.iter().find(|event| event.attempts == 1).unwrap();
        assert_eq!((record.status, record.problem.as_deref()), (None, Some("no answer within 2 s")));
        assert_eq!(setup.dispatcher.round().await, Ok(0));
    }

    async fn rejected_event_does_not_delay_others(setup) {
        let (host, receiver) = (setup.host("a@shop.example").await, Receiver::start().await);
        setup.hook(&host, &receiver.url()).await;
        let room = setup.room(&host).await;
        receiver.reply(Reply::Status(400));
        setup.dispatcher.round().await.unwrap();
        receiver.reply(Reply::Status(200));
        setup.write(&room, 0..10).await;
        setup.clock.advance(Duration::from_secs(7));
        // The rejected event is due again as well.
        setup.dispatcher.round().await.unwrap();
        assert_eq!(setup.states(&host).await, [0, 11, 0]);
    }

    async fn redirect_is_not_followed(setup) {
        let (host, receiver, other) =
            (setup.host("a@shop.example").await, Receiver::start().await, Receiver::start().await);
        setup.hook(&host, &receiver.url()).await;
        receiver.reply(Reply::Redirect(other.url()));
        setup.room(&host).await;
        setup.dispatcher.round().await.unwrap();
        assert_eq!((receiver.received().len(), other.received().len()), (1, 0));
        let record = setup.store.webhooks().recent_events(host.id, 1).await.unwrap().remove(0);
        assert_eq!(record.problem.as_deref(), Some("answered 307: redirects are not followed"));
        assert_eq!(record.state, EventState::Waiting);
    }

    async fn receiver_that_returns_410_is_disabled(setup) {
        let (host, receiver) = (setup.host("a@shop.example").await, Receiver::start().await);
        setup.hook(&host, &receiver.url()).await;
        receiver.reply(Reply::Status(410));
        setup.room(&host).await;
        setup.dispatcher.round().await.unwrap();
        let webhook = setup.webhooks.show(host.id).await.unwrap().unwrap();
        assert_eq!((webhook.is_enabled, webhook.gone_at), (false, Some(setup.clock.now())));
        setup.room(&host).await;
        setup.clock.advance(Duration::from_secs(3_600));
        assert_eq!((setup.dispatcher.round().await, receiver.received().len()), (Ok(0), 1));
        // After the webhook is enabled again, it receives the events that were waiting. The room that was created while
        // it was disabled caused no event.
        receiver.reply(Reply::Status(200));
        setup.hook(&host, &receiver.url()).await;
        setup.dispatcher.round().await.unwrap();
        assert_eq!((receiver.received().len(), setup.states(&host).await), (2, [0, 1, 0]));
    }

    async fn address_that_is_no_longer_allowed_gets_nothing(setup) {
        let (host, receiver) = (setup.host("a@shop.example").await, Receiver::start().await);
        setup.hook(&host, &receiver.url()).await;
        setup.room(&host).await;
        // The operator no longer allows any private address.
        let sender = EventSender::new(None, setup.clock.clone()).unwrap();
        let dispatcher = WebhookDispatcher::new(setup.store.clone(), sender, Rng::from_seed(2));
        dispatcher.round().await.unwrap();
        let record = setup.store.webhooks().recent_events(host.id, 1).await.unwrap().remove(0);
        assert_eq!(record.problem.as_deref(), Some("the URL must begin with https://"));
        let change = WebhookChange {
            url: format!("https://localhost:{}/", receiver.address.port()),
            events: EventKinds::ALL,
            is_enabled: true,
        };
        setup.webhooks.set(host.id, change).await.unwrap();
        setup.clock.advance(Duration::from_secs(60));
        dispatcher.round().await.unwrap();
        let record = setup.store.webhooks().recent_events(host.id, 1).await.unwrap().remove(0);
        assert_eq!(record.problem.as_deref(), Some("the name of the URL leads to no public address"));
        assert_eq!((record.attempts, receiver.connections.load(std::sync::atomic::Ordering::SeqCst)), (2, 0));
    }

    async fn events_in_flight_at_shutdown_have_a_grace_period(setup) {
        let (host, receiver) = (setup.host("a@shop.example").await, Receiver::start().await);
        setup.hook(&host, &receiver.url()).await;
        setup.room(&host).await;
        receiver.reply(Reply::Silence);
        let mut dispatcher = setup.dispatcher.clone();
        dispatcher.sender.client.set_timeout(Duration::from_secs(60));
        let stop = CancellationToken::new();
        let running = tokio::spawn(dispatcher.run(stop.clone()));
        receiver.wait_for(1, Duration::from_secs(20)).await;
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), running).await.unwrap().unwrap();
        // It is unknown whether the event arrived, so another node sends it again at once.
        receiver.reply(Reply::Status(200));
        assert_eq!(setup.dispatcher.round().await, Ok(1));
        assert_eq!((receiver.ids().len(), receiver.different(), setup.states(&host).await), (2, 1, [0, 1, 0]));
    }
}
