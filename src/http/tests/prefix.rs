//! Tests of a server that a proxy exposes at the path of `public-url`.

use std::sync::Arc;

use serde_json::json;

use super::JSON;
use crate::http::testing::{Answer, SHOP, TestServer};

/// Sets the public URL of the server.
fn publish(server: &mut TestServer, public_url: &str) {
    Arc::get_mut(&mut server.app).unwrap().settings.public_url = public_url.to_owned();
}

fn cookies(answer: &Answer) -> Vec<&str> {
    answer.headers.get_all("set-cookie").iter().map(|cookie| cookie.to_str().unwrap()).collect()
}

pub(super) async fn every_path_is_served_with_and_without_the_prefix(mut server: TestServer) {
    publish(&mut server, "https://shop.example/chat");
    for prefix in ["", "/chat"] {
        let ask =
            async |path: &str, headers: &[(&str, &str)]| server.ask("GET", &format!("{prefix}{path}"), headers).await;
        let [access, secret] = server.keys();
        let client = ask("/api/users/client/", &[access, secret, ("origin", SHOP)]).await;
        assert_eq!((client.status.as_u16(), client.header("access-control-allow-origin")), (200, Some(SHOP)));
        assert_eq!(ask("/ws/chat/a%2Db/?token=t/u/v&v=2", &[]).await.body, "/ws/chat/a-b?token=t/u/v&v=2 127.0.0.1");
        assert_eq!(ask("/health/live", &[]).await.status, 200);
        assert_eq!(ask("/metrics", &[]).await.body, "pintalk_up 1\n");
        assert_eq!(ask("/metrics", &[("x-forwarded-for", "127.0.0.1")]).await.status, 404);
        assert_eq!(ask("/widget.js", &[]).await.body, "// hello");
        assert_eq!(ask("/console", &[]).await.status, 200);
        assert_eq!(ask("/demo/config.json", &[("host", "evil.example")]).await.status, 404);
        assert_eq!(ask("/demo/config.json", &[("host", "shop.example")]).await.status, 200);
        let room = server.ask("POST", &format!("{prefix}/api/chat"), &[access, secret, ("origin", SHOP)]).await;
        assert_eq!(room.status, 201);
    }
    for path in [
        "/chat",
        "/chat/",
        "/chatx/widget.js",
        "/Chat/widget.js",
        "/%63hat/widget.js",
        "/chat%2Fwidget.js",
        "//chat/widget.js",
        "/chat//widget.js",
        "/chat/../widget.js",
        "/chat/%2e%2e/widget.js",
        "/chat/chat/widget.js",
        "/other/chat/widget.js",
    ] {
        let answer = server.ask("GET", path, &[]).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (404, &json!(404)), "{path}");
    }
}

pub(super) async fn prefix_named_like_a_route_hides_no_route(mut server: TestServer) {
    publish(&mut server, "https://shop.example/api");
    let keys = server.keys();
    for path in ["/api/users/client/", "/api/api/users/client/"] {
        assert_eq!(server.ask("GET", path, &keys).await.status, 200, "{path}");
    }
    for path in ["/ws/chat/x", "/api/ws/chat/x"] {
        assert!(server.ask("GET", path, &[]).await.body.starts_with("/ws/chat/x"), "{path}");
    }
    assert_eq!(server.ask("GET", "/api/api/api/users/client/", &keys).await.status, 404);
}

pub(super) async fn links_and_cookies_carry_the_prefix(mut server: TestServer) {
    publish(&mut server, "https://shop.example/chat");
    let login = json!({"email": "dev@shop.example", "password": "pass word"}).to_string();
    let answer = server.send("POST", "/chat/api/auth/login/", &[JSON], login).await;
    let set = cookies(&answer);
    assert!(set[0].starts_with("__Secure-pintalk_refresh_token=ey") && set[0].contains("; Path=/chat; "), "{set:?}");
    assert!(set[1].starts_with("pintalk_refresh_token=; Path=/; Max-Age=0"), "{set:?}");
    assert!(set[2].starts_with("pintalk_refresh_token=; Path=/chat; Max-Age=0"), "{set:?}");

    // An earlier release has set the cookie at the path `/`.
    let earlier = server.app.accounts.login("dev@shop.example", "pass word").await.unwrap();
    let cookie = format!("pintalk_refresh_token={}", earlier.tokens.refresh);
    let refreshed = server.ask("POST", "/chat/api/auth/token/refresh/", &[("cookie", &cookie)]).await;
    assert_eq!((refreshed.status.as_u16(), cookies(&refreshed).len()), (201, 3));

    let checked = server.send("POST", "/api/auth/check-email/", &[JSON], r#"{"email": "new@shop.example"}"#).await;
    let set = cookies(&checked);
    assert!(set[0].starts_with("pintalk_sign_up=; Path=/; Max-Age=0"), "{set:?}");
    assert!(set[1].starts_with("pintalk_sign_up=ey") && set[1].contains("; Path=/chat; Max-Age=3600"), "{set:?}");

    for _ in 0..2 {
        server.ask("POST", "/api/chat/", &server.keys()).await;
    }
    let bearer = server.bearer().await;
    // The URL of the next page contains the prefix, whether or not the proxy has removed it from the request.
    for path in ["/api/chat/chatrooms/?page_size=1", "/chat/api/chat/chatrooms/?page_size=1"] {
        let list = server.ask("GET", path, &[("authorization", &bearer)]).await.json();
        assert_eq!(list["next"], "https://shop.example/chat/api/chat/chatrooms/?page=2&page_size=1");
    }
}

pub(super) async fn file_of_another_release_is_not_found_and_never_cached(mut server: TestServer) {
    publish(&mut server, "https://shop.example/chat");
    for path in ["/assets/another-release/widget-panel.js", "/chat/assets/another-release/widget-panel.js"] {
        let absent = server.ask("GET", path, &[("origin", "https://any.example")]).await;
        assert_eq!((absent.status.as_u16(), absent.header("cache-control")), (404, Some("no-store")), "{path}");
        assert_eq!(absent.header("access-control-allow-origin"), Some("*"));
        assert_eq!(absent.header("cross-origin-resource-policy"), Some("cross-origin"));
    }
}
