use serde_json::json;

use super::testing::{ADMIN, JSON, SHOP, TestServer, on_a_server};
use crate::domain::Control;

mod accounts;
mod contact;
mod cors;
mod limits;
mod prefix;
mod sites;
mod webhook;

on_a_server! { accounts:
    while_sign_up_is_closed_every_step_is_refused
    sign_up_reads_its_progress_from_the_cookie
    forgotten_passwords_and_deactivated_accounts_are_restored_by_email
    password_change_needs_the_current_password
}
on_a_server! { contact:
    guest_address_is_set_only_in_a_room_of_the_calling_service
    setting_an_address_counts_as_an_email
    a_link_shows_a_button_and_only_the_button_changes_consent
    host_disables_emails_without_announcement_to_guests
}
on_a_server! { cors:
    guest_page_may_send_any_header_and_admin_page_only_listed_ones
    a_guest_call_with_headers_of_other_scripts_succeeds
    header_names_of_a_preflight_are_bounded_and_checked
    a_guest_page_can_read_every_error_of_its_calls
}
on_a_server! { limits:
    ten_wrong_passwords_a_minute_close_an_account_to_one_address_and_no_other
    a_hundred_failures_close_an_account_to_all_but_its_devices
    failures_from_other_addresses_do_not_block_a_logged_in_password_change
    password_resets_block_no_login
    unauthenticated_calls_that_query_sql_are_counted_by_address
    new_keys_do_not_fill_a_hosts_buckets
    address_has_twenty_login_attempts_per_minute_and_then_its_body_is_not_read
    page_and_server_create_sixty_rooms_per_minute_and_address
    rejected_room_creation_consumes_no_limit
}

on_a_server! { prefix:
    every_path_is_served_with_and_without_the_prefix
    prefix_named_like_a_route_hides_no_route
    links_and_cookies_carry_the_prefix
    file_of_another_release_is_not_found_and_never_cached
}
on_a_server! { sites:
    cookie_of_another_site_neither_takes_precedence_nor_logs_out
    metrics_and_pages_with_keys_refuse_a_foreign_host
}
on_a_server! { webhook:
    webhook_secret_is_returned_once
    webhook_is_accessible_only_to_its_host
    invalid_webhook_fields_are_reported
    webhook_test_returns_the_receivers_response
    host_lists_results_of_recent_events
}

on_a_server! {
    an_unknown_path_is_404_and_a_wrong_method_405_both_as_json
    preflight_distinguishes_guest_and_host_calls
    errors_carry_cors_headers_as_well
    an_accept_without_json_or_of_another_version_is_406
    guest_side_calls_need_both_keys_and_a_registered_page
    login_returns_the_user_and_sets_the_cookie
    unreadable_bodies_get_a_reason
    refresh_replaces_the_cookie_and_an_ended_cookie_is_cleared
    logout_clears_the_cookie_and_is_published
    host_reads_only_their_own_account
    config_change_is_published_once
    profile_changes_by_field_and_the_change_is_published
    host_rotates_keys_with_or_without_a_grace_period
    list_parameters_are_validated_before_any_query
    a_guest_opens_a_room_with_any_body_and_once_per_key
    host_pins_closes_restores_and_deletes_a_room
    a_list_links_to_its_next_page
    readiness_reports_why_a_node_is_not_ready
    metrics_are_for_direct_callers_on_this_machine
    page_has_a_policy_and_is_revalidated
    upgrade_request_has_the_clients_address
}

mod sentences {
    use super::*;

    pub(super) async fn an_unknown_path_is_404_and_a_wrong_method_405_both_as_json(server: TestServer) {
        for path in ["/", "/api", "/api/nothing/", "/api//chat/", "/api/users/x/", "/%zz"] {
            let answer = server.ask("GET", path, &[]).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (404, &json!(404)), "{path}");
        }
        for path in ["/api/chat", "/api/chat/"] {
            let answer = server.ask("GET", path, &[]).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (405, &json!(405)));
            assert_eq!(answer.header("allow"), Some("POST, OPTIONS"));
        }
        let answer = server.ask("PUT", "/api/chat/chatrooms/1/", &[]).await;
        assert_eq!(answer.header("allow"), Some("GET, HEAD, PATCH, DELETE, OPTIONS"));
    }

    pub(super) async fn preflight_distinguishes_guest_and_host_calls(server: TestServer) {
        let ask = ("access-control-request-method", "POST");
        let guest = server.ask("OPTIONS", "/api/chat/", &[("origin", "https://any.example"), ask]).await;
        assert_eq!(guest.status, 204);
        assert_eq!(guest.header("access-control-allow-origin"), Some("https://any.example"));
        assert_eq!(guest.header("access-control-allow-credentials"), None);
        assert_eq!(guest.header("access-control-allow-methods"), Some("POST, OPTIONS"));
        assert!(guest.header("access-control-allow-headers").unwrap().contains("x-pintalk-secret-key"));
        assert_eq!(guest.headers.get_all("vary").iter().count(), 2);

        let admin = server.ask("OPTIONS", "/api/auth/login/", &[("origin", ADMIN), ask]).await;
        assert_eq!(admin.header("access-control-allow-origin"), Some(ADMIN));
        assert_eq!(admin.header("access-control-allow-credentials"), Some("true"));
        let stranger = server.ask("OPTIONS", "/api/auth/login/", &[("origin", SHOP), ask]).await;
        assert_eq!((stranger.status.as_u16(), stranger.header("access-control-allow-origin")), (204, None));
        assert_eq!(stranger.header("vary"), Some("Origin"));
    }

    pub(super) async fn errors_carry_cors_headers_as_well(server: TestServer) {
        let refused = server.ask("POST", "/api/chat/", &[("origin", "https://any.example")]).await;
        assert_eq!(refused.status, 400);
        assert_eq!(refused.header("access-control-allow-origin"), Some("https://any.example"));
        for (path, status) in [("/api/chat/chatrooms/", 401), ("/api/none/", 404), ("/api/auth/login/", 405)] {
            let refused = server.ask("GET", path, &[("origin", ADMIN)]).await;
            assert_eq!(refused.status, status);
            assert_eq!(refused.header("access-control-allow-origin"), Some(ADMIN));
        }
    }

    pub(super) async fn an_accept_without_json_or_of_another_version_is_406(server: TestServer) {
        let ask = |accept| [("accept", accept)];
        assert_eq!(server.ask("GET", "/api/chat/chatrooms/", &ask("text/html")).await.json()["code"], 406);
        let second = ask("application/json; version=2");
        assert_eq!(server.ask("GET", "/api/users/client/", &second).await.status, 406);
        let first = ask("application/json; version=1");
        assert_eq!(server.ask("GET", "/api/users/client/", &first).await.status, 400);
    }

    pub(super) async fn guest_side_calls_need_both_keys_and_a_registered_page(server: TestServer) {
        let access = ("X-PinTalk-Access-Key", server.host.access_key.as_str());
        let secret = ("X-PinTalk-Secret-Key", server.host.secret_key.as_str());
        let path = "/api/users/client/";
        let missing = server.ask("GET", path, &[access]).await;
        assert_eq!(missing.status, 400);
        assert!(missing.json()["fields"]["X-PinTalk-Secret-Key"].is_string());
        let no_such = ("X-PinTalk-Access-Key", "d20aF0TvSdeWk-iPXf3l_Q");
        assert_eq!(server.ask("GET", path, &[no_such, secret]).await.status, 401);
        assert_eq!(server.ask("GET", path, &[("X-PinTalk-Access-Key", "한"), secret]).await.status, 401);
        assert_eq!(server.ask("GET", path, &[access, ("X-PinTalk-Secret-Key", "x")]).await.status, 401);
        for origin in ["https://evil.example", "null"] {
            assert_eq!(server.ask("GET", path, &[access, secret, ("origin", origin)]).await.status, 403, "{origin}");
        }
        let answer = server.ask("GET", path, &[access, secret]).await;
        assert_eq!(answer.json()["configs"]["useOnlineStatus"], true);
        let page = server.ask("GET", path, &[access, secret, ("origin", SHOP)]).await;
        assert_eq!((page.status.as_u16(), page.header("access-control-allow-origin")), (200, Some(SHOP)));
    }

    pub(super) async fn login_returns_the_user_and_sets_the_cookie(server: TestServer) {
        let path = "/api/auth/login/";
        let good = json!({"email": "dev@shop.example", "password": "pass word", "remember": true});
        let answer = server.send("POST", path, &[JSON], good.to_string()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["secretKey"], server.host.secret_key);
        assert!(answer.json()["accessToken"].is_string());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let cookie = answer.header("set-cookie").unwrap();
        assert!(cookie.starts_with("__Host-pintalk_refresh_token=ey"), "{cookie}");
        assert!(cookie.ends_with("SameSite=Lax; Secure"), "{cookie}");
        let expired = answer.headers.get_all("set-cookie").iter().nth(1).unwrap().to_str().unwrap();
        assert!(expired.starts_with("pintalk_refresh_token=; Path=/; Max-Age=0;"), "{expired}");

        let wrong = json!({"email": "dev@shop.example", "password": "pass wort"});
        let unknown = json!({"email": "who@shop.example", "password": "pass word"});
        let wrong = server.send("POST", path, &[JSON], wrong.to_string()).await;
        let unknown = server.send("POST", path, &[JSON], unknown.to_string()).await;
        assert_eq!((wrong.status.as_u16(), &wrong.body), (401, &unknown.body));
        let half = server.send("POST", path, &[JSON], r#"{"email": "dev@shop.example"}"#).await;
        assert_eq!((half.status.as_u16(), half.json()["fields"]["password"].as_str()), (400, Some("is required")));
    }

    pub(super) async fn unreadable_bodies_get_a_reason(server: TestServer) {
        let deep = "[".repeat(50_000);
        let long = format!(r#"{{"email": "{}"}}"#, "x".repeat(70_000));
        for (content_type, body, status) in [
            ("application/json", b"{\"email\":".as_slice(), 400),
            ("application/json", deep.as_bytes(), 400),
            ("application/json", b"{\"email\": \"\xff\"}", 400),
            ("application/json", b"[]", 400),
            ("application/json", b"", 400),
            ("text/plain", b"{}", 415),
            ("application/x-www-form-urlencoded", b"email=x", 415),
            ("application/json", long.as_bytes(), 413),
        ] {
            let answer = server.send("POST", "/api/auth/login/", &[("content-type", content_type)], body).await;
            assert_eq!(answer.json()["code"], status, "{content_type} {}", body.len());
        }
        assert_eq!(server.send("POST", "/api/auth/login/", &[], "{}").await.status, 415);
    }

    pub(super) async fn refresh_replaces_the_cookie_and_an_ended_cookie_is_cleared(server: TestServer) {
        let login = server.app.accounts.login("dev@shop.example", "pass word").await.unwrap();
        let cookie = format!("other=1; pintalk_refresh_token={}", login.tokens.refresh);
        let answer = server.ask("POST", "/api/auth/token/refresh/", &[("cookie", &cookie)]).await;
        assert_eq!(answer.status, 201);
        let body = answer.json();
        assert!(body["access"].is_string() && body["access"] == body["accessToken"]);
        assert_eq!(body["access"], body["access_token"]);
        assert!(answer.header("set-cookie").unwrap().contains("Max-Age=604800"));
        for cookie in ["", "pintalk_refresh_token=x.y.z"] {
            let answer = server.ask("POST", "/api/auth/token/refresh/", &[("cookie", cookie)]).await;
            assert_eq!(answer.json()["code"], 401);
            let cleared: Vec<_> =
                answer.headers.get_all("set-cookie").iter().map(|cookie| cookie.to_str().unwrap()).collect();
            assert_eq!(cleared.len(), 2);
            assert!(cleared[0].starts_with("__Host-pintalk_refresh_token=; Path=/; Max-Age=0;"));
            assert!(cleared[1].starts_with("pintalk_refresh_token=; Path=/; Max-Age=0;"));
        }
    }

    pub(super) async fn logout_clears_the_cookie_and_is_published(server: TestServer) {
        let bearer = server.bearer().await;
        let answer = server.ask("POST", "/api/auth/logout/", &[("authorization", &bearer)]).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (204, ""));
        assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
        assert_eq!(server.published.lock().unwrap().len(), 1);
        let again = server.ask("POST", "/api/auth/logout/", &[("authorization", &bearer)]).await;
        assert_eq!((again.status.as_u16(), again.header("www-authenticate")), (401, Some("Bearer")));
    }

    pub(super) async fn host_reads_only_their_own_account(server: TestServer) {
        let bearer = server.bearer().await;
        let mine = format!("/api/users/{}", server.host.id.0);
        let answer = server.ask("GET", &mine, &[("authorization", &bearer)]).await;
        assert_eq!(answer.json()["email"], "dev@shop.example");
        let other = format!("/api/users/{}/", server.host.id.0 + 1);
        assert_eq!(server.ask("GET", &other, &[("authorization", &bearer)]).await.status, 403);
        assert_eq!(server.ask("GET", &mine, &[]).await.status, 401);
        assert_eq!(server.ask("GET", &mine, &[("authorization", "Basic eA==")]).await.status, 401);
    }

    pub(super) async fn config_change_is_published_once(server: TestServer) {
        let bearer = server.bearer().await;
        let path = format!("/api/users/{}/configs/", server.host.id.0);
        for body in [r#"{"use_online_status": false}"#, r#"{"useOnlineStatus": false}"#, "{}"] {
            let answer = server.send("PATCH", &path, &[JSON, ("authorization", &bearer)], body).await;
            assert_eq!(answer.json(), json!({"useOnlineStatus": false, "emailNotifications": true}));
        }
        assert_eq!(server.published.lock().unwrap().len(), 1);
        let bad = r#"{"useOnlineStatus": "no"}"#;
        assert_eq!(server.send("PATCH", &path, &[JSON, ("authorization", &bearer)], bad).await.status, 400);
    }

    pub(super) async fn profile_changes_by_field_and_the_change_is_published(server: TestServer) {
        let (token, path) = (server.bearer().await, format!("/api/users/{}/", server.host.id.0));
        let auth = ("authorization", token.as_str());
        let body = json!({"profile_name": " Jin ", "description": "", "serviceDomain": "https://New.example/x"});
        let answer = server.send("PATCH", &path, &[auth, JSON], body.to_string()).await;
        assert_eq!(answer.status, 200);
        let user = answer.json();
        assert_eq!((&user["profileName"], &user["description"]), (&json!("Jin"), &json!("")));
        assert_eq!((&user["serviceDomain"], &user["serviceName"]), (&json!("new.example"), &json!("Shop")));
        assert_eq!(*server.published.lock().unwrap(), [Control::ConfigChanged { host: server.host.id }]);
        let answer = server.send("PATCH", &path, &[auth, JSON], r#"{"serviceDomain": null}"#).await;
        assert_eq!(answer.json()["serviceDomain"], json!(null));
        for (field, value) in [
            ("serviceName", json!("")),
            ("serviceName", json!("x".repeat(51))),
            ("profileName", json!(1)),
            ("serviceDomain", json!("a b")),
        ] {
            let answer = server.send("PATCH", &path, &[auth, JSON], json!({field: value}).to_string()).await;
            assert_eq!(answer.status, 400, "{field} {value}");
            assert!(answer.json()["fields"][field].is_string(), "{field} {value}");
        }
        let other = format!("/api/users/{}/", server.host.id.0 + 1);
        assert_eq!(server.send("PATCH", &other, &[auth, JSON], "{}").await.status, 403);
    }

    pub(super) async fn host_rotates_keys_with_or_without_a_grace_period(server: TestServer) {
        let bearer = server.bearer().await;
        let auth = ("authorization", bearer.as_str());
        let path = format!("/api/users/{}/keys/", server.host.id.0);
        let opens = async |keys: &serde_json::Value| {
            let key = |name: &str| keys[name].as_str().unwrap();
            let headers = [("x-pintalk-access-key", key("accessKey")), ("x-pintalk-secret-key", key("secretKey"))];
            server.ask("GET", "/api/users/client/", &headers).await.status == 200
        };
        let first = json!({"accessKey": server.host.access_key, "secretKey": server.host.secret_key});
        assert!(opens(&first).await, "and the node remembers it");

        let answer = server.ask("POST", &path, &[auth]).await;
        let second = answer.json();
        assert_eq!((answer.status.as_u16(), &second["email"]), (200, &json!("dev@shop.example")));
        assert_ne!(second["secretKey"], first["secretKey"]);
        assert!(opens(&first).await && opens(&second).await);
        let mixed = json!({"accessKey": first["accessKey"], "secretKey": second["secretKey"]});
        assert!(!opens(&mixed).await);

        for (body, status) in [(r#"{"revokeOld": "yes"}"#, 400), ("[]", 400), ("{", 400)] {
            assert_eq!(server.send("POST", &path, &[JSON, auth], body).await.json()["code"], status, "{body}");
        }
        let third = server.send("POST", &path, &[JSON, auth], r#"{"revoke_old": true}"#).await.json();
        assert_eq!((opens(&first).await, opens(&second).await, opens(&third).await), (false, false, true));
        assert_eq!(server.published.lock().unwrap().len(), 2);

        assert_eq!(server.ask("POST", &path, &[]).await.status, 401);
        assert_eq!(
            server.ask("POST", &format!("/api/users/{}/keys/", server.host.id.0 + 1), &[auth]).await.status,
            403
        );
        assert_eq!(server.ask("GET", &path, &[auth]).await.header("allow"), Some("POST, OPTIONS"));
    }

    pub(super) async fn list_parameters_are_validated_before_any_query(server: TestServer) {
        let bearer = server.bearer().await;
        for (query, field) in [
            ("chatrooms/?page=x", "page"),
            ("chatrooms/?page=0", "page"),
            ("chatrooms/?page_size=-1", "page_size"),
            ("chatrooms/?is_closed=maybe", "is_closed"),
            ("chatrooms/1/chat-messages/?limit=0", "limit"),
            ("chatrooms/1/chat-messages/?offset=1e3", "offset"),
        ] {
            let answer = server.ask("GET", &format!("/api/chat/{query}"), &[("authorization", &bearer)]).await;
            assert_eq!(answer.status, 400, "{query}");
            assert!(answer.json()["fields"][field].is_string(), "{query}");
        }
    }

    pub(super) async fn a_guest_opens_a_room_with_any_body_and_once_per_key(server: TestServer) {
        let [access, secret] = server.keys();
        let room = server.send("POST", "/api/chat/", &[access, secret], b"\xff not json").await;
        assert_eq!(room.status, 201);
        let body = room.json();
        assert_eq!((body["name"].as_str().unwrap().len(), &body["isClosed"]), (22, &json!(false)));
        assert_eq!((&body["host"]["uuid"], &body["id"]), (&json!(server.host.uuid), &json!(null)));

        let key = ("idempotency-key", "0123456789abcdef");
        let first = server.ask("POST", "/api/chat", &[access, secret, key]).await;
        let again = server.ask("POST", "/api/chat", &[access, secret, key]).await;
        assert_eq!((again.status.as_u16(), &first.body), (201, &again.body));
        let short = server.ask("POST", "/api/chat", &[access, secret, ("idempotency-key", "short")]).await;
        assert_eq!(short.status, 400);
    }

    pub(super) async fn host_pins_closes_restores_and_deletes_a_room(server: TestServer) {
        server.ask("POST", "/api/chat/", &server.keys()).await;
        let bearer = server.bearer().await;
        let auth = ("authorization", bearer.as_str());
        let id = server.ask("GET", "/api/chat/chatrooms/", &[auth]).await.json()["results"][0]["id"].to_string();
        let path = format!("/api/chat/chatrooms/{id}/");
        let headers = [JSON, auth];
        let patch = |body: &'static str| server.send("PATCH", &path, &headers, body);

        assert_eq!(patch(r#"{"is_fixed": true}"#).await.json()["isFixed"], true);
        let closed = patch(r#"{"isClosed": true}"#).await.json();
        assert_eq!(
            (&closed["isClosed"], &closed["isFixed"], &closed["unread"]),
            (&json!(true), &json!(false), &json!(0))
        );
        assert_eq!(patch(r#"{"isClosed": true}"#).await.status, 200);
        assert_eq!(patch(r#"{"isFixed": true}"#).await.json()["code"], 422);
        for _ in 0..2 {
            let restored = server.ask("PATCH", &format!("{path}restore/"), &[auth]).await;
            assert_eq!((restored.status.as_u16(), &restored.json()["isClosed"]), (200, &json!(false)));
        }
        let detail = server.ask("GET", &path, &[auth]).await.json();
        assert_eq!((detail["id"].to_string(), &detail["host"]["serviceName"]), (id, &json!("Shop")));
        let messages = server.ask("GET", &format!("{path}chat-messages/?limit=5"), &[auth]).await;
        assert_eq!(messages.json(), json!({"count": 0, "next": null, "previous": null, "results": []}));

        assert_eq!(server.ask("DELETE", &path, &[auth]).await.status, 204);
        assert_eq!(server.ask("GET", &path, &[auth]).await.json()["code"], 404);
    }

    pub(super) async fn a_list_links_to_its_next_page(server: TestServer) {
        for _ in 0..3 {
            server.ask("POST", "/api/chat/", &server.keys()).await;
        }
        let bearer = server.bearer().await;
        let auth = ("authorization", bearer.as_str());
        let list = |query: &str| format!("/api/chat/chatrooms/{query}");
        let first = server.ask("GET", &list("?page_size=2&is_closed=False"), &[auth]).await.json();
        assert_eq!((&first["count"], first["results"].as_array().unwrap().len()), (&json!(3), 2));
        assert_eq!(first["next"], "https://chat.example/api/chat/chatrooms/?is_closed=false&page=2&page_size=2");
        assert_eq!(server.ask("GET", &list("?page=2"), &[auth]).await.json()["code"], 404);
        assert_eq!(server.ask("GET", &list("?search=unknown"), &[auth]).await.json()["count"], 0);
    }

    pub(super) async fn readiness_reports_why_a_node_is_not_ready(server: TestServer) {
        let answer = server.ask("GET", "/health/ready", &[]).await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.json(), json!({"code": 503, "detail": "draining", "status": "not ready", "degraded": true}));
        assert_eq!(server.ask("HEAD", "/health/live/", &[("accept", "text/plain")]).await.status, 200);
    }

    pub(super) async fn metrics_are_for_direct_callers_on_this_machine(server: TestServer) {
        assert_eq!(server.ask("GET", "/metrics", &[]).await.body, "pintalk_up 1\n");
        for header in ["x-forwarded-for", "forwarded", "x-real-ip"] {
            assert_eq!(server.ask("GET", "/metrics", &[(header, "127.0.0.1")]).await.json()["code"], 404);
        }
    }

    pub(super) async fn page_has_a_policy_and_is_revalidated(server: TestServer) {
        let page = server.ask("GET", "/widget.js", &[]).await;
        assert_eq!(page.body, "// hello");
        assert_eq!(page.header("access-control-allow-origin"), Some("*"));
        assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'self';"));
        let mark = page.header("etag").unwrap();
        let again = server.ask("GET", "/widget.js", &[("if-none-match", mark)]).await;
        assert_eq!((again.status.as_u16(), again.body.as_str()), (304, ""));
        assert_eq!(server.ask("GET", "/console", &[]).await.status, 200);
        assert_eq!(server.ask("POST", "/console/", &[]).await.header("allow"), Some("GET, HEAD, OPTIONS"));
    }

    pub(super) async fn upgrade_request_has_the_clients_address(server: TestServer) {
        let forwarded = ("x-forwarded-for", "6.6.6.6, 1.2.3.4");
        let answer = server.ask("GET", "/ws/chat/a%2Db/?token=t", &[forwarded]).await;
        assert_eq!(answer.body, "/ws/chat/a-b?token=t 1.2.3.4");
        assert_eq!(server.ask("POST", "/ws/chat/x/", &[]).await.status, 405);
    }
}
