use std::collections::VecDeque;

use async_trait::async_trait;
use parking_lot::Mutex;
use sea_orm::ConnectionTrait as _;

use super::*;
use crate::domain::clock::ManualClock;
use crate::outbound::mail::{Delivery, Language, Letter};
use crate::store::testing::on_fresh;
use crate::store::{Dialect, OutgoingMail, PendingVerification};

/// Sender that returns scripted results, then succeeds, and records the e-mails.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<Delivery>>,
    given: Mutex<Vec<String>>,
}

#[async_trait]
impl Sender for Scripted {
    async fn send(&self, mail: &OutgoingMail) -> Delivery {
        self.given.lock().push(mail.body.clone());
        self.answers.lock().pop_front().unwrap_or(Ok(()))
    }
}

struct World {
    store: Store,
    clock: Arc<ManualClock>,
    sender: Arc<Scripted>,
}

impl World {
    fn postman(&self) -> Postman {
        Postman::new(self.store.clone(), self.sender.clone(), self.clock.clone(), Waker::default())
    }

    fn given(&self) -> usize {
        self.sender.given.lock().len()
    }

    async fn write(&self, ticket: &str) {
        let (now, until) = (self.clock.now(), self.clock.now() + TimeDelta::minutes(5));
        let letter = Letter::Verification { code: "123456".into() };
        let mail = letter.write("dev@shop.example", Language::English, now, until).unwrap();
        let verification = PendingVerification {
            ticket: format!("{ticket:0>22}"),
            email: "dev@shop.example".into(),
            code_hash: "0".repeat(64),
            expires_at: until,
        };
        self.store.verifications().begin(&verification, &mail, now).await.unwrap();
    }
}

async fn with_an_outbox<F>(test: impl Fn(World) -> F + Clone + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    for dialect in [Dialect::Sqlite, Dialect::MySql] {
        let test = test.clone();
        on_fresh(dialect, move |store, _| async move {
            let clock = Arc::new(ManualClock::new(chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap()));
            test(World { store, clock, sender: Arc::default() }).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_one_sends_a_mail() {
    with_an_outbox(|world| async move {
        world.write("1").await;
        let (a, b) = (world.postman(), world.postman());
        let (a, b) = tokio::join!(a.round(), b.round());
        assert_eq!(a.unwrap() + b.unwrap(), 1);
        assert_eq!(world.given(), 1);
        assert_eq!(world.store.mails().count().await.unwrap(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_fails_is_tried_again_and_one_that_is_refused_is_not() {
    with_an_outbox(|world| async move {
        let busy = || Err(Failure::Temporary("busy".into()));
        world.sender.answers.lock().extend([busy(), busy(), Err(Failure::Permanent("no such mailbox".into()))]);
        world.write("1").await;
        let postman = world.postman();
        assert_eq!(postman.round().await.unwrap(), 1);
        assert_eq!(postman.round().await.unwrap(), 0, "not at once");
        for wait in [5, 10] {
            world.clock.advance(Duration::from_secs(wait) - Duration::from_millis(1));
            assert_eq!(postman.round().await.unwrap(), 0);
            world.clock.advance(Duration::from_millis(1));
            assert_eq!(postman.round().await.unwrap(), 1, "after {wait} s");
        }
        assert_eq!((world.given(), world.store.mails().count().await.unwrap()), (3, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_broke_off_half_way_is_sent_again_unless_it_must_not_come_twice() {
    with_an_outbox(|world| async move {
        let broke = || Err(Failure::Unknown("the connection broke".into()));
        let postman = world.postman();
        for (at_most_once, given) in [(false, 2), (true, 3)] {
            world.sender.answers.lock().push_back(broke());
            world.write(&given.to_string()).await;
            if at_most_once {
                let once = "UPDATE mail_outbox SET at_most_once = 1";
                world.store.connection().execute_unprepared(once).await.unwrap();
            }
            postman.round().await.unwrap();
            world.clock.advance(Duration::from_secs(10));
            postman.round().await.unwrap();
            assert_eq!((world.given(), world.store.mails().count().await.unwrap()), (given, 0));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_e_mail_over_a_limit_leaves_when_the_limit_permits_it_and_is_dropped_if_it_expires_first() {
    with_an_outbox(|world| async move {
        let quotas = MailQuotas { per_mailbox: Some(2), ..MailQuotas::default() };
        // The mail server fails temporarily: e-mails that it did not accept do not count towards the limit.
        let busy = || Err(Failure::Temporary("busy".into()));
        world.sender.answers.lock().extend([busy(), busy(), busy()]);
        world.write("1").await;
        for wait in [0, 5, 10, 20] {
            world.clock.advance(Duration::from_secs(wait));
            world.postman().with_quotas(quotas).round().await.unwrap();
        }
        assert_eq!((world.given(), world.store.mails().count().await.unwrap()), (4, 0));
        for at in 2..5 {
            world.write(&at.to_string()).await;
        }
        let (a, b) = (world.postman().with_quotas(quotas), world.postman().with_quotas(quotas));
        let (a, b) = tokio::join!(a.round(), b.round());
        assert_eq!(a.unwrap() + b.unwrap(), 3);
        assert_eq!((world.given(), world.store.mails().count().await.unwrap()), (5, 2));
        world.clock.advance(Duration::from_secs(300));
        assert_eq!(world.postman().with_quotas(quotas).round().await.unwrap(), 2, "they expired");
        assert_eq!((world.given(), world.store.mails().count().await.unwrap()), (5, 0));
        // One hour after the first e-mail.
        world.clock.advance(Duration::from_secs(3_600));
        world.write("5").await;
        assert_eq!(world.postman().with_quotas(quotas).round().await.unwrap(), 1);
        assert_eq!(world.given(), 6);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_node_took_is_sent_by_another_while_it_still_helps() {
    with_an_outbox(|world| async move {
        let dead = |now| world.store.mails().claim_due(10, now, now + TimeDelta::minutes(1));
        world.write("1").await;
        assert_eq!(dead(world.clock.now()).await.unwrap().len(), 1);
        assert_eq!(world.postman().round().await.unwrap(), 0);
        world.clock.advance(Duration::from_secs(60));
        assert_eq!(world.postman().round().await.unwrap(), 1);
        world.write("2").await;
        world.clock.advance(Duration::from_secs(300));
        assert_eq!(world.postman().round().await.unwrap(), 1);
        assert_eq!((world.given(), world.store.mails().count().await.unwrap()), (1, 0), "too late");
    })
    .await;
}
