//! E-mail addresses of guests (SPEC 8).

use sea_orm::ConnectionTrait as _;
use serde_json::json;

use super::JSON;
use crate::domain::RoomName;
use crate::http::testing::{SHOP, World};
use crate::store::{ConsentPair, mailbox_key};

pub(super) async fn a_guest_leaves_an_address_in_a_room_of_the_service_that_calls(world: World) {
    let [access, secret] = world.keys();
    let room = world.app.rooms.open(&world.host, None).await.unwrap();
    let path = format!("/api/chat/{}/contact/", room.name);
    let good = r#"{"email": " guest@mail.example "}"#;
    assert_eq!(world.send("PUT", &path, &[JSON], good).await.status, 400, "without keys");
    let unknown = [JSON, access, ("x-pintalk-secret-key", "wrong")];
    assert_eq!(world.send("PUT", &path, &unknown, good).await.status, 401);
    let elsewhere = [JSON, access, secret, ("origin", "https://evil.example")];
    assert_eq!(world.send("PUT", &path, &elsewhere, good).await.status, 403);
    for bad in ["{}", r#"{"email": "x"}"#, r#"{"email": "a@b, c@d"}"#, r#"{"email": "a@b\r\nBcc: c@d"}"#] {
        let answer = world.send("PUT", &path, &[JSON, access, secret], bad).await;
        assert!(answer.status == 400 && answer.json()["fields"]["email"].is_string(), "{answer:?}");
    }
    assert_eq!(world.app.store.contacts().get(room.id).await.unwrap(), None);

    let here = [JSON, access, secret, ("origin", SHOP), ("accept-language", "en-GB")];
    let answer = world.send("PUT", &path, &here, good).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"email": "guest@mail.example"})));
    assert_eq!(answer.header("access-control-allow-origin"), Some(SHOP));
    assert_eq!(world.app.store.contacts().get(room.id).await.unwrap().as_deref(), Some("guest@mail.example"));

    let nobody = format!("/api/chat/{}/contact/", RoomName::from_random([7; 16]));
    assert_eq!(world.send("PUT", &nobody, &[JSON, access, secret], good).await.status, 404);
    assert_eq!(world.ask("GET", &path, &[]).await.header("allow"), Some("PUT, OPTIONS"));
}

pub(super) async fn addresses_are_counted_as_the_mails_that_they_cause(world: World) {
    let [access, secret] = world.keys();
    let room = world.app.rooms.open(&world.host, None).await.unwrap();
    let path = format!("/api/chat/{}/contact/", room.name);
    let page = [JSON, access, secret, ("origin", SHOP), ("x-forwarded-for", "192.0.2.1")];
    for at in 0..6 {
        let body = json!({"email": format!("{at}@mail.example")}).to_string();
        let expected = if at < 5 { 200 } else { 429 };
        assert_eq!(world.send("PUT", &path, &page, &body).await.status, expected, "{at}");
        assert_eq!(world.send("PUT", &path, &[JSON, access, secret], &body).await.status, 200, "a server's");
    }
}

pub(super) async fn a_link_shows_a_button_and_only_the_button_changes_consent(world: World) {
    let store = &world.app.store;
    let room = world.app.rooms.open(&world.host, None).await.unwrap();
    let contacts = &world.app.contacts;
    assert!(contacts.set(room.id, "guest@mail.example", crate::outbound::mail::Language::English).await.unwrap());
    let links = crate::outbound::contacts::MailLinks::new("", [b"a secret".to_vec()]);
    let pair = ConsentPair { host: world.host.id, mailbox: mailbox_key("guest@mail.example") };
    // State of the mailbox's consent; `None` before it is given.
    let state = async || {
        let rows = store.connection().query_all_raw(sea_orm::Statement::from_string(
            sea_orm::DbBackend::Sqlite,
            "SELECT granted_at IS NOT NULL AND withdrawn_at IS NULL FROM mail_consent",
        ));
        rows.await.unwrap().first().map(|row| row.try_get_by_index::<bool>(0).unwrap())
    };
    let (consent, unsubscribe) = (links.consent(&pair).unwrap(), links.unsubscribe(&pair).unwrap());
    for (path, button, named) in
        [(&consent, "Yes, send me e-mail", "shop.example"), (&unsubscribe, "Unsubscribe", "this service")]
    {
        let shown = world.ask("GET", path, &[("accept-language", "en"), ("accept", "text/html")]).await;
        assert_eq!((shown.status.as_u16(), shown.header("content-type")), (200, Some("text/html; charset=utf-8")));
        assert!(shown.body.contains(&format!("<form method=\"post\"><button>{button}</button>")), "{}", shown.body);
        assert!(shown.body.contains(named) && !shown.body.contains("Shop<"), "{}", shown.body);
        assert!(shown.header("content-security-policy").unwrap().contains("default-src 'none'"));
        assert_eq!(shown.header("referrer-policy"), Some("no-referrer"));
        assert!(world.ask("GET", path, &[]).await.body.contains("<html lang=\"ko\">"));
        assert_eq!(world.ask("HEAD", path, &[]).await.status, 200);
        assert_eq!(world.ask("PUT", path, &[]).await.header("allow"), Some("GET, HEAD, POST, OPTIONS"));
        let mut forged = path.clone().into_bytes();
        forged[20] = if forged[20] == b'A' { b'B' } else { b'A' };
        let (kind, of_other) = if path == &consent { ("/consent/", &unsubscribe) } else { ("/unsubscribe/", &consent) };
        let crossed = format!("{kind}{}", of_other.rsplit_once('/').unwrap().1);
        for bad in [&String::from_utf8(forged).unwrap(), &format!("{kind}x"), &crossed] {
            assert_eq!(world.ask("GET", bad, &[]).await.status, 404);
            assert_eq!(world.ask("POST", bad, &[]).await.status, 404);
        }
        assert_eq!(state().await, None, "a program that follows links changes nothing");
    }
    // A repeated consent is not an error.
    for _ in 0..2 {
        let done = world.send("POST", &consent, &[("accept-language", "en")], "").await;
        assert!(done.status == 200 && !done.body.contains("<form") && done.body.contains("shop.example"), "{done:?}");
        assert_eq!(state().await, Some(true));
    }
    // Sent by a mail client (RFC 8058).
    let form = ("content-type", "application/x-www-form-urlencoded");
    for _ in 0..2 {
        let done = world.send("POST", &unsubscribe, &[form], "List-Unsubscribe=One-Click").await;
        assert!(done.status == 200 && !done.body.contains("<form"), "{done:?}");
        assert!(done.body.contains(&consent.replace('/', "&#x2f;")), "the way back: {}", done.body);
        assert_eq!(state().await, Some(false));
    }
    assert_eq!(world.send("POST", &consent, &[], "").await.status, 200);
    assert_eq!(state().await, Some(true));
}

pub(super) async fn a_host_switches_mails_off_and_guests_are_not_told(world: World) {
    let (bearer, path) = (world.bearer().await, format!("/api/users/{}/configs/", world.host.id.0));
    for body in [r#"{"emailNotifications": false}"#, r#"{"email_notifications": false}"#, "{}"] {
        let answer = world.send("PATCH", &path, &[JSON, ("authorization", &bearer)], body).await;
        assert_eq!(answer.json(), json!({"useOnlineStatus": true, "emailNotifications": false}));
    }
    let client = world.ask("GET", "/api/users/client/", &world.keys()).await.json();
    assert_eq!(client["configs"], json!({"useOnlineStatus": true}));
}
