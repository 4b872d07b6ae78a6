use std::sync::Mutex;

use super::*;
use crate::clock::ManualClock;
use crate::store::Dialect;
use crate::store::testing::on_fresh;

struct World {
    accounts: Accounts,
    clock: Arc<ManualClock>,
    announced: Arc<Mutex<Vec<Control>>>,
    host: Host,
}

/// Accounts over a database of their own, with one host: dev@shop.example, "pass word".
async fn with_a_host<F>(test: impl FnOnce(World) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    on_fresh(Dialect::Sqlite, move |store, _| async move {
        let clock = Arc::new(ManualClock::new(DateTime::from_timestamp(1_700_000_000, 0).unwrap()));
        let announced = Arc::new(Mutex::new(Vec::new()));
        let heard = announced.clone();
        let announce: Announce = Arc::new(move |control| {
            heard.lock().unwrap().push(control);
            Box::pin(std::future::ready(()))
        });
        let keys = TokenKeys::new(&["a secret of thirty-two characters"]).unwrap();
        let accounts = Accounts::new(store, clock.clone(), Chance::from_seed(1), keys, announce);
        let host = accounts.create_host(account()).await.unwrap();
        test(World { accounts, clock, announced, host }).await;
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

impl World {
    async fn log_in(&self) -> Tokens {
        self.accounts.login("dev@shop.example", "pass word").await.unwrap().tokens
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_host_has_keys_of_the_agreed_form_and_an_address_of_his_own() {
    with_a_host(|world| async move {
        let host = &world.host;
        assert_eq!((host.access_key.len(), host.secret_key.len()), (22, 64));
        assert_eq!((host.profile_name.as_str(), host.service_domain.as_deref()), ("Shop", Some("shop.example")));
        assert!(host.config.use_online_status);
        let again = NewAccount { email: "DEV@shop.example".into(), ..account() };
        assert_eq!(world.accounts.create_host(again).await, Err(CreateHostError::EmailTaken));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_and_an_unknown_address_get_the_same_answer() {
    with_a_host(|world| async move {
        for (email, password) in [("dev@shop.example", "pass wort"), ("who@shop.example", "pass word")] {
            let outcome = world.accounts.login(email, password).await;
            assert_eq!(outcome.err(), Some(LoginError::WrongCredentials), "{email}");
        }
        let long = "x".repeat(60_000);
        assert_eq!(world.accounts.login(&long, &long).await.err(), Some(LoginError::WrongCredentials));
        assert_eq!(world.accounts.login("Dev@Shop.example", "pass word").await.unwrap().host, world.host);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refreshed_login_gives_new_tokens_and_two_tabs_get_the_same_cookie() {
    with_a_host(|world| async move {
        let first = world.log_in().await;
        world.clock.advance(Duration::from_secs(60));
        let second = world.accounts.refresh(&first.refresh).await.unwrap();
        assert!(first.refresh != second.refresh && first.access != second.access);
        world.clock.advance(Duration::from_secs(9));
        let again = world.accounts.refresh(&first.refresh).await.unwrap();
        assert!(again.refresh == second.refresh);
        assert_eq!(world.accounts.authenticate(&again.access).await.unwrap().host, world.host.id);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_refresh_token_that_comes_back_later_ends_the_login_everywhere() {
    with_a_host(|world| async move {
        let first = world.log_in().await;
        let second = world.accounts.refresh(&first.refresh).await.unwrap();
        let sid = world.accounts.authenticate(&second.access).await.unwrap().sid;
        world.clock.advance(Duration::from_secs(11));
        assert_eq!(world.accounts.refresh(&first.refresh).await.err(), Some(AuthError::Ended));
        assert_eq!(world.accounts.refresh(&second.refresh).await.err(), Some(AuthError::Ended));
        assert_eq!(world.accounts.authenticate(&second.access).await.err(), Some(AuthError::Ended));
        assert_eq!(*world.announced.lock().unwrap(), [Control::LoginEnded { sid }]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logging_out_ends_one_login_and_not_the_other() {
    with_a_host(|world| async move {
        let (here, there) = (world.log_in().await, world.log_in().await);
        let claims = world.accounts.authenticate(&here.access).await.unwrap();
        world.accounts.logout(&claims.sid).await.unwrap();
        assert_eq!(world.accounts.authenticate(&here.access).await.err(), Some(AuthError::Ended));
        assert_eq!(world.accounts.refresh(&here.refresh).await.err(), Some(AuthError::Ended));
        assert!(world.accounts.authenticate(&there.access).await.is_ok());
        assert_eq!(*world.announced.lock().unwrap(), [Control::LoginEnded { sid: claims.sid }]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_ended_elsewhere_is_noticed_within_five_seconds_or_at_once_when_told() {
    with_a_host(|world| async move {
        for told in [true, false] {
            let tokens = world.log_in().await;
            let sid = world.accounts.authenticate(&tokens.access).await.unwrap().sid;
            world.accounts.store.end_login(&sid, world.clock.now()).await.unwrap();
            assert!(world.accounts.authenticate(&tokens.access).await.is_ok(), "still believed");
            if told {
                world.accounts.login_ended(&sid);
            } else {
                world.clock.advance(Duration::from_secs(5));
            }
            assert_eq!(world.accounts.authenticate(&tokens.access).await.err(), Some(AuthError::Ended));
        }
    })
    .await;
}

#[test]
fn a_new_account_must_keep_every_rule() {
    assert_eq!(check(&account()), Ok(Some("shop.example".into())));
    let wrong = NewAccount {
        email: "dev".into(),
        password: "1234567".into(),
        service_name: " ".into(),
        service_expl: "가".repeat(201),
        service_domain: Some("a b".into()),
    };
    let fields: Vec<_> = check(&wrong).unwrap_err().into_keys().collect();
    assert_eq!(fields, ["email", "password", "serviceDomain", "serviceExpl", "serviceName"]);
    assert!(check(&NewAccount { service_name: "가".repeat(50), ..account() }).is_ok());
}

#[test]
fn an_address_needs_both_sides_of_one_at_sign() {
    for good in ["a@b", "user.name+tag@sub.example", "손님@한국.example"] {
        assert!(is_email(good), "{good}");
    }
    for bad in ["", "a", "@b", "a@", "a@b..c", "a b@c", "a@b@c", "a@b\n", "<a@b>", &format!("{}@b", "x".repeat(65))] {
        assert!(!is_email(bad), "{bad}");
    }
}

#[test]
fn a_secret_key_is_written_in_hex() {
    assert_eq!(hex(&[0, 15, 255]), "000fff");
}
