use std::sync::Mutex;

use super::*;
use crate::domain::HostId;
use crate::domain::clock::ManualClock;
use crate::store::Dialect;
use crate::store::testing::on_fresh;

mod keys;
mod legacy_hashes;
mod operator;
mod passwords;
mod sign_up;

struct TestAccounts {
    accounts: Accounts,
    clock: Arc<ManualClock>,
    published: Arc<Mutex<Vec<Control>>>,
    host: Host,
}

/// Runs a test with accounts in a separate database. The database has one host: dev@shop.example with the password
/// "pass word".
async fn with_a_host<F>(test: impl FnOnce(TestAccounts) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    on_fresh(Dialect::Sqlite, move |store, _| async move {
        let clock = Arc::new(ManualClock::new(DateTime::from_timestamp(1_700_000_000, 0).unwrap()));
        let published = Arc::new(Mutex::new(Vec::new()));
        let sink = published.clone();
        let publish: PublishControl = Arc::new(move |control| {
            sink.lock().unwrap().push(control);
            Box::pin(std::future::ready(()))
        });
        let keys = TokenKeys::new(&["a secret of thirty-two characters"]).unwrap();
        let accounts = Accounts::new(store, clock.clone(), Rng::from_seed(1), keys, publish);
        let host = accounts.create_host(account()).await.unwrap();
        test(TestAccounts { accounts, clock, published, host }).await;
    })
    .await;
}

fn account() -> NewAccount {
    NewAccount {
        email: "dev@shop.example".into(),
        password: "pass word".into(),
        service_name: "Shop".into(),
        service_expl: String::new(),
        service_domain: Some("https://Shop.example/x".into()),
    }
}

impl TestAccounts {
    /// Removes all due e-mails from the outbox. Returns the recipient of the newest unexpired one, and the code or
    /// password in it. Returns `None` if there is none.
    async fn mailed(&self) -> Option<(String, String)> {
        let now = self.clock.now();
        let mut mails = self.accounts.store.mails().claim_due(10, now, now).await.unwrap();
        for due in &mails {
            self.accounts.store.mails().remove(due.id).await.unwrap();
        }
        mails.retain(|due| due.mail.expires_at > now);
        let mail = mails.pop()?.mail;
        let is_secret =
            |word: &&str| word.is_ascii() && word.len() == 19 || (word.len() == 6 && word.parse::<u32>().is_ok());
        let secret = mail.body.split_whitespace().find(is_secret).unwrap().to_owned();
        Some((mail.recipient, secret))
    }

    async fn log_in(&self) -> Tokens {
        self.accounts.login("dev@shop.example", "pass word").await.unwrap().tokens
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_host_has_valid_keys_and_a_unique_email_address() {
    with_a_host(|setup| async move {
        let host = &setup.host;
        assert_eq!((host.access_key.len(), host.secret_key.len()), (22, 64));
        assert_eq!((host.profile_name.as_str(), host.service_domain.as_deref()), ("Shop", Some("shop.example")));
        assert!(host.config.use_online_status);
        let again = NewAccount { email: "DEV@shop.example".into(), ..account() };
        assert_eq!(setup.accounts.create_host(again).await, Err(CreateHostError::EmailTaken));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_password_and_unknown_address_get_the_same_error() {
    with_a_host(|setup| async move {
        for (email, password) in [("dev@shop.example", "pass wort"), ("who@shop.example", "pass word")] {
            let outcome = setup.accounts.login(email, password).await;
            assert_eq!(outcome.err(), Some(LoginError::WrongCredentials), "{email}");
        }
        let long = "x".repeat(60_000);
        assert_eq!(setup.accounts.login(&long, &long).await.err(), Some(LoginError::WrongCredentials));
        assert_eq!(setup.accounts.login("Dev@Shop.example", "pass word").await.unwrap().host, setup.host);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_returns_new_tokens_and_two_tabs_get_the_same_cookie() {
    with_a_host(|setup| async move {
        let first = setup.log_in().await;
        setup.clock.advance(Duration::from_secs(60));
        let second = setup.accounts.refresh(&first.refresh).await.unwrap();
        assert!(first.refresh != second.refresh && first.access != second.access);
        setup.clock.advance(Duration::from_secs(9));
        let again = setup.accounts.refresh(&first.refresh).await.unwrap();
        assert!(again.refresh == second.refresh);
        assert_eq!(setup.accounts.authenticate(&again.access).await.unwrap().host, setup.host.id);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_reuse_of_a_refresh_token_ends_the_login_everywhere() {
    with_a_host(|setup| async move {
        let first = setup.log_in().await;
        let second = setup.accounts.refresh(&first.refresh).await.unwrap();
        let sid = setup.accounts.authenticate(&second.access).await.unwrap().sid;
        setup.clock.advance(Duration::from_secs(11));
        assert_eq!(setup.accounts.refresh(&first.refresh).await.err(), Some(AuthError::Ended));
        assert_eq!(setup.accounts.refresh(&second.refresh).await.err(), Some(AuthError::Ended));
        assert_eq!(setup.accounts.authenticate(&second.access).await.err(), Some(AuthError::Ended));
        assert_eq!(*setup.published.lock().unwrap(), [Control::LoginEnded { sid }]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logging_out_ends_one_login_and_not_the_other() {
    with_a_host(|setup| async move {
        let (here, there) = (setup.log_in().await, setup.log_in().await);
        let claims = setup.accounts.authenticate(&here.access).await.unwrap();
        setup.accounts.logout(&claims.sid).await.unwrap();
        assert_eq!(setup.accounts.authenticate(&here.access).await.err(), Some(AuthError::Ended));
        assert_eq!(setup.accounts.refresh(&here.refresh).await.err(), Some(AuthError::Ended));
        assert!(setup.accounts.authenticate(&there.access).await.is_ok());
        assert_eq!(*setup.published.lock().unwrap(), [Control::LoginEnded { sid: claims.sid }]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn login_ended_on_another_node_is_rejected_within_five_seconds_or_at_once_if_announced() {
    with_a_host(|setup| async move {
        for echo in [true, false] {
            let tokens = setup.log_in().await;
            let sid = setup.accounts.authenticate(&tokens.access).await.unwrap().sid;
            setup.accounts.store.logins().end(&sid, setup.clock.now()).await.unwrap();
            assert!(setup.accounts.authenticate(&tokens.access).await.is_ok(), "the cached login is still accepted");
            if echo {
                setup.accounts.login_ended(&sid);
            } else {
                setup.clock.advance(Duration::from_secs(5));
            }
            assert_eq!(setup.accounts.authenticate(&tokens.access).await.err(), Some(AuthError::Ended));
        }
    })
    .await;
}

#[test]
fn new_account_must_meet_every_rule() {
    assert_eq!(rules::check(&account()), Ok(Some("shop.example".into())));
    let wrong = NewAccount {
        email: "dev".into(),
        password: "1234567".into(),
        service_name: " ".into(),
        service_expl: "가".repeat(201),
        service_domain: Some("a b".into()),
    };
    let fields: Vec<_> = rules::check(&wrong).unwrap_err().into_keys().collect();
    assert_eq!(fields, ["email", "password", "serviceDomain", "serviceExpl", "serviceName"]);
    assert!(rules::check(&NewAccount { service_name: "가".repeat(50), ..account() }).is_ok());
}

#[test]
fn email_address_needs_text_on_both_sides_of_one_at_sign() {
    for good in ["a@b", "user.name+tag@sub.example", "손님@한국.example"] {
        assert!(is_email(good), "{good}");
    }
    for bad in ["", "a", "@b", "a@", "a@b..c", "a b@c", "a@b@c", "a@b\n", "<a@b>", &format!("{}@b", "x".repeat(65))] {
        assert!(!is_email(bad), "{bad}");
    }
}

#[test]
fn secret_key_is_encoded_in_hex() {
    assert_eq!(hex([0, 15, 255]), "000fff");
}

fn new_account(email: &str) -> NewAccount {
    NewAccount { email: email.into(), ..account() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn device_is_known_only_to_its_own_account() {
    with_a_host(|setup| async move {
        let accounts = &setup.accounts;
        accounts.create_host(new_account("other@shop.example")).await.unwrap();
        let token = setup.log_in().await.refresh;
        setup.clock.advance(Duration::from_secs(100 * 86_400));
        assert!(accounts.device_of("DEV@shop.example", &["x.y.z", &token]).await.is_some(), "expired or not");
        assert_eq!(accounts.device_of("other@shop.example", &[&token]).await, None);
        assert_eq!(accounts.device_of("unknown@shop.example", &[&token]).await, None);
        assert_eq!(accounts.device_of("dev@shop.example", &[]).await, None);
    })
    .await;
}
