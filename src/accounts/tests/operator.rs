//! Tests of operator actions on accounts.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disabled_host_is_logged_out_everywhere_until_enabled_and_logged_in_again() {
    with_a_host(|setup| async move {
        let tokens = setup.log_in().await;
        let sid = setup.accounts.authenticate(&tokens.access).await.unwrap().sid;
        for _ in 0..2 {
            let disabled = setup.accounts.disable_host(setup.host.id).await.unwrap().unwrap();
            assert_eq!((disabled.is_deleted, disabled.deleted_at), (true, Some(setup.host.created_at)));
        }
        let disabled = Control::HostDisabled { host: setup.host.id };
        assert_eq!(*setup.published.lock().unwrap(), [disabled.clone(), Control::LoginEnded { sid }, disabled]);
        let login = setup.accounts.login("dev@shop.example", "pass word").await;
        assert_eq!(login.err(), Some(LoginError::Deactivated));
        let enabled = setup.accounts.enable_host(setup.host.id).await.unwrap();
        assert_eq!(enabled, Some(setup.host.clone()));
        assert_eq!(setup.accounts.authenticate(&tokens.access).await.err(), Some(AuthError::Ended));
        assert_eq!(setup.accounts.refresh(&tokens.refresh).await.err(), Some(AuthError::Ended));
        setup.log_in().await;
        assert_eq!(setup.accounts.disable_host(HostId(999)).await, Ok(None));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn password_set_by_an_operator_ends_every_login_and_meets_the_rules() {
    with_a_host(|setup| async move {
        let mut sids = Vec::new();
        for _ in 0..2 {
            let tokens = setup.log_in().await;
            sids.push(setup.accounts.authenticate(&tokens.access).await.unwrap().sid);
        }
        for bad in ["1234567", &"x".repeat(1_025)] {
            let refused = setup.accounts.set_password(setup.host.id, bad).await;
            assert!(matches!(refused, Err(SetPasswordError::Invalid(_))), "{refused:?}");
        }
        let set = setup.accounts.set_password(setup.host.id, "another one").await.unwrap();
        assert_eq!(set, Some(setup.host.clone()));
        let ended = setup.published.lock().unwrap().clone();
        assert_eq!(ended.len(), 2);
        for sid in sids {
            assert!(ended.contains(&Control::LoginEnded { sid }));
        }
        let old = setup.accounts.login("dev@shop.example", "pass word").await;
        assert_eq!(old.err(), Some(LoginError::WrongCredentials));
        assert!(setup.accounts.login("dev@shop.example", "another one").await.is_ok());
    })
    .await;
}
