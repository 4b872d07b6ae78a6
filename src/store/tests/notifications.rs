//! Tests of notifications to recipients who have missed messages.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::ConnectionTrait as _;

use super::*;
use crate::domain::RoomChange;
use crate::domain::clock::{Clock as _, ManualClock};
use crate::store::{
    ConsentPair, ConsentRequest, DueNotification, GuestDigest, HostDigest, HostDigestOutcome, MailKind, MailPart,
    MailQuotas, NotificationDecision, OutgoingMail, SendDecision, WriteMail, mailbox_key,
};

on_every_database!(
    absent_recipient_is_emailed_once_with_missed_messages,
    nothing_is_written_while_both_sides_are_present,
    returned_recipient_is_emailed_again_and_a_guest_at_most_hourly,
    clock_of_the_messages_has_no_effect,
    email_delayed_by_a_clock_that_was_ahead_is_due_at_once,
    recipient_who_read_or_is_present_is_not_emailed,
    closed_or_deleted_room_causes_no_email,
    one_of_several_nodes_writes_the_email,
    message_during_the_presence_query_is_not_missed,
    guest_is_emailed_only_while_an_address_is_stored,
    host_is_emailed_unless_notifications_are_disabled,
    host_of_the_previous_release_receives_emails,
    at_most_once_email_is_not_claimed_by_a_second_node,
);

/// Composes e-mails. Their body is the text of the missed messages.
pub(super) struct Write;

fn mail(kind: MailKind, host: &Host, recipient: &str, parts: Vec<MailPart>) -> Option<OutgoingMail> {
    Some(OutgoingMail {
        recipient: recipient.to_owned(),
        subject: "News".into(),
        body: parts.iter().map(|part| part.text.as_str()).collect(),
        expires_at: later(86_400_000),
        at_most_once: true,
        unsubscribe_url: (kind == MailKind::GuestDigest).then(|| "https://chat.example/unsubscribe/x".into()),
        kind,
        host: Some(host.id),
        parts,
    })
}

fn part(room: &Room, messages: &[Message], more: bool) -> MailPart {
    let texts: Vec<&str> = messages.iter().map(|message| message.text.as_str()).collect();
    let text = format!("{}{}", texts.join(" "), if more { " …" } else { "" });
    MailPart { room: room.id, last_seq: messages.last().unwrap().seq, text }
}

impl WriteMail for Write {
    fn guest_digest(&self, digest: &GuestDigest) -> Option<OutgoingMail> {
        let parts = vec![part(&digest.room, &digest.messages, digest.more)];
        mail(MailKind::GuestDigest, &digest.host, &digest.address, parts)
    }

    fn host_digest(&self, digest: &HostDigest) -> Option<OutgoingMail> {
        let parts = digest.rooms.iter().map(|missed| part(&missed.room, &missed.messages, missed.more)).collect();
        let mail = mail(MailKind::HostDigest, &digest.host, &digest.host.email, parts)?;
        let more = if digest.others > 0 { format!(" and {} rooms", digest.others) } else { String::new() };
        Some(OutgoingMail { body: mail.body + &more, ..mail })
    }

    fn consent_request(&self, request: &ConsentRequest) -> Option<OutgoingMail> {
        let mail = mail(MailKind::Consent, &request.host, &request.address, vec![])?;
        Some(OutgoingMail { body: "consent?".into(), ..mail })
    }
}

pub(super) async fn miss(store: &Store, message: Message) {
    let unattended = [(message.chatroom, message.seq)];
    store.messages().archive(&[message], &[], &unattended).await.unwrap();
}

pub(super) fn from_host(room: ChatroomId, seq: Seq, text: &str) -> Message {
    Message { side: Side::Host, ..message(room, seq, text) }
}

pub(super) async fn due(store: &Store, seconds: i64) -> Vec<DueNotification> {
    store.notifications().due(later(seconds * 1_000), 100).await.unwrap()
}

/// Returns the decisions about the notifications to one side that are due after `seconds`. Includes the other rooms of
/// a host's digest.
pub(super) async fn settle_all(store: &Store, seconds: i64, is_present: bool) -> Vec<NotificationDecision> {
    let now = later(seconds * 1_000);
    let due = due(store, seconds).await;
    let first = due.first().unwrap_or_else(|| panic!("no recipient is due after {seconds} s"));
    match first.host.filter(|_| first.to == Side::Host) {
        Some(host) => {
            let rooms: Vec<_> = store
                .notifications()
                .pending_rooms(host)
                .await
                .unwrap()
                .into_iter()
                .map(|due| (is_present, due))
                .collect();
            let outcome = store.notifications().decide_for_host(host, &rooms, now, &Write).await.unwrap();
            let HostDigestOutcome::Decided(settled) = outcome else { panic!("{outcome:?}") };
            settled
        }
        None => vec![store.notifications().decide(first, is_present, now, &Write).await.unwrap()],
    }
}

/// Returns the decision about the only notification that is due after `seconds`.
pub(super) async fn settle(store: &Store, seconds: i64, is_present: bool) -> NotificationDecision {
    let settled = settle_all(store, seconds, is_present).await;
    let [settled] = settled[..] else { panic!("{settled:?}") };
    settled
}

/// Records the consent of a mailbox to e-mail from a host.
pub(super) async fn consents(store: &Store, host: &Host, address: &str) {
    let pair = ConsentPair { host: host.id, mailbox: mailbox_key(address) };
    store.consents().grant(&pair, noon()).await.unwrap();
}

/// Claims and removes the waiting e-mails. Returns them.
pub(super) async fn mails(store: &Store) -> Vec<OutgoingMail> {
    let due = store.mails().claim_due(100, later(80_000_000), later(80_000_001)).await.unwrap();
    for mail in &due {
        store.mails().remove(mail.id).await.unwrap();
    }
    due.into_iter().map(|due| due.mail).collect()
}

async fn absent_recipient_is_emailed_once_with_missed_messages(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_room(&store, &host).await;
    miss(&store, message(room.id, 1, "one")).await;
    miss(&store, message(room.id, 2, "two")).await;
    assert_eq!(due(&store, 60).await, [], "due one minute after the first message");
    assert_eq!(due(&store, 61).await.len(), 1);
    assert_eq!(settle(&store, 61, false).await, NotificationDecision::Mailed);
    let mail = write_of(&store).await;
    assert_eq!((mail.recipient.as_str(), mail.body.as_str()), ("host@shop.example", "one two"));
    assert!(mail.at_most_once && mail.unsubscribe_url.is_none() && mail.kind == MailKind::HostDigest);
    for seq in 3..20 {
        miss(&store, message(room.id, seq, "more")).await;
    }
    assert_eq!(due(&store, 80_000).await, [], "no second e-mail before the host returns");
}

pub(super) async fn write_of(store: &Store) -> OutgoingMail {
    let mut mails = mails(store).await;
    assert_eq!(mails.len(), 1);
    mails.remove(0)
}

async fn nothing_is_written_while_both_sides_are_present(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_room(&store, &host).await;
    store.messages().archive(&[message(room.id, 1, "hi"), from_host(room.id, 2, "ho")], &[], &[]).await.unwrap();
    store.messages().append(&[Append { room: room.name, ..append(&room, "a") }], later(3_000)).await.unwrap();
    assert_eq!(due(&store, 80_000).await, []);
    // A guest without an address is not notified.
    miss(&store, from_host(room.id, 4, "hello?")).await;
    assert_eq!(due(&store, 80_000).await, []);
    // Messages appended by the embedded broker are recorded as well.
    store.messages().append(&[Append { unattended: true, ..append(&room, "b") }], later(5_000)).await.unwrap();
    assert_eq!(settle(&store, 65, false).await, NotificationDecision::Mailed);
    assert_eq!(write_of(&store).await.body, "text of b 🙂");
}

async fn returned_recipient_is_emailed_again_and_a_guest_at_most_hourly(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_room(&store, &host).await;
    assert!(store.contacts().set(room.id, "guest@mail.example", "en", later(0)).await.unwrap());
    consents(&store, &host, "guest@mail.example").await;
    miss(&store, from_host(room.id, 1, "one")).await;
    assert_eq!(settle(&store, 61, false).await, NotificationDecision::Mailed);
    mails(&store).await;
    store.contacts().mark_seen(room.id, 1, later(100_000)).await.unwrap();
    miss(&store, from_host(room.id, 200, "two")).await;
    assert_eq!(due(&store, 3_660).await, [], "at most one e-mail per hour");
    assert_eq!(settle(&store, 3_661, false).await, NotificationDecision::Mailed);
    assert_eq!(write_of(&store).await.body, "two");
    store.contacts().mark_seen(room.id, 200, later(5_000_000)).await.unwrap();
    for seq in 10_000..10_015 {
        miss(&store, from_host(room.id, seq, &seq.to_string())).await;
    }
    assert_eq!(due(&store, 10_059).await, []);
    assert_eq!(settle(&store, 10_060, false).await, NotificationDecision::Mailed);
    let body = write_of(&store).await.body;
    assert!(body.starts_with("10000 ") && body.ends_with(" 10009 …"), "{body}");
}

/// Uses two clocks: the clock of the database timestamps views, and the clock of Redis timestamps messages.
async fn clock_of_the_messages_has_no_effect(store: Store, _url: String) {
    for skew in [-300_000, 300_000] {
        let host = store.hosts().create(new_host(&format!("host{skew}@shop.example")), noon()).await.unwrap();
        let room = a_room(&store, &host).await;
        let stamped = |seq, at: i64| Message {
            accepted_at: later(1_000_000 + at + skew),
            ..message(room.id, seq, &seq.to_string())
        };
        let (clock, store) = (Arc::new(ManualClock::new(later(1_000_000))), &store);
        let clocked = store.clone().with_clock(clock.clone());
        clocked.messages().archive(&[stamped(1, 0)], &[], &[]).await.unwrap();
        clocked.rooms().mark_checked(room.id, 1, later(1_010_000)).await.unwrap();
        clock.advance(Duration::from_secs(20));
        miss(&clocked, stamped(2, 20_000)).await;
        let row = store.rooms().get(room.id).await.unwrap().unwrap();
        assert_eq!((row.counts.unread, row.updated_at <= clock.now()), (1, true), "{skew}");
        assert_eq!(due(store, 1_079).await, [], "{skew}: a minute by the clock of SQL");
        assert_eq!(settle(store, 1_080, false).await, NotificationDecision::Mailed, "{skew}");
        assert_eq!(write_of(store).await.body, "2", "{skew}");
        // The host returned and left again. With times alone, the result would be wrong.
        clocked.rooms().mark_checked(room.id, 2, later(1_090_000)).await.unwrap();
        clock.set(later(9_000_000));
        miss(&clocked, stamped(3, 8_000_000)).await;
        assert_eq!(settle(store, 9_060, false).await, NotificationDecision::Mailed, "{skew}");
        assert_eq!(write_of(store).await.body, "3", "{skew}");
    }
}

async fn email_delayed_by_a_clock_that_was_ahead_is_due_at_once(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_room(&store, &host).await;
    // The rows are written by a clock that is one day ahead. They are read with the corrected clock.
    let ahead = 86_400_000;
    miss(&store, Message { accepted_at: later(ahead), ..message(room.id, 1, "one") }).await;
    assert_eq!(settle(&store, 1, false).await, NotificationDecision::Mailed);
    let taken = store.mails().claim_due(10, later(1_000), later(ahead)).await.unwrap();
    assert_eq!(taken.len(), 1);
    store.mails().reschedule(taken[0].id, later(ahead - 1)).await.unwrap();
    let again = store.mails().claim_due(10, later(2_000), later(302_000)).await.unwrap();
    assert_eq!(again.len(), 1, "no e-mail is delayed for a day");
    assert_eq!(store.mails().claim_due(10, later(3_000), later(303_000)).await.unwrap(), []);
    store.rooms().change(room.name, RoomChange::Close, later(ahead)).await.unwrap();
    assert_eq!(store.rooms().pending_events(later(-4_000), 10).await.unwrap().len(), 1);
    assert_eq!(
        store.rooms().pending_events(later(ahead - 5_000), 10).await.unwrap(),
        [],
        "a recent time does not indicate a clock that was ahead"
    );
}

async fn recipient_who_read_or_is_present_is_not_emailed(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_room(&store, &host).await;
    miss(&store, message(room.id, 1, "one")).await;
    store.rooms().mark_checked(room.id, 1, later(30_000)).await.unwrap();
    assert_eq!(settle(&store, 61, false).await, NotificationDecision::Read);
    miss(&store, message(room.id, 100, "two")).await;
    assert_eq!(settle(&store, 160, true).await, NotificationDecision::Present);
    assert_eq!(due(&store, 80_000).await, []);
    // The host returned and left again. The delay of one minute starts at the first unseen message.
    miss(&store, message(room.id, 200, "seen")).await;
    store.rooms().mark_checked(room.id, 200, later(230_000)).await.unwrap();
    miss(&store, message(room.id, 240, "unseen")).await;
    assert_eq!(due(&store, 299).await, []);
    assert_eq!(settle(&store, 300, false).await, NotificationDecision::Mailed);
    assert_eq!(write_of(&store).await.body, "unseen");
}

async fn closed_or_deleted_room_causes_no_email(store: Store, _url: String) {
    let host = a_host(&store).await;
    let (closed, left) = (a_room(&store, &host).await, a_room(&store, &host).await);
    miss(&store, message(closed.id, 1, "one")).await;
    store.rooms().change(closed.name, RoomChange::Close, later(2_000)).await.unwrap();
    assert_eq!(settle(&store, 61, false).await, NotificationDecision::Closed);
    store.rooms().change(closed.name, RoomChange::Resume, later(3_000)).await.unwrap();
    assert_eq!(due(&store, 80_000).await, []);

    miss(&store, message(left.id, 1, "one")).await;
    let due_once = due(&store, 61).await.remove(0);
    store.rooms().change(left.name, RoomChange::Delete, later(2_000)).await.unwrap();
    assert_eq!(due(&store, 61).await, [], "the notification was deleted");
    let late = store.notifications().decide(&due_once, false, later(61_000), &Write).await.unwrap();
    assert_eq!(late, NotificationDecision::Changed);
    // A node of an earlier release deleted the room without deleting its notification.
    let orphan = "INSERT INTO notification (chatroom_id, to_host, first_seq, since, due_at) SELECT 999999, to_host, 1, since, \
                  since FROM notification";
    store.connection().execute_unprepared(orphan).await.unwrap();
    assert_eq!(settle(&store, 61, false).await, NotificationDecision::Closed);
    assert_eq!((due(&store, 80_000).await, mails(&store).await), (vec![], vec![]));
}

async fn one_of_several_nodes_writes_the_email(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_room(&store, &host).await;
    miss(&store, message(room.id, 1, "one")).await;
    let due = due(&store, 61).await.remove(0);
    let rooms = [(false, due)];
    let settle = || store.notifications().decide_for_host(host.id, &rooms, later(61_000), &Write);
    let (a, b, c) = tokio::join!(settle(), settle(), settle());
    let mailed = HostDigestOutcome::Decided(vec![NotificationDecision::Mailed]);
    let mailed = [a, b, c].into_iter().filter(|settled| settled.as_ref().unwrap() == &mailed).count();
    assert_eq!((mailed, mails(&store).await.len()), (1, 1));
}

async fn message_during_the_presence_query_is_not_missed(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_room(&store, &host).await;
    miss(&store, message(room.id, 1, "one")).await;
    let due_once = due(&store, 61).await.remove(0);
    // The host was present when presence was queried, and left before this message.
    miss(&store, message(room.id, 2, "two")).await;
    let settled =
        store.notifications().decide_for_host(host.id, &[(true, due_once)], later(61_000), &Write).await.unwrap();
    assert_eq!(settled, HostDigestOutcome::Decided(vec![NotificationDecision::Changed]));
    assert_eq!(settle(&store, 62, false).await, NotificationDecision::Mailed);
}

async fn guest_is_emailed_only_while_an_address_is_stored(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_room(&store, &host).await;
    store.messages().archive(&[from_host(room.id, 1, "before")], &[], &[]).await.unwrap();
    assert!(store.contacts().set(room.id, "guest@mail.example", "en", later(2_000)).await.unwrap());
    assert!(!store.contacts().set(ChatroomId(999), "guest@mail.example", "en", later(2_000)).await.unwrap());
    consents(&store, &host, "guest@mail.example").await;
    miss(&store, from_host(room.id, 3, "answer")).await;
    miss(&store, message(room.id, 4, "a guest's own")).await;
    let both = due(&store, 64).await;
    assert_eq!(both.iter().map(|due| due.to).collect::<Vec<_>>(), [Side::Guest, Side::Host]);
    let settled = store.notifications().decide(&both[0], false, later(64_000), &Write).await.unwrap();
    assert_eq!(settled, NotificationDecision::Mailed);
    let mail = write_of(&store).await;
    assert_eq!((mail.recipient.as_str(), mail.body.as_str()), ("guest@mail.example", "answer"));
    store.notifications().decide_for_host(host.id, &[(true, both[1].clone())], later(64_000), &Write).await.unwrap();

    miss(&store, from_host(room.id, 100, "again")).await;
    assert_eq!(due(&store, 80_000).await, []);
    store.contacts().mark_seen(room.id, 100, later(200_000)).await.unwrap();
    store.contacts().mark_seen(room.id, 99, later(150_000)).await.unwrap();
    miss(&store, from_host(room.id, 5_000, "read this")).await;
    store.contacts().mark_seen(room.id, 5_000, later(5_010_000)).await.unwrap();
    assert_eq!(settle(&store, 5_060, false).await, NotificationDecision::Read);

    miss(&store, from_host(room.id, 6_000, "later")).await;
    store.contacts().delete(room.id, "other@mail.example").await.unwrap();
    assert_eq!(store.contacts().get(room.id).await.unwrap().as_deref(), Some("guest@mail.example"));
    store.contacts().delete(room.id, "guest@mail.example").await.unwrap();
    assert_eq!(store.contacts().get(room.id).await.unwrap(), None);
    assert_eq!(settle(&store, 6_060, false).await, NotificationDecision::Unwanted);
    assert!(!store.rooms().get(room.id).await.unwrap().unwrap().has_contact);
}

async fn host_is_emailed_unless_notifications_are_disabled(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_room(&store, &host).await;
    let wants = async |email_notifications| {
        let config = crate::domain::HostConfig { email_notifications, ..host.config };
        store.hosts().set_config(host.id, config).await.unwrap();
    };
    wants(false).await;
    miss(&store, message(room.id, 1, "one")).await;
    assert_eq!(settle(&store, 61, false).await, NotificationDecision::Unwanted);
    wants(true).await;
    miss(&store, message(room.id, 100, "two")).await;
    assert_eq!(settle(&store, 160, false).await, NotificationDecision::Mailed);
    assert_eq!(write_of(&store).await.body, "two");
}

async fn host_of_the_previous_release_receives_emails(store: Store, _url: String) {
    let host = a_host(&store).await;
    let again = format!("INSERT INTO user_config (user_id, use_online_status) VALUES ({}, 1)", host.id.0);
    for statement in ["DELETE FROM user_config", again.as_str()] {
        store.connection().execute_unprepared(statement).await.unwrap();
        assert!(store.hosts().get(host.id).await.unwrap().unwrap().config.email_notifications, "{statement}");
    }
}

async fn at_most_once_email_is_not_claimed_by_a_second_node(store: Store, _url: String) {
    let host = a_host(&store).await;
    let room = a_room(&store, &host).await;
    miss(&store, message(room.id, 1, "one")).await;
    assert_eq!(settle(&store, 61, false).await, NotificationDecision::Mailed);
    let take = |seconds: i64| {
        let (now, again) = (later(seconds * 1_000), later(seconds * 1_000) + Duration::from_secs(300));
        store.mails().claim_due(10, now, again)
    };
    let slow = take(61).await.unwrap().remove(0);
    assert_eq!(take(360).await.unwrap(), []);
    let taken = take(361).await.unwrap().remove(0);
    let depart = async |mail| store.mails().begin_send(mail, &MailQuotas::default(), later(361_000)).await.unwrap();
    assert_eq!(depart(&slow).await, SendDecision::NotWaiting, "another node has claimed it");
    assert!(matches!(depart(&taken).await, SendDecision::Send { body, .. } if body == "one"));
    assert_eq!(take(86_399).await.unwrap(), [], "it is unknown whether the e-mail was sent");
    // The node reports that the e-mail was not sent.
    store.mails().reschedule(taken.id, later(70_000)).await.unwrap();
    assert_eq!(take(70).await.unwrap().len(), 1);
    assert_eq!(take(86_400).await.unwrap().len(), 1, "due at its expiry, to be dropped");
}
