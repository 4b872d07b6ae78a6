//! Tests of service keys and their rotation.

use super::*;
use crate::domain::HostId;
use crate::store::{ExpiringRows, KeyPair, MAX_OLD_PAIRS, OldKeys};

on_every_database!(
    replaced_key_is_found_with_its_expiry_beside_the_current_one,
    rotating_once_more_is_harmless_when_it_is_the_same_pair,
    only_expired_keys_are_deleted,
    number_of_replaced_keys_per_host_is_limited,
    concurrent_rotations_lose_no_keys,
    revocation_affects_no_other_host,
);

fn pair(name: char) -> KeyPair {
    KeyPair { access_key: name.to_string().repeat(22), secret_key: name.to_string().repeat(64) }
}

async fn rotate(store: &Store, host: &Host, new: char, ends_at_millis: i64, at_millis: i64) -> Host {
    let old = OldKeys::GoodUntil(later(ends_at_millis));
    store.keys().rotate(host.id, &pair(new), old, later(at_millis)).await.unwrap().unwrap()
}

/// Returns the expiry of an access key. The outer option is `None` if the key is unknown.
async fn end_of(store: &Store, access_key: &str) -> Option<Option<DateTime<Utc>>> {
    store.keys().holder(access_key).await.unwrap().map(|holder| holder.ends_at)
}

async fn replaced_key_is_found_with_its_expiry_beside_the_current_one(store: Store, _url: String) {
    let host = a_host(&store).await;
    let rotated = rotate(&store, &host, 'b', 5_000, 1_000).await;
    assert_eq!((&rotated.access_key, &rotated.secret_key), (&pair('b').access_key, &pair('b').secret_key));
    assert_eq!(rotated.updated_at, later(1_000));
    assert_eq!(store.hosts().get(host.id).await.unwrap().as_ref(), Some(&rotated));

    let old = store.keys().holder(&host.access_key).await.unwrap().unwrap();
    assert_eq!((&*old.host, &old.secret_key, old.ends_at), (&rotated, &host.secret_key, Some(later(5_000))));
    let new = store.keys().holder(&rotated.access_key).await.unwrap().unwrap();
    assert_eq!((&*new.host, &new.secret_key, new.ends_at), (&rotated, &rotated.secret_key, None));
    assert_eq!(end_of(&store, &rotated.access_key.to_uppercase()).await, None);
    let missing = store.keys().rotate(HostId(999), &pair('c'), OldKeys::Revoked, noon()).await;
    assert_eq!(missing.unwrap(), None);
}

async fn rotating_once_more_is_harmless_when_it_is_the_same_pair(store: Store, _url: String) {
    let host = a_host(&store).await;
    let rotated = rotate(&store, &host, 'b', 5_000, 1_000).await;
    assert_eq!(rotate(&store, &host, 'b', 6_000, 2_000).await, rotated);
    assert_eq!(end_of(&store, &host.access_key).await, Some(Some(later(5_000))));
    assert_eq!(end_of(&store, &rotated.access_key).await, Some(None));
}

async fn only_expired_keys_are_deleted(store: Store, _url: String) {
    let host = a_host(&store).await;
    let other = store.hosts().create(new_host("other@shop.example"), noon()).await.unwrap();
    rotate(&store, &host, 'b', 5_000, 0).await;
    rotate(&store, &other, 'o', 5_000, 0).await;
    // Expired pairs are deleted at the host's next rotation.
    rotate(&store, &host, 'c', 7_000, 5_000).await;
    assert_eq!(end_of(&store, &host.access_key).await, None);
    assert_eq!(end_of(&store, &other.access_key).await, Some(Some(later(5_000))));
    // The leader's job deletes expired pairs of all hosts.
    assert_eq!(store.expired().delete(ExpiringRows::OldKey, later(4_999), 10).await, Ok(0));
    assert_eq!(store.expired().delete(ExpiringRows::OldKey, later(5_000), 10).await, Ok(1));
    assert_eq!(end_of(&store, &other.access_key).await, None);
    assert_eq!(end_of(&store, &pair('b').access_key).await, Some(Some(later(7_000))));
}

async fn number_of_replaced_keys_per_host_is_limited(store: Store, _url: String) {
    let host = a_host(&store).await;
    let names: Vec<char> = ('a'..='z').take(MAX_OLD_PAIRS + 2).collect();
    for (at, name) in (0..).zip(&names) {
        rotate(&store, &host, *name, 100_000 + at, at).await;
    }
    assert_eq!(end_of(&store, &host.access_key).await, None, "the pair that expires first is deleted first");
    assert_eq!(end_of(&store, &pair(names[0]).access_key).await, None);
    for name in &names[1..] {
        assert!(end_of(&store, &pair(*name).access_key).await.is_some(), "{name}");
    }
}

async fn concurrent_rotations_lose_no_keys(store: Store, _url: String) {
    let host = a_host(&store).await;
    let racers: Vec<_> = "abcd"
        .chars()
        .map(|name| {
            let (store, host) = (store.clone(), host.clone());
            tokio::spawn(async move { rotate(&store, &host, name, 60_000, 0).await })
        })
        .collect();
    for racer in racers {
        racer.await.unwrap();
    }
    let mut present = 0;
    for access_key in "abcd".chars().map(|name| pair(name).access_key).chain([host.access_key]) {
        match end_of(&store, &access_key).await {
            Some(None) => present += 1,
            other => assert_eq!(other, Some(Some(later(60_000))), "{access_key}"),
        }
    }
    assert_eq!(present, 1);
}

async fn revocation_affects_no_other_host(store: Store, _url: String) {
    let host = a_host(&store).await;
    let other = store.hosts().create(new_host("other@shop.example"), noon()).await.unwrap();
    rotate(&store, &host, 'b', 60_000, 0).await;
    rotate(&store, &other, 'o', 60_000, 0).await;
    let revoked = store.keys().rotate(host.id, &pair('c'), OldKeys::Revoked, later(1)).await.unwrap().unwrap();
    for old in [&host.access_key, &pair('b').access_key] {
        assert_eq!(end_of(&store, old).await, None);
    }
    assert_eq!(end_of(&store, &revoked.access_key).await, Some(None));
    assert!(end_of(&store, &other.access_key).await.is_some());
}
