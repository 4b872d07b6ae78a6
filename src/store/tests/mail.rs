//! Tests of guests' consent, digests, and the limits on sent e-mails.

use migration::{Migrator, MigratorTrait as _};
use sea_orm::ConnectionTrait as _;

use super::notifications::{Write, consents, due, from_host, mails, miss, settle, settle_all, write_of};
use super::*;
use crate::domain::{HostId, RoomChange};
use crate::store::{
    ConsentPair, DueMail, MailKind, MailPart, MailQuotas, MailScope, NotificationDecision, OutgoingMail,
    PendingVerification, SendDecision, mailbox_key,
};

on_every_database!(
    consent_is_requested_once_and_releases_waiting_notifications,
    concurrent_rooms_and_nodes_request_consent_once,
    mailbox_receives_at_most_five_requests_per_month,
    withdrawal_ends_e_mail_from_all_rooms_of_a_host_until_consent_is_given_again,
    request_that_was_not_sent_may_be_repeated,
    pairs_emailed_before_consent_was_required_have_consent,
    host_receives_one_digest_for_all_rooms_every_fifteen_minutes,
    rows_of_an_earlier_release_are_in_the_digest,
    email_contains_no_text_of_a_deleted_room,
    email_contains_no_purged_text,
    limits_apply_across_nodes,
    many_emails_of_one_host_do_not_delay_others,
    unsent_email_is_not_counted,
);

const ADDRESS: &str = "guest@mail.example";

async fn another_host(store: &Store, name: &str) -> Host {
    store.hosts().create(new_host(&format!("{name}@shop.example")), noon()).await.unwrap()
}

/// Creates a room whose guest has left an address.
async fn a_room_with(store: &Store, host: &Host, address: &str) -> Room {
    let room = a_room(store, host).await;
    assert!(store.contacts().set(room.id, address, "en", later(0)).await.unwrap());
    room
}

fn pair(host: &Host, address: &str) -> ConsentPair {
    ConsentPair { host: host.id, mailbox: mailbox_key(address) }
}

async fn consent_is_requested_once_and_releases_waiting_notifications(store: Store, _url: String) {
    let host = a_host(&store).await;
    let rooms = [a_room_with(&store, &host, ADDRESS).await, a_room_with(&store, &host, "Guest+2@mail.example").await];
    miss(&store, from_host(rooms[0].id, 1, "one")).await;
    miss(&store, from_host(rooms[0].id, 2, "two")).await;
    assert_eq!(settle(&store, 61, false).await, NotificationDecision::Asked);
    let mail = write_of(&store).await;
    assert_eq!((mail.kind, mail.recipient.as_str(), mail.body.as_str()), (MailKind::Consent, ADDRESS, "consent?"));
    miss(&store, from_host(rooms[0].id, 70, "three")).await;
    assert_eq!(due(&store, 3_000).await, [], "no further e-mail is sent in this absence");
    // This room has another spelling of the same mailbox.
    miss(&store, from_host(rooms[1].id, 100, "elsewhere")).await;
    assert_eq!(settle(&store, 160, false).await, NotificationDecision::Unconsented);
    // The guest returned and left again.
    store.contacts().mark_seen(rooms[0].id, 70, later(200_000)).await.unwrap();
    miss(&store, from_host(rooms[0].id, 300, "four")).await;
    assert_eq!(settle(&store, 360, false).await, NotificationDecision::Unconsented);
    assert_eq!(mails(&store).await, []);

    let other = another_host(&store, "other").await;
    assert_eq!(store.consents().grant(&pair(&other, ADDRESS), later(400_000)).await.unwrap(), 0, "of another host");
    assert_eq!(store.consents().grant(&pair(&host, "GUEST@mail.example"), later(400_000)).await.unwrap(), 2);
    assert_eq!(store.consents().grant(&pair(&host, ADDRESS), later(400_000)).await.unwrap(), 0, "once");
    for due in due(&store, 400).await {
        let settled = store.notifications().decide(&due, false, later(400_000), &Write).await.unwrap();
        assert_eq!(settled, NotificationDecision::Mailed);
    }
    let mut bodies: Vec<String> = mails(&store).await.into_iter().map(|mail| mail.body).collect();
    bodies.sort();
    assert_eq!(bodies, ["elsewhere", "four"]);
}

async fn concurrent_rooms_and_nodes_request_consent_once(store: Store, _url: String) {
    let host = a_host(&store).await;
    for at in 0..6 {
        let room = a_room_with(&store, &host, &format!("guest+{at}@mail.example")).await;
        miss(&store, from_host(room.id, 1, "one")).await;
    }
    let due = due(&store, 61).await;
    let settled = due.iter().map(|due| store.notifications().decide(due, false, later(61_000), &Write));
    let settled = futures_util::future::join_all(settled).await;
    let asked = settled
        .into_iter()
        .filter(|settled| settled.as_ref().is_ok_and(|settled| *settled == NotificationDecision::Asked));
    assert_eq!((asked.count(), mails(&store).await.len()), (1, 1));
}

async fn mailbox_receives_at_most_five_requests_per_month(store: Store, _url: String) {
    let mut rooms = Vec::new();
    for at in 0..8 {
        let host = another_host(&store, &format!("host{at}")).await;
        rooms.push(a_room_with(&store, &host, "g.uest+x@gmail.com").await);
    }
    for room in &rooms {
        miss(&store, from_host(room.id, 1, "one")).await;
    }
    // Hosts that request consent concurrently share the limit.
    let now = due(&store, 61).await;
    let settled = now.iter().map(|due| store.notifications().decide(due, false, later(61_000), &Write));
    futures_util::future::join_all(settled).await;
    for due in due(&store, 61).await {
        store.notifications().decide(&due, false, later(61_000), &Write).await.unwrap();
    }
    assert_eq!(mails(&store).await.len(), 5);
    let a_month_later = 31 * 86_400;
    for room in &rooms {
        store.contacts().mark_seen(room.id, 1, later(1_000_000)).await.unwrap();
        miss(&store, from_host(room.id, a_month_later, "again")).await;
    }
    for due in due(&store, i64::try_from(a_month_later).unwrap() + 60).await {
        let now = later(1_000 * (i64::try_from(a_month_later).unwrap() + 60));
        store.notifications().decide(&due, false, now, &Write).await.unwrap();
    }
    let waiting = store.mails().count().await.unwrap();
    assert_eq!(waiting, 3, "those without a request; no host requests consent twice");
}

async fn withdrawal_ends_e_mail_from_all_rooms_of_a_host_until_consent_is_given_again(store: Store, _url: String) {
    let (host, other) = (a_host(&store).await, another_host(&store, "other").await);
    let rooms = [a_room_with(&store, &host, ADDRESS).await, a_room_with(&store, &host, ADDRESS).await];
    let elsewhere = a_room_with(&store, &other, ADDRESS).await;
    for host in [&host, &other] {
        consents(&store, host, ADDRESS).await;
    }
    for room in [&rooms[0], &elsewhere] {
        miss(&store, from_host(room.id, 1, "one")).await;
    }
    for due in due(&store, 61).await {
        store.notifications().decide(&due, false, later(61_000), &Write).await.unwrap();
    }
    assert_eq!(store.mails().count().await.unwrap(), 2);
    store.consents().withdraw(&pair(&host, "Guest@mail.example"), later(62_000)).await.unwrap();
    assert_eq!(store.mails().count().await.unwrap(), 1, "waiting e-mails are not sent");
    assert_eq!(write_of(&store).await.host, Some(other.id));
    miss(&store, from_host(rooms[1].id, 100, "two")).await;
    assert_eq!(settle(&store, 160, false).await, NotificationDecision::Unwanted);
    // Entering the address again does not grant consent. Consent is requested only once.
    assert!(store.contacts().set(rooms[1].id, "guest+new@mail.example", "en", later(200_000)).await.unwrap());
    miss(&store, from_host(rooms[1].id, 300, "three")).await;
    assert_eq!(settle(&store, 360, false).await, NotificationDecision::Unwanted);
    store.consents().grant(&pair(&host, ADDRESS), later(400_000)).await.unwrap();
    store.contacts().mark_seen(rooms[1].id, 300, later(410_000)).await.unwrap();
    miss(&store, from_host(rooms[1].id, 500, "four")).await;
    assert_eq!(settle(&store, 560, false).await, NotificationDecision::Mailed);
    assert_eq!(write_of(&store).await.body, "four");
}

async fn request_that_was_not_sent_may_be_repeated(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_room_with(&store, &host, ADDRESS).await;
    for (seq, expected) in [(1, NotificationDecision::Asked), (100, NotificationDecision::Asked)] {
        miss(&store, from_host(room.id, seq, "one")).await;
        assert_eq!(settle(&store, i64::try_from(seq).unwrap() + 60, false).await, expected);
        store.contacts().mark_seen(room.id, seq, later(90_000)).await.unwrap();
        let taken = take(&store, 200).await.remove(0);
        store.mails().discard(&taken).await.unwrap();
    }
    miss(&store, from_host(room.id, 200, "one")).await;
    assert_eq!(settle(&store, 260, false).await, NotificationDecision::Asked);
    let taken = take(&store, 300).await.remove(0);
    assert_eq!(taken.mail.kind, MailKind::Consent);
    store.mails().remove(taken.id).await.unwrap();
    store.contacts().mark_seen(room.id, 200, later(300_000)).await.unwrap();
    miss(&store, from_host(room.id, 400, "one")).await;
    assert_eq!(settle(&store, 460, false).await, NotificationDecision::Unconsented, "it has left");
}

async fn pairs_emailed_before_consent_was_required_have_consent(store: Store, _url: String) {
    let later = Migrator::migrations().iter().rev().take_while(|known| !known.name().ends_with("_consent")).count();
    Migrator::down(store.connection(), Some(later as u32 + 1)).await.unwrap();
    let run = async |sql: String| store.connection().execute_unprepared(&sql).await.unwrap();
    for (id, host, address, mailed) in [
        (1, 7, "'Old.Guest+1@GMail.com'", "'2026-01-01 00:00:00'"),
        (2, 7, "'oldguest@gmail.com'", "'2026-01-02 00:00:00'"),
        (3, 7, "'new@mail.example'", "NULL"),
        (4, 7, "NULL", "'2026-01-01 00:00:00'"),
    ] {
        run(format!(
            "INSERT INTO chatroom (id, host_id, guest, name, created_at, updated_at, guest_email) VALUES ({id}, {host}, 'x', \
             '{id:0>22}', '2026-01-01 00:00:00', '2026-01-01 00:00:00', {address})"
        ))
        .await;
        for to_host in [0, 1] {
            run(format!(
                "INSERT INTO notification (chatroom_id, to_host, first_seq, since, mailed_at) VALUES ({id}, {to_host}, 1, \
                 '2026-01-01 00:00:00', {mailed})"
            ))
            .await;
        }
    }
    Migrator::up(store.connection(), None).await.unwrap();
    let tx = store.begin().await.unwrap();
    let mut given = Vec::new();
    for address in ["oldguest@gmail.com", "new@mail.example", "other@mail.example"] {
        let pair = ConsentPair { host: HostId(7), mailbox: mailbox_key(address) };
        let consent = crate::store::consents::consent(&tx, &pair, noon()).await.unwrap();
        given.push(consent == crate::store::consents::Consent::Given);
    }
    assert_eq!(given, [true, false, false]);
}

async fn host_receives_one_digest_for_all_rooms_every_fifteen_minutes(store: Store, _url: String) {
    let host = a_host(&store).await;
    let mut rooms = Vec::new();
    for at in 0..60 {
        let room = a_room(&store, &host).await;
        miss(&store, message(room.id, 1 + at / 2, &format!("m{at}"))).await;
        rooms.push(room);
    }
    assert_eq!(settle_all(&store, 61, false).await, vec![NotificationDecision::Mailed; 60]);
    let mail = write_of(&store).await;
    assert!(mail.body.starts_with("m0m1") && mail.body.ends_with("m9 and 50 rooms"), "{}", mail.body);
    // Each room is in at most one digest per absence.
    miss(&store, message(rooms[0].id, 100, "more")).await;
    assert_eq!(due(&store, 80_000).await, []);
    // A new room waits for the next digest. So does a room to which the host has returned.
    let new = a_room(&store, &host).await;
    miss(&store, message(new.id, 100, "new")).await;
    store.rooms().mark_checked(rooms[1].id, 100, later(150_000)).await.unwrap();
    miss(&store, message(rooms[1].id, 200, "back")).await;
    let ids: Vec<_> = due(&store, 300).await.iter().map(|due| due.chatroom).collect();
    assert_eq!(ids, [new.id, rooms[1].id]);
    assert_eq!(
        store.notifications().defer_digest(host.id, &ids, later(300_000)).await.unwrap(),
        Some(ids.len() as u64)
    );
    assert_eq!(due(&store, 960).await, []);
    assert_eq!(settle_all(&store, 961, false).await, [NotificationDecision::Mailed, NotificationDecision::Mailed]);
    let mail = write_of(&store).await;
    assert_eq!(mail.body, "backnew");
    assert_eq!(store.notifications().defer_digest(host.id, &ids, later(2_000_000)).await.unwrap(), None);
    // Rooms of other hosts are not in the digest.
    let other = another_host(&store, "other").await;
    let room = a_room(&store, &other).await;
    miss(&store, message(room.id, 1_000, "other")).await;
    assert_eq!(settle(&store, 1_060, false).await, NotificationDecision::Mailed);
}

async fn rows_of_an_earlier_release_are_in_the_digest(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_room(&store, &host).await;
    miss(&store, message(room.id, 1, "one")).await;
    store.connection().execute_unprepared("UPDATE notification SET host_id = NULL").await.unwrap();
    let found = due(&store, 61).await;
    assert_eq!(found[0].host, Some(host.id));
    let rooms: Vec<_> = found.into_iter().map(|due| (false, due)).collect();
    store.notifications().decide_for_host(host.id, &rooms, later(61_000), &Write).await.unwrap();
    assert_eq!(write_of(&store).await.body, "one");
}

async fn email_contains_no_text_of_a_deleted_room(store: Store, _url: String) {
    let host = a_host(&store).await;
    consents(&store, &host, ADDRESS).await;
    let rooms = [a_room_with(&store, &host, ADDRESS).await, a_room(&store, &host).await, a_room(&store, &host).await];
    // The text of each room is a prefix of the next text.
    for (room, text) in rooms.iter().zip(["x", "xx", "xxx"]) {
        miss(&store, message(room.id, 1, text)).await;
    }
    assert_eq!(settle_all(&store, 61, false).await, vec![NotificationDecision::Mailed; 3]);
    miss(&store, from_host(rooms[0].id, 2, "to the guest")).await;
    assert_eq!(settle(&store, 70, false).await, NotificationDecision::Mailed);
    assert_eq!(store.mails().count().await.unwrap(), 2);
    store.rooms().change(rooms[0].name, RoomChange::Delete, later(71_000)).await.unwrap();
    assert_eq!(store.mails().count().await.unwrap(), 1);
    // An e-mail that was claimed earlier is sent with its current text.
    let taken = take(&store, 72).await.remove(0);
    assert_eq!(taken.mail.body, "xxxxx");
    store.rooms().change(rooms[2].name, RoomChange::Delete, later(73_000)).await.unwrap();
    let departure = store.mails().begin_send(&taken, &MailQuotas::default(), later(74_000)).await.unwrap();
    assert!(matches!(departure, SendDecision::Send { ref body, .. } if body == "xx"), "{departure:?}");
    store.rooms().change(rooms[1].name, RoomChange::Delete, later(75_000)).await.unwrap();
    assert_eq!(store.mails().count().await.unwrap(), 0);
    let departure = store.mails().begin_send(&taken, &MailQuotas::default(), later(76_000)).await.unwrap();
    assert_eq!(departure, SendDecision::NotWaiting);
}

async fn email_contains_no_purged_text(store: Store, _url: String) {
    let host = a_host(&store).await;
    let (old, kept) = (a_room(&store, &host).await, a_room(&store, &host).await);
    miss(&store, message(old.id, 1, "old")).await;
    miss(&store, message(kept.id, 1, "kept")).await;
    assert_eq!(settle_all(&store, 61, false).await, vec![NotificationDecision::Mailed; 2]);
    store.rooms().change(old.name, RoomChange::Close, later(62_000)).await.unwrap();
    assert_eq!(store.retention().purge(later(63_000), 10).await.unwrap(), 1);
    for room in store.retention().purged(10).await.unwrap() {
        while store.messages().delete_invisible(room.id, 10).await.unwrap() > 0 {}
        assert!(store.retention().finish(room).await.unwrap());
    }
    assert_eq!(write_of(&store).await.body, "kept");
}

async fn take(store: &Store, seconds: i64) -> Vec<DueMail> {
    store.mails().claim_due(1_000, later(seconds * 1_000), later(seconds * 1_000 + 300_000)).await.unwrap()
}

/// Writes an e-mail to the outbox by beginning a verification.
async fn write_mail(store: &Store, ticket: &str, kind: MailKind, host: Option<HostId>, recipient: &str) {
    let mail = OutgoingMail {
        recipient: recipient.to_owned(),
        subject: "News".into(),
        body: "text".into(),
        expires_at: later(86_400_000),
        at_most_once: kind != MailKind::Account,
        unsubscribe_url: None,
        kind,
        host,
        parts: Vec::<MailPart>::new(),
    };
    let verification = PendingVerification {
        ticket: format!("{ticket:0>22}"),
        email: recipient.to_owned(),
        code_hash: "0".repeat(64),
        expires_at: later(300_000),
    };
    store.verifications().begin(&verification, &mail, later(0)).await.unwrap();
}

/// Sends all due e-mails as a node does. Returns the recipients.
async fn send(store: &Store, quotas: &MailQuotas, seconds: i64) -> Vec<String> {
    let mut sent = Vec::new();
    for due in take(store, seconds).await {
        match store.mails().begin_send(&due, quotas, later(seconds * 1_000)).await.unwrap() {
            SendDecision::Send { .. } => {
                store.mails().remove(due.id).await.unwrap();
                sent.push(due.mail.recipient);
            }
            SendDecision::Limited { scope, until } => {
                store.mails().delay(&due, scope, until, later(seconds * 1_000)).await.unwrap();
            }
            SendDecision::NotWaiting => {}
        }
    }
    sent
}

async fn limits_apply_across_nodes(store: Store, url: String) {
    let quotas = MailQuotas { per_mailbox: Some(3), per_host: None, total: Some(7) };
    for at in 0..6 {
        write_mail(&store, &format!("a{at}"), MailKind::Account, None, &format!("victim+{at}@mail.example")).await;
    }
    for at in 0..6 {
        write_mail(&store, &format!("b{at}"), MailKind::Account, None, &format!("guest{at}@mail.example")).await;
    }
    let second = Store::connect(&url).await.unwrap();
    let (a, b) = tokio::join!(send(&store, &quotas, 10), send(&second, &quotas, 10));
    let sent = [a, b].concat();
    assert!(sent.iter().filter(|to| to.starts_with("victim")).count() <= 3, "{sent:?}");
    assert_eq!(sent.len(), 7, "{sent:?}");
    assert_eq!(send(&store, &quotas, 3_000).await, [""; 0], "delayed for an hour");
    let mut left = sent.len();
    for seconds in [3_700, 7_400, 11_100] {
        let sent = send(&second, &quotas, seconds).await;
        assert!(sent.iter().filter(|to| to.starts_with("victim")).count() <= 3 && sent.len() <= 7, "{sent:?}");
        left += sent.len();
    }
    assert_eq!((left, store.mails().count().await.unwrap()), (12, 0), "none is lost");
    second.close().await;
}

async fn many_emails_of_one_host_do_not_delay_others(store: Store, _url: String) {
    let quotas = MailQuotas { per_mailbox: Some(2), per_host: Some(5), total: Some(20) };
    let (flood, host) = (HostId(1), HostId(2));
    for at in 0..50 {
        write_mail(&store, &format!("f{at}"), MailKind::Consent, Some(flood), &format!("{at}@stranger.example")).await;
    }
    // The e-mails to one mailbox use up the limit of that mailbox for the class.
    for at in 0..5 {
        write_mail(&store, &format!("v{at}"), MailKind::GuestDigest, Some(flood), "dev@shop.example").await;
    }
    write_mail(&store, "g", MailKind::GuestDigest, Some(host), "guest@mail.example").await;
    write_mail(&store, "h", MailKind::HostDigest, Some(flood), "dev@shop.example").await;
    write_mail(&store, "p", MailKind::Account, None, "dev@shop.example").await;
    let sent = send(&store, &quotas, 10).await;
    assert_eq!(sent.len(), 5 + 3, "{sent:?}");
    assert_eq!(sent[5..], ["guest@mail.example", "dev@shop.example", "dev@shop.example"]);
    // Delayed e-mails are not claimed before the end of the delay.
    assert_eq!(take(&store, 3_600).await, []);
    assert_eq!(send(&store, &quotas, 3_610).await.len(), 5);
    // If the limit permits an e-mail only after its expiry, the e-mail becomes due at its expiry and is then dropped.
    let held = take(&store, 7_300).await.remove(0);
    let scope = MailScope::Host;
    assert!(store.mails().delay(&held, scope, later(90_000_000), later(7_300_000)).await.unwrap() >= 1);
    assert!(take(&store, 86_400).await.iter().any(|due| due.id == held.id));
}

async fn unsent_email_is_not_counted(store: Store, _url: String) {
    let quotas = MailQuotas { per_mailbox: Some(1), ..MailQuotas::default() };
    write_mail(&store, "a", MailKind::Account, None, "dev@shop.example").await;
    let taken = take(&store, 1).await.remove(0);
    for _ in 0..3 {
        let departure = store.mails().begin_send(&taken, &quotas, later(1_000)).await.unwrap();
        let SendDecision::Send { id, .. } = departure else { panic!("{departure:?}") };
        let over = store.mails().begin_send(&taken, &quotas, later(1_000)).await.unwrap();
        assert_eq!(over, SendDecision::Limited { scope: MailScope::Mailbox, until: later(3_601_000) });
        store.mails().undo_send(id).await.unwrap();
    }
}
