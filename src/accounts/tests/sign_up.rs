//! Tests for the multi-step sign-up.

use super::*;

fn too_early<T: std::fmt::Debug>(outcome: Result<T, SignUpError>) -> bool {
    matches!(outcome, Err(SignUpError::TooEarly(_)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn account_needs_a_confirmed_address_and_is_created_once() {
    with_a_host(|setup| async move {
        let accounts = &setup.accounts;
        let checked = accounts.check_email("New@shop.example").await.unwrap();
        assert!(too_early(accounts.mail_code("new@shop.example", None, Language::Korean).await));
        assert!(too_early(accounts.mail_code("other@shop.example", Some(&checked), Language::Korean).await));
        assert!(too_early(accounts.confirm_email("000000", Some(&checked)).await));
        let mailed = accounts.mail_code("new@shop.example", Some(&checked), Language::Korean).await.unwrap();
        let (to, code) = setup.mailed().await.unwrap();
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
async fn taken_address_is_rejected_at_every_step() {
    with_a_host(|setup| async move {
        let accounts = &setup.accounts;
        assert_eq!(accounts.check_email("DEV@shop.example").await, Err(CreateHostError::EmailTaken));
        let taken = Err(SignUpError::Create(CreateHostError::EmailTaken));
        let checked = accounts.check_email("new@shop.example").await.unwrap();
        let mailed = accounts.mail_code("new@shop.example", Some(&checked), Language::English).await.unwrap();
        let (_, code) = setup.mailed().await.unwrap();
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
async fn every_step_expires_and_a_code_allows_five_attempts() {
    with_a_host(|setup| async move {
        let (accounts, minute) = (&setup.accounts, Duration::from_secs(60));
        let checked = accounts.check_email("new@shop.example").await.unwrap();
        let mailed = accounts.mail_code("new@shop.example", Some(&checked), Language::Korean).await.unwrap();
        let (_, code) = setup.mailed().await.unwrap();
        let wrong = if code == "000000" { "000001" } else { "000000" };
        for _ in 0..5 {
            assert_eq!(accounts.confirm_email(wrong, Some(&mailed)).await, Err(SignUpError::WrongCode));
        }
        assert!(too_early(accounts.confirm_email(&code, Some(&mailed)).await), "too many wrong codes");

        let mailed = accounts.mail_code("new@shop.example", Some(&checked), Language::Korean).await.unwrap();
        let (_, code) = setup.mailed().await.unwrap();
        setup.clock.advance(5 * minute);
        assert!(too_early(accounts.confirm_email(&code, Some(&mailed)).await), "after five minutes");

        let mailed = accounts.mail_code("new@shop.example", Some(&checked), Language::Korean).await.unwrap();
        let (_, code) = setup.mailed().await.unwrap();
        accounts.confirm_email(&code, Some(&mailed)).await.unwrap();
        setup.clock.advance(10 * minute);
        assert!(too_early(accounts.sign_up(new_account("new@shop.example"), Some(&mailed)).await), "ten minutes later");

        setup.clock.advance(45 * minute);
        assert!(too_early(accounts.mail_code("new@shop.example", Some(&checked), Language::Korean).await), "an hour");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sign_up_token_and_login_token_are_not_interchangeable() {
    with_a_host(|setup| async move {
        let checked = setup.accounts.check_email("new@shop.example").await.unwrap();
        assert_eq!(setup.accounts.authenticate(&checked).await.err(), Some(AuthError::Invalid));
        let tokens = setup.log_in().await;
        for token in [&tokens.access, &tokens.refresh, "x"] {
            assert!(too_early(setup.accounts.mail_code("new@shop.example", Some(token), Language::Korean).await));
        }
    })
    .await;
}
