use std::collections::VecDeque;

use async_trait::async_trait;
use parking_lot::Mutex;
use sea_orm::ConnectionTrait as _;

use super::*;
use crate::domain::clock::ManualClock;
use crate::outbound::mail::{EmailContent, Language};
use crate::store::testing::on_fresh;
use crate::store::{Dialect, OutgoingMail, PendingVerification};

/// Mail sender that records e-mails. It returns the given results first and then always succeeds.
#[derive(Default)]
struct Scripted {
    results: Mutex<VecDeque<Result<(), MailError>>>,
    sent: Mutex<Vec<String>>,
}

#[async_trait]
impl MailSender for Scripted {
    async fn send(&self, mail: &OutgoingMail) -> Result<(), MailError> {
        self.sent.lock().push(mail.body.clone());
        self.results.lock().pop_front().unwrap_or(Ok(()))
    }
}

struct Setup {
    store: Store,
    clock: Arc<ManualClock>,
    sender: Arc<Scripted>,
}

impl Setup {
    fn dispatcher(&self) -> MailDispatcher {
        MailDispatcher::new(self.store.clone(), self.sender.clone(), self.clock.clone(), MailWaker::default())
    }

    fn sent(&self) -> usize {
        self.sender.sent.lock().len()
    }

    async fn write(&self, ticket: &str) {
        let (now, until) = (self.clock.now(), self.clock.now() + TimeDelta::minutes(5));
        let email = EmailContent::Verification { code: "123456".into() };
        let mail = email.write("dev@shop.example", Language::English, now, until).unwrap();
        let verification = PendingVerification {
            ticket: format!("{ticket:0>22}"),
            email: "dev@shop.example".into(),
            code_hash: "0".repeat(64),
            expires_at: until,
        };
        self.store.verifications().begin(&verification, &mail, now).await.unwrap();
    }
}

async fn with_an_outbox<F>(test: impl Fn(Setup) -> F + Clone + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    for dialect in [Dialect::Sqlite, Dialect::MySql] {
        let test = test.clone();
        on_fresh(dialect, move |store, _| async move {
            let clock = Arc::new(ManualClock::new(chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap()));
            test(Setup { store, clock, sender: Arc::default() }).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_of_two_nodes_sends_an_email() {
    with_an_outbox(|setup| async move {
        setup.write("1").await;
        let (a, b) = (setup.dispatcher(), setup.dispatcher());
        let (a, b) = tokio::join!(a.round(), b.round());
        assert_eq!(a.unwrap() + b.unwrap(), 1);
        assert_eq!(setup.sent(), 1);
        assert_eq!(setup.store.mails().count().await.unwrap(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn temporary_error_is_retried_and_permanent_error_is_not() {
    with_an_outbox(|setup| async move {
        let busy = || Err(MailError::Temporary("busy".into()));
        setup.sender.results.lock().extend([busy(), busy(), Err(MailError::Permanent("no such mailbox".into()))]);
        setup.write("1").await;
        let dispatcher = setup.dispatcher();
        assert_eq!(dispatcher.round().await.unwrap(), 1);
        assert_eq!(dispatcher.round().await.unwrap(), 0, "not at once");
        for wait in [5, 10] {
            setup.clock.advance(Duration::from_secs(wait) - Duration::from_millis(1));
            assert_eq!(dispatcher.round().await.unwrap(), 0);
            setup.clock.advance(Duration::from_millis(1));
            assert_eq!(dispatcher.round().await.unwrap(), 1, "after {wait} s");
        }
        assert_eq!((setup.sent(), setup.store.mails().count().await.unwrap()), (3, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interrupted_sending_is_retried_unless_at_most_once() {
    with_an_outbox(|setup| async move {
        let broke = || Err(MailError::Unknown("the connection broke".into()));
        let dispatcher = setup.dispatcher();
        for (at_most_once, given) in [(false, 2), (true, 3)] {
            setup.sender.results.lock().push_back(broke());
            setup.write(&given.to_string()).await;
            if at_most_once {
                let once = "UPDATE mail_outbox SET at_most_once = 1";
                setup.store.connection().execute_unprepared(once).await.unwrap();
            }
            dispatcher.round().await.unwrap();
            setup.clock.advance(Duration::from_secs(10));
            dispatcher.round().await.unwrap();
            assert_eq!((setup.sent(), setup.store.mails().count().await.unwrap()), (given, 0));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rate_limited_email_is_delayed_and_dropped_if_it_expires_first() {
    with_an_outbox(|setup| async move {
        let quotas = MailQuotas { per_mailbox: Some(2), ..MailQuotas::default() };
        // The mail server fails temporarily. E-mails that it did not accept do not count towards the limit.
        let busy = || Err(MailError::Temporary("busy".into()));
        setup.sender.results.lock().extend([busy(), busy(), busy()]);
        setup.write("1").await;
        for wait in [0, 5, 10, 20] {
            setup.clock.advance(Duration::from_secs(wait));
            setup.dispatcher().with_quotas(quotas).round().await.unwrap();
        }
        assert_eq!((setup.sent(), setup.store.mails().count().await.unwrap()), (4, 0));
        for at in 2..5 {
            setup.write(&at.to_string()).await;
        }
        let (a, b) = (setup.dispatcher().with_quotas(quotas), setup.dispatcher().with_quotas(quotas));
        let (a, b) = tokio::join!(a.round(), b.round());
        assert_eq!(a.unwrap() + b.unwrap(), 3);
        assert_eq!((setup.sent(), setup.store.mails().count().await.unwrap()), (5, 2));
        setup.clock.advance(Duration::from_secs(300));
        assert_eq!(setup.dispatcher().with_quotas(quotas).round().await.unwrap(), 2, "they expired");
        assert_eq!((setup.sent(), setup.store.mails().count().await.unwrap()), (5, 0));
        // More than an hour has passed since the last e-mail was sent, so no e-mail counts towards the limit.
        setup.clock.advance(Duration::from_secs(3_600));
        setup.write("5").await;
        assert_eq!(setup.dispatcher().with_quotas(quotas).round().await.unwrap(), 1);
        assert_eq!(setup.sent(), 6);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emails_of_crashed_node_are_sent_until_they_expire() {
    with_an_outbox(|setup| async move {
        let dead = |now| setup.store.mails().claim_due(10, now, now + TimeDelta::minutes(1));
        setup.write("1").await;
        assert_eq!(dead(setup.clock.now()).await.unwrap().len(), 1);
        assert_eq!(setup.dispatcher().round().await.unwrap(), 0);
        setup.clock.advance(Duration::from_secs(60));
        assert_eq!(setup.dispatcher().round().await.unwrap(), 1);
        setup.write("2").await;
        setup.clock.advance(Duration::from_secs(300));
        assert_eq!(setup.dispatcher().round().await.unwrap(), 1);
        assert_eq!((setup.sent(), setup.store.mails().count().await.unwrap()), (1, 0), "too late");
    })
    .await;
}
