//! Tests of sign-up, account restoration and password changes (SPEC 2).

use serde_json::json;

use super::JSON;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::http::testing::{Answer, TestServer};

/// Takes the only queued e-mail that has not expired. Returns the first word of its body that consists of `letters`
/// ASCII characters.
async fn mailed(server: &TestServer, letters: usize) -> String {
    let now = SystemClock.now();
    let mails = server.store.mails().claim_due(10, now, now).await.unwrap();
    let mails: Vec<_> = mails.into_iter().filter(|due| due.mail.expires_at > now).collect();
    assert_eq!(mails.len(), 1, "{mails:?}");
    server.store.mails().remove(mails[0].id).await.unwrap();
    mails[0].mail.body.split_whitespace().find(|word| word.is_ascii() && word.len() == letters).unwrap().to_owned()
}

fn cookie_of(answer: &Answer) -> String {
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

pub(super) async fn while_sign_up_is_closed_every_step_is_refused(mut server: TestServer) {
    std::sync::Arc::get_mut(&mut server.app).unwrap().settings.is_sign_up_open = false;
    for step in ["check-email", "email-verification", "email-confirmation", "signup"] {
        for body in [r#"{"email": "new@shop.example"}"#, "nonsense"] {
            let answer = server.send("POST", &format!("/api/auth/{step}/"), &[JSON], body).await;
            assert_eq!(answer.status, 403, "{step}");
            assert!(answer.json()["detail"].as_str().unwrap().contains("Sign-up is closed"), "{answer:?}");
        }
    }
    let login = json!({"email": "dev@shop.example", "password": "pass word"}).to_string();
    assert_eq!(server.send("POST", "/api/auth/login/", &[JSON], login).await.status, 200);
}

pub(super) async fn sign_up_reads_its_progress_from_the_cookie(server: TestServer) {
    let post = async |path: &str, cookie: &str, body: serde_json::Value| {
        let headers = [JSON, ("cookie", cookie), ("accept-language", "en")];
        server.send("POST", path, &headers, body.to_string()).await
    };
    let email = json!({"email": "new@shop.example"});
    assert_eq!(post("/api/auth/check-email/", "", json!({"email": "x"})).await.status, 400);
    assert_eq!(post("/api/auth/check-email/", "", json!({"email": "dev@shop.example"})).await.status, 409);
    assert_eq!(post("/api/auth/email-verification/", "", email.clone()).await.status, 422);
    let checked = post("/api/auth/check-email/", "", email.clone()).await;
    assert_eq!((checked.status.as_u16(), checked.json()), (200, email.clone()));
    let set = checked.header("set-cookie").unwrap();
    assert!(set.contains("HttpOnly") && set.contains("Max-Age=3600") && set.contains("Secure"), "{set}");
    let code = json!({"verificationCode": "000000"});
    assert_eq!(post("/api/auth/email-confirmation/", &cookie_of(&checked), code).await.status, 422);
    let sent = post("/api/auth/email-verification/", &cookie_of(&checked), email.clone()).await;
    assert_eq!(sent.status, 200);
    assert!(sent.json()["detail"].is_string());
    let (cookie, code) = (cookie_of(&sent), mailed(&server, 6).await);
    let account = json!({"email": "new@shop.example", "password": "pass word", "service_name": "New",
        "serviceExpl": "things", "serviceDomain": "new.example"});
    assert_eq!(post("/api/auth/signup/", &cookie, account.clone()).await.status, 422);
    let wrong = if code == "000000" { "000001" } else { "000000" };
    let confirm =
        async |code: &str| post("/api/auth/email-confirmation/", &cookie, json!({"verification_code": code})).await;
    assert_eq!(confirm(wrong).await.status, 409);
    let confirmed = confirm(&code).await;
    assert_eq!((confirmed.status.as_u16(), confirmed.body.as_str()), (204, ""));
    let short = json!({"email": "new@shop.example", "password": "short", "serviceName": "New"});
    assert!(post("/api/auth/signup/", &cookie, short).await.json()["fields"]["password"].is_string());
    let made = post("/api/auth/signup/", &cookie, account.clone()).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!((&made.json()["profileName"], &made.json()["isDeleted"]), (&json!("New"), &json!(false)));
    assert!(made.json().get("password").is_none());
    assert_eq!(post("/api/auth/signup/", &cookie, account).await.status, 422);
    let login = json!({"email": "new@shop.example", "password": "pass word"});
    assert_eq!(post("/api/auth/login/", "", login).await.status, 200);
}

pub(super) async fn forgotten_passwords_and_deactivated_accounts_are_restored_by_email(server: TestServer) {
    let post = async |path: &str, token: &str, body: serde_json::Value| {
        server.send("POST", path, &[JSON, ("authorization", token)], body.to_string()).await
    };
    let answers = [
        post("/api/auth/password-reset/", "", json!({"email": "who@shop.example"})).await,
        post("/api/auth/restore/", "", json!({"email": "dev@shop.example"})).await,
        post("/api/auth/password-reset/", "", json!({"email": "dev@shop.example"})).await,
    ];
    for answer in &answers {
        assert_eq!((answer.status.as_u16(), &answer.body), (200, &answers[0].body));
    }
    let login = json!({"email": "dev@shop.example", "password": mailed(&server, 19).await});
    let token = post("/api/auth/login/", "", login.clone()).await.json()["accessToken"].clone();
    let token = format!("Bearer {}", token.as_str().unwrap());
    assert_eq!(post("/api/auth/leave/", "", json!({"password": "x"})).await.status, 401);
    assert_eq!(post("/api/auth/leave/", &token, json!({"password": "pass word"})).await.status, 401);
    assert_eq!(post("/api/auth/leave/", &token, json!({})).await.status, 400);
    let left = post("/api/auth/leave/", &token, json!({"password": login["password"]})).await;
    assert_eq!((left.status.as_u16(), &left.json()["isDeleted"]), (200, &json!(true)));
    assert!(left.json()["deletedAt"].is_string());
    assert_eq!(post("/api/auth/login/", "", login.clone()).await.status, 409);
    assert_eq!(post("/api/auth/leave/", &token, json!({"password": "x"})).await.status, 401, "the login has ended");
    assert_eq!(post("/api/auth/restore/", "", json!({"email": "dev@shop.example"})).await.status, 200);
    let login = json!({"email": "dev@shop.example", "password": mailed(&server, 19).await});
    let back = post("/api/auth/login/", "", login).await;
    assert_eq!((back.status.as_u16(), &back.json()["isDeleted"]), (200, &json!(false)));
}

pub(super) async fn password_change_needs_the_current_password(server: TestServer) {
    let token = server.bearer().await;
    let change = async |current: &str, new: &str| {
        let body = json!({"currentPassword": current, "new_password": new}).to_string();
        let auth = ("authorization", token.as_str());
        server.send("POST", "/api/auth/password-change/", &[JSON, auth], body).await
    };
    assert_eq!(change("wrong", "new password").await.status, 401);
    for new in ["pass word", "short"] {
        let answer = change("pass word", new).await;
        assert_eq!(answer.status, 400);
        assert!(answer.json()["fields"]["newPassword"].is_string());
    }
    let changed = change("pass word", "new password").await;
    assert_eq!((changed.status.as_u16(), &changed.json()["email"]), (200, &json!("dev@shop.example")));
    assert_eq!(change("new password", "pass word").await.status, 200, "this login stays valid");
}
