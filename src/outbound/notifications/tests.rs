use crate::backend::redis::testing::PT;
use chrono::TimeDelta;

use super::*;
use crate::backend::broker::testing::{Fixture, Node, guest, submission};
use crate::domain::clock::{ManualClock, SystemClock};
use crate::domain::{Room, Seq};
use crate::outbound::contacts::{Contacts, MailLinks};
use crate::outbound::mail::Language;
use crate::store::OutgoingMail;
use crate::store::testing::Database;

fn links() -> MailLinks {
    MailLinks::new("https://chat.example", [b"secret".to_vec()])
}

/// Two nodes, a room, and the clock that determines which notifications are due.
struct Setup {
    fixture: Fixture,
    nodes: [Node; 2],
    room: Room,
    clock: Arc<ManualClock>,
}

impl Setup {
    async fn of(fixture: Fixture) -> Self {
        let first = fixture.node().await;
        // The embedded broker supports one node, so both array elements are that node.
        let second = if fixture.servers.is_some() { fixture.node().await } else { first.clone() };
        let room = first.room().await;
        Self { fixture, nodes: [first, second], room, clock: Arc::new(ManualClock::new(SystemClock.now())) }
    }

    fn notifier(&self, node: usize) -> Notifier {
        let writer =
            NotificationWriter::new("https://admin.example", "https://chat.example", links(), Language::English);
        let (store, states) = (self.fixture.store.clone(), self.nodes[node].backend.states.clone());
        Notifier::new(store, states, self.clock.clone(), writer, MailWaker::default())
    }

    async fn members(&self, node: usize, guests: u32, hosts: u32) {
        self.nodes[node].backend.states.set_members(self.room.name, guests, hosts).await.unwrap();
    }

    /// Sends a message and waits until the database contains it.
    async fn send(&self, seq: Seq, side: Side, text: &str) {
        let message = submission(&self.room, side, &format!("id-{seq}"), text, "2023-03-23T08:15:07");
        self.nodes[0].accept(&[message]).await;
        if self.fixture.servers.is_some() {
            self.nodes[0].write_to_sql(&self.fixture.store, &self.room, seq..=seq).await;
        }
    }

    async fn mails(&self) -> Vec<OutgoingMail> {
        let now = self.clock.now();
        let due = self.fixture.store.mails().claim_due(100, now, now + TimeDelta::minutes(5)).await.unwrap();
        due.into_iter().map(|due| due.mail).collect()
    }

    /// Advances the clock by 61 s and runs a round on both nodes. Returns the number of decisions and the e-mails.
    async fn a_minute_later(&self) -> (usize, Vec<OutgoingMail>) {
        self.clock.advance(Duration::from_secs(61));
        let (a, b) = (self.notifier(0), self.notifier(1));
        let (a, b) = tokio::join!(a.round(), b.round());
        (a.unwrap() + b.unwrap(), self.mails().await)
    }
}

async fn on_each<F>(test: impl Fn(Setup) -> F + Clone + Send + Sync + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let alone = test.clone();
    Fixture::embedded(Database::Sqlite, |fixture| async move { alone(Setup::of(fixture).await).await }).await;
    for database in [Database::MySql, Database::MariaDb] {
        let test = test.clone();
        Fixture::cluster(database, |fixture| async move { test(Setup::of(fixture).await).await }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recipient_in_the_room_is_not_mailed_and_absent_one_is_mailed_once() {
    on_each(|setup| async move {
        setup.members(0, 1, 0).await;
        setup.members(1, 1, 1).await;
        setup.send(1, Side::Guest, "you are there").await;
        assert_eq!(setup.a_minute_later().await, (0, vec![]), "no notification was due");

        setup.members(1, 1, 0).await;
        setup.send(2, Side::Guest, "you are gone").await;
        setup.send(3, Side::Guest, "still gone").await;
        let (decided, mails) = setup.a_minute_later().await;
        assert_eq!((decided, mails.len()), (1, 1), "{mails:?}");
        let mail = &mails[0];
        assert_eq!((mail.recipient.as_str(), mail.subject.as_str()), ("host@shop.example", "New messages on PinTalk"));
        assert!(mail.body.contains("> you are gone\n\n> still gone") && mail.body.contains("https://admin.example"));
        assert!(
            !mail.body.contains("you are there") && mail.at_most_once && mail.unsubscribe_url.is_none(),
            "{mail:?}"
        );

        setup.send(4, Side::Guest, "hello?").await;
        assert_eq!(setup.a_minute_later().await, (0, vec![]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recipient_who_reconnects_within_a_minute_is_not_mailed() {
    on_each(|setup| async move {
        setup.send(1, Side::Guest, "are you there?").await;
        setup.members(1, 0, 1).await;
        assert_eq!(setup.a_minute_later().await, (1, vec![]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guest_with_address_is_mailed_and_can_unsubscribe() {
    on_each(|setup| async move {
        let (store, room) = (&setup.fixture.store, setup.room.id);
        setup.send(1, Side::Host, "to an absent guest").await;
        assert_eq!(setup.a_minute_later().await, (0, vec![]));
        let before = SystemClock.now() - TimeDelta::minutes(1);
        assert!(store.contacts().set(room, "guest@mail.example", "en", before).await.unwrap());
        setup.members(1, 1, 0).await;
        setup.send(2, Side::Host, "you are there").await;
        setup.members(1, 0, 0).await;
        setup.send(3, Side::Host, "an\nanswer").await;
        let (_, mails) = setup.a_minute_later().await;
        assert_eq!(mails.len(), 1);
        // The first e-mail requests consent. It contains no text written by a guest or a host, except the domain of the
        // service.
        let asked = &mails[0];
        assert_eq!((asked.recipient.as_str(), &asked.unsubscribe_url), ("guest@mail.example", &None));
        let text = format!("{} {}", asked.subject, asked.body);
        // The service in these tests has no domain, so the e-mail contains the domain of the installation.
        assert!(
            text.contains("chat on chat.example") && !text.contains("answer\n") && !text.contains("Shop"),
            "{text}"
        );
        let link = asked.body.split_whitespace().find(|word| word.starts_with("https://chat.example/consent/"));
        let contacts = Contacts::new(store.clone(), setup.clock.clone(), links(), MailWaker::default());
        let pair = contacts.read_consent(link.unwrap().rsplit_once('/').unwrap().1).unwrap();
        contacts.consent(&pair).await.unwrap();
        let (decided, mails) = setup.a_minute_later().await;
        assert_eq!((decided, mails.len()), (1, 1));
        let url = mails[0].unsubscribe_url.as_deref().unwrap();
        assert_eq!(mails[0].recipient, "guest@mail.example");
        assert!(mails[0].body.contains("> an\n> answer\n") && mails[0].body.contains(url), "{mails:?}");
        assert!(!mails[0].body.contains(setup.room.name.as_str()), "the room's name opens the room");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_on_a_crashed_node_are_absent() {
    Fixture::cluster(Database::Sqlite, |fixture| async move {
        let setup = Setup::of(fixture).await;
        setup.members(0, 1, 0).await;
        let partition = setup.nodes[0].backend.log.partition_of(setup.room.name).0;
        let key = format!("{PT}{{{partition}}}:room:{}", setup.room.name);
        let _: u64 = setup.nodes[0].redis().raw("HSET", &[&key, "hosts", "a-node-that-died"]).await;
        setup.send(1, Side::Guest, "are you there?").await;
        assert_eq!(setup.a_minute_later().await.1.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unavailable_broker_delays_notifications() {
    Fixture::cluster(Database::Sqlite, |fixture| async move {
        let setup = Setup::of(fixture).await;
        setup.nodes[0].accept(&[guest(&setup.room, "id-1")]).await;
        setup.nodes[0].write_to_sql(&setup.fixture.store, &setup.room, 1..=1).await;
        setup.clock.advance(Duration::from_secs(61));
        let servers = setup.fixture.servers.as_ref().unwrap();
        servers.freeze();
        let round = setup.notifier(0).round().await;
        servers.thaw();
        assert!(matches!(round, Err(RoundError::Broker(_))), "{round:?}");
        assert_eq!(setup.mails().await, []);
        assert_eq!(setup.notifier(0).round().await.unwrap(), 1);
        assert_eq!(setup.mails().await.len(), 1);
    })
    .await;
}
