//! Tests of the deletion of expired rows.

use super::*;
use crate::store::{
    ExpiringRows, KeyPair, LoginCreation, MailKind, MailQuotas, OldKeys, OutgoingMail, PendingVerification,
    SendDecision,
};

on_every_database!(
    expired_rows_are_deleted_in_batches_and_no_others,
    record_of_a_sent_email_is_deleted_when_no_limit_counts_it,
    renewed_login_is_kept,
);

async fn a_login(store: &Store, host: &Host, sid: char, ends_at: i64) {
    let sid = sid.to_string().repeat(22);
    let begun = store.logins().create(&sid, host.id, "$argon2id$", noon(), later(ends_at)).await.unwrap();
    assert_eq!(begun, LoginCreation::Created);
}

async fn expired_rows_are_deleted_in_batches_and_no_others(store: Store, _url: String) {
    let host = a_host(&store).await;
    for (name, ends_at) in [('a', 4_000), ('b', 2_000), ('c', 1_000), ('d', 3_001), ('e', 3_000)] {
        a_login(&store, &host, name, ends_at).await;
        let mail = OutgoingMail {
            recipient: "dev@shop.example".into(),
            subject: "subject".into(),
            body: "body".into(),
            expires_at: later(ends_at),
            at_most_once: false,
            unsubscribe_url: None,
            kind: MailKind::Account,
            host: None,
            parts: vec![],
        };
        let verification = PendingVerification {
            ticket: name.to_string().repeat(22),
            email: "dev@shop.example".into(),
            code_hash: "0".repeat(64),
            expires_at: later(ends_at),
        };
        store.verifications().begin(&verification, &mail, noon()).await.unwrap();
        let keys = KeyPair { access_key: name.to_string().repeat(22), secret_key: name.to_string().repeat(64) };
        store.keys().rotate(host.id, &keys, OldKeys::GoodUntil(later(ends_at)), noon()).await.unwrap();
    }
    // A revoked login is deleted at its expiry, like any other login.
    store.logins().end(&"c".repeat(22), later(1)).await.unwrap();
    for what in [ExpiringRows::Login, ExpiringRows::Verification, ExpiringRows::Mail, ExpiringRows::OldKey] {
        assert_eq!(store.expired().delete(what, later(999), 10).await, Ok(0), "{what:?}");
        assert_eq!(store.expired().count(what, later(3_000)).await, Ok(3), "{what:?}");
        for deleted in [2, 1, 0] {
            assert_eq!(store.expired().delete(what, later(3_000), 2).await, Ok(deleted), "{what:?}");
        }
        assert_eq!(store.expired().count(what, later(9_000)).await, Ok(2), "{what:?}");
    }
    assert!(store.logins().is_active(&"d".repeat(22), later(3_000)).await.unwrap());
}

async fn record_of_a_sent_email_is_deleted_when_no_limit_counts_it(store: Store, _url: String) {
    let mail = OutgoingMail {
        recipient: "dev@shop.example".into(),
        subject: "subject".into(),
        body: "body".into(),
        expires_at: later(86_400_000),
        at_most_once: false,
        unsubscribe_url: None,
        kind: MailKind::Account,
        host: None,
        parts: vec![],
    };
    let due = crate::store::DueMail { id: 1, attempts: 0, mail };
    for at in 0..3 {
        let departure = store.mails().begin_send(&due, &MailQuotas::default(), later(at * 1_000)).await.unwrap();
        assert!(matches!(departure, SendDecision::Send { .. }), "{departure:?}");
    }
    let an_hour_later = later(3_601_000);
    assert_eq!(store.expired().count(ExpiringRows::SentMail, an_hour_later).await, Ok(2));
    assert_eq!(store.expired().delete(ExpiringRows::SentMail, an_hour_later, 10).await, Ok(2));
    assert_eq!(store.expired().count(ExpiringRows::SentMail, later(9_000_000)).await, Ok(1));
}

async fn renewed_login_is_kept(store: Store, _url: String) {
    let host = a_host(&store).await;
    a_login(&store, &host, 'a', 1_000).await;
    let sid = "a".repeat(22);
    store.logins().rotate(&sid, 0, later(500), later(9_000), std::time::Duration::ZERO).await.unwrap();
    assert_eq!(store.expired().delete(ExpiringRows::Login, later(2_000), 10).await, Ok(0));
    assert!(store.logins().is_active(&sid, later(2_000)).await.unwrap());
}
