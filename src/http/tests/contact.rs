//! Tests of the endpoints for e-mail addresses of guests (SPEC 8).

use sea_orm::ConnectionTrait as _;
use serde_json::json;

use super::JSON;
use crate::domain::RoomName;
use crate::http::testing::{SHOP, TestServer};
use crate::store::{ConsentPair, mailbox_key};

pub(super) async fn guest_address_is_set_only_in_a_room_of_the_calling_service(server: TestServer) {
    let [access, secret] = server.keys();
    let room = server.app.rooms.open(&server.host, None).await.unwrap();
    let path = format!("/api/chat/{}/contact/", room.name);
    let good = r#"{"email": " guest@mail.example "}"#;
    assert_eq!(server.send("PUT", &path, &[JSON], good).await.status, 400, "without keys");
    let unknown = [JSON, access, ("x-pintalk-secret-key", "wrong")];
    assert_eq!(server.send("PUT", &path, &unknown, good).await.status, 401);
    let elsewhere = [JSON, access, secret, ("origin", "https://evil.example")];
    assert_eq!(server.send("PUT", &path, &elsewhere, good).await.status, 403);
    for bad in ["{}", r#"{"email": "x"}"#, r#"{"email": "a@b, c@d"}"#, r#"{"email": "a@b\r\nBcc: c@d"}"#] {
        let answer = server.send("PUT", &path, &[JSON, access, secret], bad).await;
        assert!(answer.status == 400 && answer.json()["fields"]["email"].is_string(), "{answer:?}");
    }
    assert_eq!(server.store.contacts().get(room.id).await.unwrap(), None);

    let here = [JSON, access, secret, ("origin", SHOP), ("accept-language", "en-GB")];
    let answer = server.send("PUT", &path, &here, good).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"email": "guest@mail.example"})));
    assert_eq!(answer.header("access-control-allow-origin"), Some(SHOP));
    assert_eq!(server.store.contacts().get(room.id).await.unwrap().as_deref(), Some("guest@mail.example"));

    let unknown = format!("/api/chat/{}/contact/", RoomName::from_random([7; 16]));
    assert_eq!(server.send("PUT", &unknown, &[JSON, access, secret], good).await.status, 404);
    assert_eq!(server.ask("GET", &path, &[]).await.header("allow"), Some("PUT, OPTIONS"));
}

pub(super) async fn setting_an_address_counts_as_an_email(server: TestServer) {
    let [access, secret] = server.keys();
    let room = server.app.rooms.open(&server.host, None).await.unwrap();
    let path = format!("/api/chat/{}/contact/", room.name);
    let page = [JSON, access, secret, ("origin", SHOP), ("x-forwarded-for", "192.0.2.1")];
    for at in 0..6 {
        let body = json!({"email": format!("{at}@mail.example")}).to_string();
        let expected = if at < 5 { 200 } else { 429 };
        assert_eq!(server.send("PUT", &path, &page, &body).await.status, expected, "{at}");
        assert_eq!(server.send("PUT", &path, &[JSON, access, secret], &body).await.status, 200, "a server's");
    }
}

pub(super) async fn a_link_shows_a_button_and_only_the_button_changes_consent(server: TestServer) {
    let store = &server.store;
    let room = server.app.rooms.open(&server.host, None).await.unwrap();
    let english = crate::outbound::mail::Language::English;
    server.app.rooms.set_contact(server.host.id, room.name, "guest@mail.example", english).await.unwrap();
    let links = crate::outbound::contacts::MailLinks::new("", [b"a secret".to_vec()]);
    let pair = ConsentPair { host: server.host.id, mailbox: mailbox_key("guest@mail.example") };
    // Reads the consent state of the mailbox. The result is `None` until consent is given.
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
        let shown = server.ask("GET", path, &[("accept-language", "en"), ("accept", "text/html")]).await;
        assert_eq!((shown.status.as_u16(), shown.header("content-type")), (200, Some("text/html; charset=utf-8")));
        assert!(shown.body.contains(&format!("<form method=\"post\"><button>{button}</button>")), "{}", shown.body);
        assert!(shown.body.contains(named) && !shown.body.contains("Shop<"), "{}", shown.body);
        assert!(shown.header("content-security-policy").unwrap().contains("default-src 'none'"));
        assert_eq!(shown.header("referrer-policy"), Some("no-referrer"));
        assert!(server.ask("GET", path, &[]).await.body.contains("<html lang=\"ko\">"));
        assert_eq!(server.ask("HEAD", path, &[]).await.status, 200);
        assert_eq!(server.ask("PUT", path, &[]).await.header("allow"), Some("GET, HEAD, POST, OPTIONS"));
        let mut forged = path.clone().into_bytes();
        forged[20] = if forged[20] == b'A' { b'B' } else { b'A' };
        let (kind, of_other) = if path == &consent { ("/consent/", &unsubscribe) } else { ("/unsubscribe/", &consent) };
        let crossed = format!("{kind}{}", of_other.rsplit_once('/').unwrap().1);
        for bad in [&String::from_utf8(forged).unwrap(), &format!("{kind}x"), &crossed] {
            assert_eq!(server.ask("GET", bad, &[]).await.status, 404);
            assert_eq!(server.ask("POST", bad, &[]).await.status, 404);
        }
        assert_eq!(state().await, None, "a program that follows links changes nothing");
    }
    // A repeated consent succeeds.
    for _ in 0..2 {
        let done = server.send("POST", &consent, &[("accept-language", "en")], "").await;
        assert!(done.status == 200 && !done.body.contains("<form") && done.body.contains("shop.example"), "{done:?}");
        assert_eq!(state().await, Some(true));
    }
    // Mail clients send this request (RFC 8058).
    let form = ("content-type", "application/x-www-form-urlencoded");
    for _ in 0..2 {
        let done = server.send("POST", &unsubscribe, &[form], "List-Unsubscribe=One-Click").await;
        assert!(done.status == 200 && !done.body.contains("<form"), "{done:?}");
        assert!(done.body.contains(&consent.replace('/', "&#x2f;")), "the way back: {}", done.body);
        assert_eq!(state().await, Some(false));
    }
    assert_eq!(server.send("POST", &consent, &[], "").await.status, 200);
    assert_eq!(state().await, Some(true));
}

pub(super) async fn host_disables_emails_without_announcement_to_guests(server: TestServer) {
    let (bearer, path) = (server.bearer().await, format!("/api/users/{}/configs/", server.host.id.0));
    for body in [r#"{"emailNotifications": false}"#, r#"{"email_notifications": false}"#, "{}"] {
        let answer = server.send("PATCH", &path, &[JSON, ("authorization", &bearer)], body).await;
        assert_eq!(answer.json(), json!({"useOnlineStatus": true, "emailNotifications": false}));
    }
    let client = server.ask("GET", "/api/users/client/", &server.keys()).await.json();
    assert_eq!(client["configs"], json!({"useOnlineStatus": true}));
}
