//! Tests of hosts and logins.

use std::time::Duration;

use super::*;
use crate::domain::{HostConfig, HostId};
use crate::store::{DeactivatedBy, ImageSwap, LoginCreation, Rotation, StoreError};

const GRACE: Duration = Duration::from_secs(10);

on_every_database!(
    a_host_is_found_by_row_uuid_key_and_address,
    address_is_unique_regardless_of_case,
    an_accent_makes_another_address,
    a_setting_is_kept,
    changing_an_image_returns_the_previous_one,
    concurrent_image_changes_return_different_previous_images,
    refresh_token_is_valid_once,
    two_tabs_that_refresh_at_once_stay_logged_in,
    an_older_refresh_token_ends_the_login,
    an_expired_or_ended_login_cannot_be_refreshed,
    other_logins_end_and_are_named,
    login_is_created_only_if_the_checked_password_is_unchanged,
);

async fn a_host_is_found_by_row_uuid_key_and_address(store: Store, _url: String) {
    let host = a_host(&store).await;
    assert_eq!(host.profile_name, "가게");
    assert!(host.config.use_online_status);
    assert_eq!(store.hosts().get(host.id).await.unwrap().as_ref(), Some(&host));
    assert_eq!(store.hosts().by_uuid(host.uuid).await.unwrap().as_ref(), Some(&host));
    assert_eq!(store.hosts().by_access_key(&host.access_key).await.unwrap().as_ref(), Some(&host));
    assert_eq!(store.hosts().by_access_key(&host.access_key.to_lowercase()).await.unwrap(), None);
    let credentials = store.hosts().credentials("HOST@Shop.example").await.unwrap().unwrap();
    assert_eq!((credentials.host, credentials.password_hash.as_str()), (host, "$argon2id$"));
    assert!(store.hosts().credentials("unknown@shop.example").await.unwrap().is_none());
    // MySQL ignores trailing spaces in comparisons, but the store must not ignore them.
    assert!(store.hosts().credentials("host@shop.example ").await.unwrap().is_none());
    assert_eq!(store.hosts().get(HostId(999)).await.unwrap(), None);
}

async fn address_is_unique_regardless_of_case(store: Store, _url: String) {
    a_host(&store).await;
    let again = store.hosts().create(new_host("Host@SHOP.example"), noon()).await;
    assert_eq!(again.unwrap_err(), StoreError::Conflict);
}

async fn an_accent_makes_another_address(store: Store, _url: String) {
    let one = store.hosts().create(new_host("jose@shop.example"), noon()).await.unwrap();
    let other = store.hosts().create(new_host("josé@shop.example"), noon()).await.unwrap();
    assert_eq!(store.hosts().credentials("jose@shop.example").await.unwrap().unwrap().host, one);
    assert_eq!(store.hosts().credentials("JOSÉ@shop.example").await.unwrap().unwrap().host, other);
}

async fn a_setting_is_kept(store: Store, _url: String) {
    let host = a_host(&store).await;
    for wanted in [false, false, true] {
        let config = HostConfig { use_online_status: wanted, email_notifications: !wanted };
        store.hosts().set_config(host.id, config).await.unwrap();
        assert_eq!(store.hosts().get(host.id).await.unwrap().unwrap().config, config);
    }
}

async fn changing_an_image_returns_the_previous_one(store: Store, _url: String) {
    let host = a_host(&store).await;
    let had = |name: &str| ImageSwap::Swapped(Some(name.to_owned()));
    for (image, replaced) in [
        (Some("one.png"), ImageSwap::Swapped(None)),
        (Some("two.png"), had("one.png")),
        (None, had("two.png")),
        (None, ImageSwap::Swapped(None)),
    ] {
        assert_eq!(store.hosts().swap_profile_image(host.id, image, later(5)).await, Ok(replaced));
        let now = store.hosts().get(host.id).await.unwrap().unwrap();
        assert_eq!((now.profile_image.as_deref(), now.updated_at), (image, later(5)));
    }
    assert_eq!(store.hosts().swap_profile_image(HostId(999), Some("x.png"), noon()).await, Ok(ImageSwap::NoHost));
}

async fn concurrent_image_changes_return_different_previous_images(store: Store, _url: String) {
    let host = a_host(&store).await;
    let names: Vec<String> = (0..6).map(|n| format!("{n}.png")).collect();
    let swaps = names.iter().map(|name| store.hosts().swap_profile_image(host.id, Some(name), noon()));
    let mut seen: Vec<String> = Vec::new();
    for swap in futures_util::future::join_all(swaps).await {
        let ImageSwap::Swapped(before) = swap.unwrap() else { panic!("the host does not exist") };
        seen.extend(before);
    }
    seen.extend(store.hosts().get(host.id).await.unwrap().unwrap().profile_image);
    seen.sort();
    assert_eq!(seen, names);
}

const HASH: &str = "$argon2id$";

/// Creates a login of the only host.
async fn login(store: &Store, sid: &str) -> HostId {
    let host = match store.hosts().credentials("host@shop.example").await.unwrap() {
        Some(known) => known.host.id,
        None => a_host(store).await.id,
    };
    assert_eq!(store.logins().create(sid, host, HASH, noon(), later(60_000)).await, Ok(LoginCreation::Created));
    host
}

async fn rotate(store: &Store, generation: u64, at_millis: i64) -> Rotation {
    store.logins().rotate("sid", generation, later(at_millis), later(at_millis + 60_000), GRACE).await.unwrap()
}

async fn refresh_token_is_valid_once(store: Store, _url: String) {
    let host = login(&store, "sid").await;
    assert_eq!(rotate(&store, 0, 1_000).await, Rotation::Rotated { host, generation: 1, rotated_at: later(1_000) });
    assert_eq!(rotate(&store, 1, 2_000).await, Rotation::Rotated { host, generation: 2, rotated_at: later(2_000) });
    assert_eq!(rotate(&store, 9, 2_000).await, Rotation::Ended);
    assert!(store.logins().is_active("sid", later(61_999)).await.unwrap());
    assert!(!store.logins().is_active("sid", later(62_000)).await.unwrap());
    assert!(!store.logins().is_active("SID", noon()).await.unwrap());
    assert_eq!(store.logins().create("sid", host, HASH, noon(), noon()).await, Err(StoreError::Conflict));
}

async fn two_tabs_that_refresh_at_once_stay_logged_in(store: Store, _url: String) {
    let host = login(&store, "sid").await;
    let tabs: Vec<_> = (0..5)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { rotate(&store, 0, 1_000).await })
        })
        .collect();
    let mut rotated = 0;
    for tab in tabs {
        match tab.await.unwrap() {
            Rotation::Rotated { generation: 1, .. } => rotated += 1,
            other => assert_eq!(other, Rotation::JustRotated { host, generation: 1, rotated_at: later(1_000) }),
        }
    }
    assert_eq!(rotated, 1);
    assert!(store.logins().is_active("sid", later(1_000)).await.unwrap());
}

async fn an_older_refresh_token_ends_the_login(store: Store, _url: String) {
    let host = login(&store, "sid").await;
    rotate(&store, 0, 1_000).await;
    assert_eq!(rotate(&store, 0, 11_001).await, Rotation::Theft { host }, "the previous token, after the grace period");
    assert!(!store.logins().is_active("sid", later(11_001)).await.unwrap());
    assert_eq!(rotate(&store, 1, 11_002).await, Rotation::Ended, "the newest token is also invalid");

    login(&store, "other").await;
    for generation in 0..2 {
        store.logins().rotate("other", generation, later(1), later(60_000), GRACE).await.unwrap();
    }
    let two_back = store.logins().rotate("other", 0, later(2), later(60_000), GRACE).await.unwrap();
    assert_eq!(two_back, Rotation::Theft { host }, "older than the previous token, within the grace period");
}

async fn an_expired_or_ended_login_cannot_be_refreshed(store: Store, _url: String) {
    login(&store, "sid").await;
    assert_eq!(rotate(&store, 0, 60_000).await, Rotation::Ended);
    assert!(store.logins().end("sid", later(1)).await.unwrap());
    assert!(!store.logins().end("sid", later(2)).await.unwrap());
    assert_eq!(rotate(&store, 0, 3).await, Rotation::Ended);
    assert!(!store.logins().end("unknown", later(1)).await.unwrap());
}

async fn other_logins_end_and_are_named(store: Store, _url: String) {
    let host = login(&store, "a").await;
    login(&store, "b").await;
    login(&store, "c").await;
    let elsewhere = store.hosts().create(new_host("elsewhere@shop.example"), noon()).await.unwrap().id;
    store.logins().create("elsewhere", elsewhere, HASH, noon(), later(60_000)).await.unwrap();
    store.logins().end("c", later(1)).await.unwrap();
    assert_eq!(store.logins().end_others(host, Some("a"), later(2)).await.unwrap(), ["b"]);
    assert_eq!(store.logins().end_others(host, None, later(2)).await.unwrap(), ["a"]);
    assert!(store.logins().end_others(host, None, later(2)).await.unwrap().is_empty());
    assert!(store.logins().is_active("elsewhere", later(2)).await.unwrap());
}

async fn login_is_created_only_if_the_checked_password_is_unchanged(store: Store, _url: String) {
    let host = a_host(&store).await.id;
    let begin = async |sid: &str, hash: &str| {
        let begun = store.logins().create(sid, host, hash, noon(), later(60_000)).await.unwrap();
        assert_eq!(store.logins().is_active(sid, noon()).await.unwrap(), begun == LoginCreation::Created);
        begun
    };
    assert_eq!(begin("a", "another").await, LoginCreation::Rejected);
    assert_eq!(begin("b", HASH).await, LoginCreation::Created);
    store.passwords().set_hash(host, "newer").await.unwrap();
    assert_eq!(begin("c", HASH).await, LoginCreation::Rejected);
    store.hosts().deactivate(host, DeactivatedBy::Host, later(1)).await.unwrap();
    assert_eq!(begin("d", "newer").await, LoginCreation::Rejected);
    store.hosts().activate(host, later(2)).await.unwrap();
    assert_eq!(begin("e", "newer").await, LoginCreation::Created);
}
