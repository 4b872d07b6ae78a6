//! Tests of the deactivation and activation of accounts.

use super::*;
use crate::domain::HostId;
use crate::store::{DeactivatedBy, MailKind, OutgoingMail, PasswordReplacement, TemporaryPassword};

on_every_database!(
    hosts_are_listed_after_an_id,
    last_activation_change_decides_and_first_deactivation_sets_the_time,
    account_disabled_by_an_operator_is_not_restored_by_email,
    password_hash_is_replaced_only_if_unchanged,
);

async fn hosts_are_listed_after_an_id(store: Store, _url: String) {
    assert!(store.hosts().after(HostId(0), 2).await.unwrap().is_empty());
    let mut hosts = Vec::new();
    for email in ["c@shop.example", "a@shop.example", "b@shop.example"] {
        hosts.push(store.hosts().create(new_host(email), noon()).await.unwrap());
    }
    store.hosts().deactivate(hosts[1].id, DeactivatedBy::Host, noon()).await.unwrap();
    store.hosts().deactivate(hosts[2].id, DeactivatedBy::Operator, noon()).await.unwrap();
    let listed = async |after| -> Vec<_> {
        let page = store.hosts().after(after, 2).await.unwrap();
        page.into_iter().map(|(host, by)| (host.id, by)).collect()
    };
    assert_eq!(listed(HostId(0)).await, [(hosts[0].id, None), (hosts[1].id, Some(DeactivatedBy::Host))]);
    assert_eq!(listed(hosts[1].id).await, [(hosts[2].id, Some(DeactivatedBy::Operator))]);
}

async fn last_activation_change_decides_and_first_deactivation_sets_the_time(store: Store, _url: String) {
    let host = a_host(&store).await;
    for at in [1, 2] {
        store.hosts().deactivate(host.id, DeactivatedBy::Host, later(at)).await.unwrap();
        let stands = store.hosts().get(host.id).await.unwrap().unwrap();
        assert_eq!((stands.is_deleted, stands.deleted_at, stands.updated_at), (true, Some(later(1)), later(1)));
    }
    store.hosts().activate(host.id, later(3)).await.unwrap();
    let active = Host { updated_at: later(3), ..host };
    assert_eq!(store.hosts().get(active.id).await.unwrap(), Some(active));
}

async fn password_hash_is_replaced_only_if_unchanged(store: Store, _url: String) {
    let host = a_host(&store).await;
    let stored = async || store.hosts().credentials(&host.email).await.unwrap().unwrap().password_hash;
    assert_eq!(store.passwords().hashes_with_prefix("$argon2id", 9).await, Ok(vec!["$argon2id$".to_owned()]));
    assert_eq!(store.passwords().hashes_with_prefix("pbkdf2_sha256", 9).await, Ok(vec![]));
    assert_eq!(store.passwords().replace_hash(host.id, "$ARGON2ID$", "new").await, Ok(false));
    assert_eq!(stored().await, "$argon2id$");
    assert_eq!(store.passwords().replace_hash(host.id, "$argon2id$", "new").await, Ok(true));
    assert_eq!(stored().await, "new");
    store.passwords().set_hash(host.id, "newer").await.unwrap();
    assert_eq!(stored().await, "newer");
}

async fn account_disabled_by_an_operator_is_not_restored_by_email(store: Store, _url: String) {
    let host = a_host(&store).await;
    let temporary = TemporaryPassword { hash: "b".repeat(64), until: later(3_600_000) };
    let mail = OutgoingMail {
        recipient: host.email.clone(),
        subject: "Come back".into(),
        body: "With this".into(),
        expires_at: temporary.until,
        at_most_once: false,
        unsubscribe_url: None,
        kind: MailKind::Account,
        host: None,
        parts: vec![],
    };
    let is_mailed = async |is_deleted| {
        store.passwords().mail_temporary(&host.email, is_deleted, &temporary, &mail, noon()).await.unwrap();
        store.hosts().credentials(&host.email).await.unwrap().unwrap().temporary.is_some()
    };
    store.hosts().deactivate(host.id, DeactivatedBy::Host, later(1)).await.unwrap();
    assert!(is_mailed(true).await, "a host who left can be reactivated");
    // An operator can disable a deactivated account. Temporary passwords sent before then have no effect.
    store.hosts().deactivate(host.id, DeactivatedBy::Operator, later(2)).await.unwrap();
    let stands = store.hosts().get(host.id).await.unwrap().unwrap();
    assert_eq!((stands.is_deleted, stands.deleted_at), (true, Some(later(1))));
    assert!(!is_mailed(true).await && !is_mailed(false).await);
    let taken = store.passwords().accept_temporary(host.id, &temporary, "hash", later(3)).await.unwrap();
    assert_eq!(taken, PasswordReplacement::Outdated);
    // A deactivation by the owner does not replace the deactivation by the operator.
    store.hosts().deactivate(host.id, DeactivatedBy::Host, later(4)).await.unwrap();
    assert!(!is_mailed(true).await);
    store.hosts().activate(host.id, later(5)).await.unwrap();
    assert!(is_mailed(false).await);
}
