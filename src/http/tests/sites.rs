//! Tests that other web sites cannot misuse a logged-in browser. Tests that `/metrics` and pages with keys reject
//! requests with a foreign `Host` header (DNS rebinding).

use crate::http::testing::{Answer, TestServer};

pub(super) async fn cookie_of_another_site_neither_takes_precedence_nor_logs_out(server: TestServer) {
    let login = async |email: &str| server.app.accounts.login(email, "pass word").await.unwrap();
    server.another_host("evil@shop.example").await;
    let (mine, evil) = (login("dev@shop.example").await, login("evil@shop.example").await);
    let dead = login("evil@shop.example").await;
    let sid = server.app.accounts.authenticate(&dead.tokens.access).await.unwrap().sid;
    server.app.accounts.logout(&sid).await.unwrap();
    let refresh = async |cookies: &[(&str, &str)]| {
        let line = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        server.ask("POST", "/api/auth/token/refresh/", &[("cookie", &line)]).await
    };
    let owner = async |answer: &Answer| {
        let token = answer.json()["access"].as_str().unwrap().to_owned();
        server.app.accounts.authenticate(&token).await.unwrap().host
    };
    let (plain, prefixed) = ("pintalk_refresh_token", "__Host-pintalk_refresh_token");
    let mut token = mine.tokens.refresh;
    for cookies in [
        [(plain, evil.tokens.refresh.as_str()), (prefixed, "")],
        [(plain, dead.tokens.refresh.as_str()), (prefixed, "")],
        [(prefixed, ""), (plain, evil.tokens.refresh.as_str())],
        [(plain, dead.tokens.refresh.as_str()), (plain, "")],
        [(plain, ""), (plain, "x.y.z")],
    ] {
        let cookies = cookies.map(|(name, value)| (name, if value.is_empty() { token.as_str() } else { value }));
        let answer = refresh(&cookies).await;
        assert_eq!((answer.status.as_u16(), owner(&answer).await), (201, server.host.id), "{cookies:?}");
        let set = answer.header("set-cookie").unwrap();
        token = set.split(['=', ';']).nth(1).unwrap().to_owned();
    }
    // The request is ambiguous, because it contains valid tokens of two accounts in cookies without a prefix. The
    // server uses neither token and clears neither cookie.
    let answer = refresh(&[(plain, &evil.tokens.refresh), (plain, &token)]).await;
    assert_eq!((answer.status.as_u16(), answer.header("set-cookie")), (401, None));
    assert_eq!(refresh(&[(plain, &token)]).await.status, 201);
}

pub(super) async fn metrics_and_pages_with_keys_refuse_a_foreign_host(server: TestServer) {
    for (host, status) in [
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("localhost", 200),
        ("chat.example", 200),
        ("evil.example", 404),
        ("evil.example:8080", 404),
        ("127.0.0.1.nip.io", 404),
    ] {
        for path in ["/metrics", "/metrics/", "/demo/config.json"] {
            assert_eq!(server.ask("GET", path, &[("host", host)]).await.status, status, "{path} {host}");
        }
        assert_eq!(server.ask("GET", "/widget.js", &[("host", host)]).await.status, 200);
    }
}
