use std::sync::Mutex;

use super::*;
use crate::domain::HostId;
use crate::domain::clock::ManualClock;
use crate::store::testing::on_fresh;
use crate::store::{Dialect, ExpiringRows};

struct World {
    accounts: Accounts,
    clock: Arc<ManualClock>,
    announced: Arc<Mutex<Vec<Control>>>,
    host: Host,
}

/// Runs a test with accounts over a separate database with one host: dev@shop.example, "pass word".
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
    /// Takes all due e-mails and returns the code or password of the newest, and its recipient.
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
            world.accounts.store.logins().end(&sid, world.clock.now()).await.unwrap();
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

fn new_account(email: &str) -> NewAccount {
    NewAccount { email: email.into(), ..account() }
}

fn too_early<T: std::fmt::Debug>(outcome: Result<T, SignUpError>) -> bool {
    matches!(outcome, Err(SignUpError::TooEarly(_)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_made_of_an_address_that_showed_its_code_and_once() {
    with_a_host(|world| async move {
        let accounts = &world.accounts;
        let checked = accounts.check_email("New@shop.example").await.unwrap();
        assert!(too_early(accounts.mail_code("new@shop.example", None, Language::Korean).await));
        assert!(too_early(accounts.mail_code("other@shop.example", Some(&checked), Language::Korean).await));
        assert!(too_early(accounts.confirm_email("000000", Some(&checked)).await));
        let mailed = accounts.mail_code("new@shop.example", Some(&checked), Language::Korean).await.unwrap();
        let (to, code) = world.mailed().await.unwrap();
        assert_eq!(to, "New@shop.example");
        assert!(too_early(accounts.sign_up(new_account("new@shop.example"), Some(&mailed)).await), "not confirmed");
        let other = if code == "000000" { "000001" } else { "000000" };
        assert_eq!(accounts.confirm_email(other, Some(&mailed)).await, Err(SignUpError::WrongCode));
        for _ in 0..2 {
            assert_eq!(accounts.confirm_email(&format!(" {code} "), Some(&mailed)).await, Ok(()));
        }
        assert!(too_early(accounts.sign_up(new_account("other@shop.example"), Some(&mailed)).await));
        let host = accounts.sign_up(new_account("new@shop.example"), Some(&mailed)).await.unwrap();
        assert_eq!((host.profile_name.as_str(), host.config.use_online_status), ("Shop", true));
        assert!(too_early(accounts.sign_up(new_account("new@shop.example"), Some(&mailed)).await), "once");
        assert!(accounts.login("NEW@shop.example", "pass word").await.is_ok());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_taken_is_refused_at_every_step() {
    with_a_host(|world| async move {
        let accounts = &world.accounts;
        assert_eq!(accounts.check_email("DEV@shop.example").await, Err(CreateHostError::EmailTaken));
        let taken = Err(SignUpError::Create(CreateHostError::EmailTaken));
        let checked = accounts.check_email("new@shop.example").await.unwrap();
        let mailed = accounts.mail_code("new@shop.example", Some(&checked), Language::English).await.unwrap();
        let (_, code) = world.mailed().await.unwrap();
        accounts.confirm_email(&code, Some(&mailed)).await.unwrap();
        accounts.create_host(new_account("new@shop.example")).await.unwrap();
        let again = accounts.mail_code("new@shop.example", Some(&checked), Language::English).await;
        assert_eq!(again.map(drop), taken);
        let made = accounts.sign_up(new_account("new@shop.example"), Some(&mailed)).await;
        assert_eq!(made.map(drop), taken);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_has_its_time_and_a_code_is_guessed_at_five_times() {
    with_a_host(|world| async move {
        let (accounts, minute) = (&world.accounts, Duration::from_secs(60));
        let checked = accounts.check_email("new@shop.example").await.unwrap();
        let mailed = accounts.mail_code("new@shop.example", Some(&checked), Language::Korean).await.unwrap();
        let (_, code) = world.mailed().await.unwrap();
        let wrong = if code == "000000" { "000001" } else { "000000" };
        for _ in 0..5 {
            assert_eq!(accounts.confirm_email(wrong, Some(&mailed)).await, Err(SignUpError::WrongCode));
        }
        assert!(too_early(accounts.confirm_email(&code, Some(&mailed)).await), "guessed at too often");

        let mailed = accounts.mail_code("new@shop.example", Some(&checked), Language::Korean).await.unwrap();
        let (_, code) = world.mailed().await.unwrap();
        world.clock.advance(5 * minute);
        assert!(too_early(accounts.confirm_email(&code, Some(&mailed)).await), "after five minutes");

        let mailed = accounts.mail_code("new@shop.example", Some(&checked), Language::Korean).await.unwrap();
        let (_, code) = world.mailed().await.unwrap();
        accounts.confirm_email(&code, Some(&mailed)).await.unwrap();
        world.clock.advance(10 * minute);
        assert!(too_early(accounts.sign_up(new_account("new@shop.example"), Some(&mailed)).await), "ten minutes later");

        world.clock.advance(45 * minute);
        assert!(too_early(accounts.mail_code("new@shop.example", Some(&checked), Language::Korean).await), "an hour");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_progress_is_no_login_and_a_login_no_progress() {
    with_a_host(|world| async move {
        let checked = world.accounts.check_email("new@shop.example").await.unwrap();
        assert_eq!(world.accounts.authenticate(&checked).await.err(), Some(AuthError::Invalid));
        let tokens = world.log_in().await;
        for token in [&tokens.access, &tokens.refresh, "x"] {
            assert!(too_early(world.accounts.mail_code("new@shop.example", Some(token), Language::Korean).await));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailed_password_is_good_beside_the_old_one_until_it_is_used() {
    with_a_host(|world| async move {
        let accounts = &world.accounts;
        accounts.mail_password("DEV@shop.example", Forgotten::Password, Language::English).await.unwrap();
        let (to, password) = world.mailed().await.unwrap();
        assert_eq!(to, "dev@shop.example");
        let old = world.log_in().await;
        assert!(accounts.login("dev@shop.example", &password.replace(['!', '#', '$', '%'], "-")).await.is_err());
        assert!(accounts.login("dev@shop.example", &password).await.is_ok());
        assert_eq!(accounts.login("dev@shop.example", "pass word").await.err(), Some(LoginError::WrongCredentials));
        assert_eq!(accounts.authenticate(&old.access).await.err(), Some(AuthError::Ended), "what the old one opened");
        assert!(accounts.login("dev@shop.example", &password).await.is_ok(), "it is the password now");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_again_does_not_end_the_password_that_was_mailed() {
    with_a_host(|world| async move {
        let (accounts, minute) = (&world.accounts, Duration::from_secs(60));
        let ask = async || {
            accounts.mail_password("dev@shop.example", Forgotten::Password, Language::Korean).await.unwrap();
            world.mailed().await.unwrap().1
        };
        // The clock starts at 22:13, so that the date changes during the test.
        let first = ask().await;
        for _ in 0..30 {
            world.clock.advance(5 * minute);
            assert_eq!(ask().await, first, "one that is good is mailed again");
        }
        world.clock.advance(59 * minute);
        assert!(accounts.login("dev@shop.example", &first).await.is_ok(), "for an hour from the last e-mail");
        let second = ask().await;
        assert_ne!(second, first, "it was used");
        world.clock.advance(48 * 60 * minute);
        assert_ne!(ask().await, second, "it had ended");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_device_only_its_own_account_is_known() {
    with_a_host(|world| async move {
        let accounts = &world.accounts;
        accounts.create_host(new_account("other@shop.example")).await.unwrap();
        let token = world.log_in().await.refresh;
        world.clock.advance(Duration::from_secs(100 * 86_400));
        assert!(accounts.device_of("DEV@shop.example", &["x.y.z", &token]).await.is_some(), "expired or not");
        assert_eq!(accounts.device_of("other@shop.example", &[&token]).await, None);
        assert_eq!(accounts.device_of("unknown@shop.example", &[&token]).await, None);
        assert_eq!(accounts.device_of("dev@shop.example", &[]).await, None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailed_password_is_good_for_an_hour_and_nobody_learns_who_has_an_account() {
    with_a_host(|world| async move {
        let accounts = &world.accounts;
        accounts.mail_password("dev@shop.example", Forgotten::Password, Language::Korean).await.unwrap();
        let (_, password) = world.mailed().await.unwrap();
        world.clock.advance(Duration::from_secs(3_600));
        assert!(accounts.login("dev@shop.example", &password).await.is_err());
        for (email, forgotten) in [
            ("who@shop.example", Forgotten::Password),
            ("who@shop.example", Forgotten::Account),
            ("dev@shop.example", Forgotten::Account),
            ("nonsense", Forgotten::Password),
        ] {
            assert_eq!(accounts.mail_password(email, forgotten, Language::Korean).await, Ok(()));
            assert_eq!(world.mailed().await, None, "{email} {forgotten:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_left_is_logged_out_everywhere_and_comes_back_by_mail() {
    with_a_host(|world| async move {
        let accounts = &world.accounts;
        let tokens = world.log_in().await;
        assert_eq!(accounts.leave(world.host.id, "wrong").await, Err(PasswordChangeError::WrongPassword));
        let left = accounts.leave(world.host.id, "pass word").await.unwrap();
        assert!(left.is_deleted && left.deleted_at == Some(world.clock.now()));
        assert_eq!(accounts.authenticate(&tokens.access).await.err(), Some(AuthError::Ended));
        assert!(world.announced.lock().unwrap().contains(&Control::HostDisabled { host: world.host.id }));
        assert_eq!(accounts.login("dev@shop.example", "pass word").await.err(), Some(LoginError::Deactivated));
        assert_eq!(accounts.login("dev@shop.example", "another").await.err(), Some(LoginError::WrongCredentials));
        accounts.mail_password("dev@shop.example", Forgotten::Password, Language::Korean).await.unwrap();
        assert_eq!(world.mailed().await, None, "an account that has ended is restored, not reset");
        accounts.mail_password("dev@shop.example", Forgotten::Account, Language::Korean).await.unwrap();
        let (_, password) = world.mailed().await.unwrap();
        let login = accounts.login("dev@shop.example", &password).await.unwrap();
        assert!(!login.host.is_deleted && login.host.deleted_at.is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_changed_ends_the_other_logins() {
    with_a_host(|world| async move {
        let (accounts, id) = (&world.accounts, world.host.id);
        let (here, there) = (world.log_in().await, world.log_in().await);
        let sid = accounts.authenticate(&here.access).await.unwrap().sid;
        let change = |current: &'static str, new: &'static str| accounts.change_password(id, &sid, current, new);
        assert_eq!(change("wrong", "new password").await, Err(PasswordChangeError::WrongPassword));
        for new in ["pass word", "short"] {
            assert!(matches!(change("pass word", new).await, Err(PasswordChangeError::Invalid(_))), "{new}");
        }
        change("pass word", "new password").await.unwrap();
        assert!(accounts.authenticate(&here.access).await.is_ok());
        assert_eq!(accounts.refresh(&there.refresh).await.err(), Some(AuthError::Ended));
        assert!(accounts.login("dev@shop.example", "pass word").await.is_err());
        assert!(accounts.login("dev@shop.example", "new password").await.is_ok());
    })
    .await;
}

/// Django hash of "pass word".
const DJANGO: &str = "pbkdf2_sha256$1000$7Tz2wYk1mXcB$f1dkMokJ+r4Ru92R4wJHjjwOVsFsOGA3WRI2sTQu4m0=";

impl World {
    async fn stored_hash(&self) -> String {
        self.accounts.store.hosts().credentials("dev@shop.example").await.unwrap().unwrap().password_hash
    }

    async fn opens(&self, keys: &Host) -> bool {
        let holder = self.accounts.store.keys().holder(&keys.access_key).await.unwrap();
        holder.is_some_and(|holder| self.accounts.opens(&holder, &keys.secret_key))
    }

    /// Runs the statement of the leader's cleanup job.
    async fn delete_ended_keys(&self) -> u64 {
        self.accounts.store.expired().delete(ExpiringRows::OldKey, self.clock.now(), 10).await.unwrap()
    }

    async fn rotate(&self, revoke_old: bool) -> Host {
        self.accounts.rotate_keys(self.host.id, revoke_old).await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hash_of_djangos_opens_a_login_once_and_is_argon2id_from_then_on() {
    with_a_host(|world| async move {
        world.accounts.store.passwords().set_hash(world.host.id, DJANGO).await.unwrap();
        let wrong = world.accounts.login("dev@shop.example", "pass wort").await.err();
        assert_eq!((wrong, world.stored_hash().await.as_str()), (Some(LoginError::WrongCredentials), DJANGO));
        for _ in 0..2 {
            world.log_in().await;
            assert!(world.stored_hash().await.starts_with("$argon2id$"));
        }
        let first = world.stored_hash().await;
        world.log_in().await;
        assert_eq!(world.stored_hash().await, first, "a hash of today stays");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_was_changed_while_the_old_one_was_checked_stays_changed() {
    with_a_host(|world| async move {
        let changed = world.stored_hash().await;
        let hash = world.accounts.renew_hash(world.host.id, "pass word", DJANGO.to_owned()).await;
        assert_eq!(hash, DJANGO);
        assert_eq!(world.stored_hash().await, changed);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_first_logins_with_an_old_hash_each_begins() {
    with_a_host(|world| async move {
        world.accounts.store.passwords().set_hash(world.host.id, DJANGO).await.unwrap();
        let logins = (0..3).map(|_| world.accounts.login("dev@shop.example", "pass word"));
        for login in futures_util::future::join_all(logins).await {
            assert!(login.is_ok(), "{:?}", login.err());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hash_that_cannot_be_read_is_a_wrong_password() {
    with_a_host(|world| async move {
        for bad in ["", "!", "pass word", "pbkdf2_sha256$99999999$salt$AAAA", &DJANGO.replace("$1000$", "$-1000$")] {
            world.accounts.store.passwords().set_hash(world.host.id, bad).await.unwrap();
            let outcome = world.accounts.login("dev@shop.example", "pass word").await;
            assert_eq!(outcome.err(), Some(LoginError::WrongCredentials), "{bad}");
            assert_eq!(world.stored_hash().await, bad);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_keys_go_on_for_a_day_each_to_its_own_end() {
    with_a_host(|world| async move {
        let hour = Duration::from_secs(3_600);
        let second = world.rotate(false).await;
        assert!(second.access_key != world.host.access_key && second.secret_key != world.host.secret_key);
        assert_eq!((second.access_key.len(), second.secret_key.len()), (22, 64));
        world.clock.advance(hour);
        let third = world.rotate(false).await;
        world.clock.advance(22 * hour);
        for keys in [&world.host, &second, &third] {
            assert!(world.opens(keys).await);
        }
        let mixed = Host { secret_key: third.secret_key.clone(), ..second.clone() };
        assert!(!world.opens(&mixed).await, "a secret goes with its own access key only");
        world.clock.advance(hour);
        assert_eq!((world.opens(&world.host).await, world.opens(&second).await), (false, true));
        assert_eq!(world.delete_ended_keys().await, 1);
        world.clock.advance(hour);
        assert_eq!((world.opens(&second).await, world.opens(&third).await), (false, true));
        assert_eq!(world.delete_ended_keys().await, 1);
        let told = Control::ConfigChanged { host: world.host.id };
        assert_eq!(*world.announced.lock().unwrap(), [told.clone(), told]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoking_ends_all_old_keys_at_once_and_so_does_no_grace_the_last_ones() {
    with_a_host(|world| async move {
        let second = world.rotate(false).await;
        let third = world.rotate(true).await;
        for old in [&world.host, &second] {
            assert!(!world.opens(old).await);
        }
        assert!(world.opens(&third).await);
        let hasty = world.accounts.clone().with_key_grace(Duration::ZERO);
        let fourth = hasty.rotate_keys(world.host.id, false).await.unwrap().unwrap();
        assert_eq!((world.opens(&third).await, world.opens(&fourth).await), (false, true));
        assert_eq!(world.accounts.rotate_keys(HostId(999), true).await, Ok(None));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_host_is_out_everywhere_until_he_is_enabled_and_logs_in_again() {
    with_a_host(|world| async move {
        let tokens = world.log_in().await;
        let sid = world.accounts.authenticate(&tokens.access).await.unwrap().sid;
        for _ in 0..2 {
            let disabled = world.accounts.disable_host(world.host.id).await.unwrap().unwrap();
            assert_eq!((disabled.is_deleted, disabled.deleted_at), (true, Some(world.host.created_at)));
        }
        let disabled = Control::HostDisabled { host: world.host.id };
        assert_eq!(*world.announced.lock().unwrap(), [disabled.clone(), Control::LoginEnded { sid }, disabled]);
        let login = world.accounts.login("dev@shop.example", "pass word").await;
        assert_eq!(login.err(), Some(LoginError::Deactivated));
        let enabled = world.accounts.enable_host(world.host.id).await.unwrap();
        assert_eq!(enabled, Some(world.host.clone()));
        assert_eq!(world.accounts.authenticate(&tokens.access).await.err(), Some(AuthError::Ended));
        assert_eq!(world.accounts.refresh(&tokens.refresh).await.err(), Some(AuthError::Ended));
        world.log_in().await;
        assert_eq!(world.accounts.disable_host(HostId(999)).await, Ok(None));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_an_operator_sets_ends_every_login_and_keeps_the_rules() {
    with_a_host(|world| async move {
        let mut sids = Vec::new();
        for _ in 0..2 {
            let tokens = world.log_in().await;
            sids.push(world.accounts.authenticate(&tokens.access).await.unwrap().sid);
        }
        for bad in ["1234567", &"x".repeat(1_025)] {
            let refused = world.accounts.set_password(world.host.id, bad).await;
            assert!(matches!(refused, Err(SetPasswordError::Invalid(_))), "{refused:?}");
        }
        let set = world.accounts.set_password(world.host.id, "another one").await.unwrap();
        assert_eq!(set, Some(world.host.clone()));
        let ended = world.announced.lock().unwrap().clone();
        assert_eq!(ended.len(), 2);
        for sid in sids {
            assert!(ended.contains(&Control::LoginEnded { sid }));
        }
        let old = world.accounts.login("dev@shop.example", "pass word").await;
        assert_eq!(old.err(), Some(LoginError::WrongCredentials));
        assert!(world.accounts.login("dev@shop.example", "another one").await.is_ok());
    })
    .await;
}
