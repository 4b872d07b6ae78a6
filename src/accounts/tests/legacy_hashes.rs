//! Tests that Django password hashes are accepted and replaced.

use super::*;

/// Django hash of "pass word".
const DJANGO: &str = "pbkdf2_sha256$1000$7Tz2wYk1mXcB$f1dkMokJ+r4Ru92R4wJHjjwOVsFsOGA3WRI2sTQu4m0=";

impl TestAccounts {
    async fn stored_hash(&self) -> String {
        self.accounts.store.hosts().credentials("dev@shop.example").await.unwrap().unwrap().password_hash
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn django_hash_is_replaced_by_argon2id_at_the_first_login() {
    with_a_host(|setup| async move {
        setup.accounts.store.passwords().set_hash(setup.host.id, DJANGO).await.unwrap();
        let wrong = setup.accounts.login("dev@shop.example", "pass wort").await.err();
        assert_eq!((wrong, setup.stored_hash().await.as_str()), (Some(LoginError::WrongCredentials), DJANGO));
        for _ in 0..2 {
            setup.log_in().await;
            assert!(setup.stored_hash().await.starts_with("$argon2id$"));
        }
        let first = setup.stored_hash().await;
        setup.log_in().await;
        assert_eq!(setup.stored_hash().await, first, "an Argon2id hash is not replaced");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hash_renewal_does_not_overwrite_a_concurrent_password_change() {
    with_a_host(|setup| async move {
        let changed = setup.stored_hash().await;
        let hash = setup.accounts.renew_hash(setup.host.id, "pass word", DJANGO.to_owned()).await;
        assert_eq!(hash, DJANGO);
        assert_eq!(setup.stored_hash().await, changed);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_first_logins_with_a_legacy_hash_succeed() {
    with_a_host(|setup| async move {
        setup.accounts.store.passwords().set_hash(setup.host.id, DJANGO).await.unwrap();
        let logins = (0..3).map(|_| setup.accounts.login("dev@shop.example", "pass word"));
        for login in futures_util::future::join_all(logins).await {
            assert!(login.is_ok(), "{:?}", login.err());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_hash_is_a_wrong_password() {
    with_a_host(|setup| async move {
        for bad in ["", "!", "pass word", "pbkdf2_sha256$99999999$salt$AAAA", &DJANGO.replace("$1000$", "$-1000$")] {
            setup.accounts.store.passwords().set_hash(setup.host.id, bad).await.unwrap();
            let outcome = setup.accounts.login("dev@shop.example", "pass word").await;
            assert_eq!(outcome.err(), Some(LoginError::WrongCredentials), "{bad}");
            assert_eq!(setup.stored_hash().await, bad);
        }
    })
    .await;
}
