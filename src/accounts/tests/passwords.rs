//! Tests of temporary passwords, password changes, and leaving and restoring an account.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn temporary_password_is_valid_beside_the_old_one_until_it_is_used() {
    with_a_host(|setup| async move {
        let accounts = &setup.accounts;
        accounts.mail_password("DEV@shop.example", RecoveryKind::Password, Language::English).await.unwrap();
        let (to, password) = setup.mailed().await.unwrap();
        assert_eq!(to, "dev@shop.example");
        let old = setup.log_in().await;
        assert!(accounts.login("dev@shop.example", &password.replace(['!', '#', '$', '%'], "-")).await.is_err());
        assert!(accounts.login("dev@shop.example", &password).await.is_ok());
        assert_eq!(accounts.login("dev@shop.example", "pass word").await.err(), Some(LoginError::WrongCredentials));
        assert_eq!(
            accounts.authenticate(&old.access).await.err(),
            Some(AuthError::Ended),
            "logins with the old password have ended"
        );
        assert!(
            accounts.login("dev@shop.example", &password).await.is_ok(),
            "the temporary password has replaced the old one"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_request_keeps_the_temporary_password() {
    with_a_host(|setup| async move {
        let (accounts, minute) = (&setup.accounts, Duration::from_secs(60));
        let ask = async || {
            accounts.mail_password("dev@shop.example", RecoveryKind::Password, Language::Korean).await.unwrap();
            setup.mailed().await.unwrap().1
        };
        // The clock starts at 22:13, so the date changes during the test.
        let first = ask().await;
        for _ in 0..30 {
            setup.clock.advance(5 * minute);
            assert_eq!(ask().await, first, "a valid temporary password is e-mailed again");
        }
        setup.clock.advance(59 * minute);
        assert!(accounts.login("dev@shop.example", &first).await.is_ok(), "valid for an hour after the last e-mail");
        let second = ask().await;
        assert_ne!(second, first, "it was used");
        setup.clock.advance(48 * 60 * minute);
        assert_ne!(ask().await, second, "it had ended");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn temporary_password_expires_after_an_hour_and_reveals_no_account() {
    with_a_host(|setup| async move {
        let accounts = &setup.accounts;
        accounts.mail_password("dev@shop.example", RecoveryKind::Password, Language::Korean).await.unwrap();
        let (_, password) = setup.mailed().await.unwrap();
        setup.clock.advance(Duration::from_secs(3_600));
        assert!(accounts.login("dev@shop.example", &password).await.is_err());
        for (email, recovery) in [
            ("who@shop.example", RecoveryKind::Password),
            ("who@shop.example", RecoveryKind::Account),
            ("dev@shop.example", RecoveryKind::Account),
            ("nonsense", RecoveryKind::Password),
        ] {
            assert_eq!(accounts.mail_password(email, recovery, Language::Korean).await, Ok(()));
            assert_eq!(setup.mailed().await, None, "{email} {recovery:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deactivated_host_is_logged_out_everywhere_and_restored_by_email() {
    with_a_host(|setup| async move {
        let accounts = &setup.accounts;
        let tokens = setup.log_in().await;
        assert_eq!(accounts.leave(setup.host.id, "wrong").await, Err(PasswordChangeError::WrongPassword));
        let left = accounts.leave(setup.host.id, "pass word").await.unwrap();
        assert!(left.is_deleted && left.deleted_at == Some(setup.clock.now()));
        assert_eq!(accounts.authenticate(&tokens.access).await.err(), Some(AuthError::Ended));
        assert!(setup.published.lock().unwrap().contains(&Control::HostDisabled { host: setup.host.id }));
        assert_eq!(accounts.login("dev@shop.example", "pass word").await.err(), Some(LoginError::Deactivated));
        assert_eq!(accounts.login("dev@shop.example", "another").await.err(), Some(LoginError::WrongCredentials));
        accounts.mail_password("dev@shop.example", RecoveryKind::Password, Language::Korean).await.unwrap();
        assert_eq!(setup.mailed().await, None, "a deactivated account is restored, not reset");
        accounts.mail_password("dev@shop.example", RecoveryKind::Account, Language::Korean).await.unwrap();
        let (_, password) = setup.mailed().await.unwrap();
        let login = accounts.login("dev@shop.example", &password).await.unwrap();
        assert!(!login.host.is_deleted && login.host.deleted_at.is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn password_change_ends_the_other_logins() {
    with_a_host(|setup| async move {
        let (accounts, id) = (&setup.accounts, setup.host.id);
        let (here, there) = (setup.log_in().await, setup.log_in().await);
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
