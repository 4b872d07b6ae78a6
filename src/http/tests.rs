use serde_json::json;

use super::testing::{ADMIN, JSON, SHOP, World, on_a_server};
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
    forgotten_passwords_and_left_accounts_are_restored_by_mail
    a_password_is_changed_with_the_current_one
}
on_a_server! { contact:
    a_guest_leaves_an_address_in_a_room_of_the_service_that_calls
    addresses_are_counted_as_the_mails_that_they_cause
    a_link_shows_a_button_and_only_the_button_changes_consent
    a_host_switches_mails_off_and_guests_are_not_told
}
on_a_server! { cors:
    a_guest_page_may_add_any_header_and_an_admin_page_only_listed_ones
    a_guest_call_with_headers_of_other_scripts_succeeds
    header_names_of_a_preflight_are_bounded_and_checked
    a_guest_page_can_read_every_error_of_its_calls
}
on_a_server! { limits:
    ten_wrong_passwords_a_minute_close_an_account_to_one_address_and_no_other
    a_hundred_failures_close_an_account_to_all_but_its_devices
    who_is_logged_in_changes_a_password_in_spite_of_strangers_failures
    password_resets_close_nothing
    what_costs_sql_without_a_login_is_counted_by_address
    new_keys_do_not_fill_a_hosts_buckets
    an_address_tries_twenty_times_a_minute_and_is_then_not_even_read
    a_page_makes_sixty_rooms_a_minute_by_address_and_so_does_a_server
    whoever_may_make_no_room_at_all_uses_nothing_up
}

on_a_server! { prefix:
    every_path_is_served_with_and_without_the_prefix
    a_prefix_that_is_named_like_a_route_hides_nothing
    links_and_cookies_carry_the_prefix
    a_file_of_another_release_is_absent_and_never_cached
}
on_a_server! { sites:
    a_cookie_of_another_site_neither_wins_nor_logs_out
    metrics_and_pages_with_keys_refuse_a_foreign_host
}
on_a_server! { webhook:
    a_host_sets_his_webhook_and_sees_its_secret_once
    a_webhook_is_its_hosts_alone
    what_is_wrong_with_a_webhook_is_told_by_field
    a_test_says_at_once_what_the_receiver_said
    a_host_sees_what_became_of_his_events
}

on_a_server! {
    an_unknown_path_is_404_and_a_wrong_method_405_both_as_json
    a_preflight_tells_guests_and_hosts_apart
    errors_carry_cors_headers_as_well
    an_accept_without_json_or_of_another_version_is_406
    guest_side_calls_need_both_keys_and_a_registered_page
    a_login_answers_the_user_and_sets_the_cookie
    bodies_that_cannot_be_read_are_told_why
    a_refresh_spends_the_cookie_and_a_dead_cookie_goes
    logging_out_takes_the_cookie_and_tells_all_nodes
    a_host_sees_himself_and_nobody_else
    changing_configs_tells_all_nodes_once
    a_profile_changes_field_by_field_and_tells_all_nodes
    a_host_changes_his_keys_and_the_old_ones_go_on_or_not
    lists_check_their_parameters_before_they_ask_anybody
    a_guest_opens_a_room_whatever_the_body_and_once_per_key
    a_host_pins_closes_restores_and_leaves_his_room
    a_list_links_to_its_next_page
    readiness_says_why_it_is_not
    metrics_are_for_direct_callers_on_this_machine
    a_page_comes_with_a_policy_and_is_not_sent_twice
    a_socket_is_handed_over_with_the_clients_address
}

mod sentences {
    use super::*;

    pub(super) async fn an_unknown_path_is_404_and_a_wrong_method_405_both_as_json(world: World) {
        for path in ["/", "/api", "/api/nothing/", "/api//chat/", "/api/users/x/", "/%zz"] {
            let answer = world.ask("GET", path, &[]).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (404, &json!(404)), "{path}");
        }
        for path in ["/api/chat", "/api/chat/"] {
            let answer = world.ask("GET", path, &[]).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (405, &json!(405)));
            assert_eq!(answer.header("allow"), Some("POST, OPTIONS"));
        }
        let answer = world.ask("PUT", "/api/chat/chatrooms/1/", &[]).await;
        assert_eq!(answer.header("allow"), Some("GET, HEAD, PATCH, DELETE, OPTIONS"));
    }

    pub(super) async fn a_preflight_tells_guests_and_hosts_apart(world: World) {
        let ask = ("access-control-request-method", "POST");
        let guest = world.ask("OPTIONS", "/api/chat/", &[("origin", "https://any.example"), ask]).await;
        assert_eq!(guest.status, 204);
        assert_eq!(guest.header("access-control-allow-origin"), Some("https://any.example"));
        assert_eq!(guest.header("access-control-allow-credentials"), None);
        assert_eq!(guest.header("access-control-allow-methods"), Some("POST, OPTIONS"));
        assert!(guest.header("access-control-allow-headers").unwrap().contains("x-pintalk-secret-key"));
        assert_eq!(guest.headers.get_all("vary").iter().count(), 2);

        let admin = world.ask("OPTIONS", "/api/auth/login/", &[("origin", ADMIN), ask]).await;
        assert_eq!(admin.header("access-control-allow-origin"), Some(ADMIN));
        assert_eq!(admin.header("access-control-allow-credentials"), Some("true"));
        let stranger = world.ask("OPTIONS", "/api/auth/login/", &[("origin", SHOP), ask]).await;
        assert_eq!((stranger.status.as_u16(), stranger.header("access-control-allow-origin")), (204, None));
        assert_eq!(stranger.header("vary"), Some("Origin"));
    }

    pub(super) async fn errors_carry_cors_headers_as_well(world: World) {
        let refused = world.ask("POST", "/api/chat/", &[("origin", "https://any.example")]).await;
        assert_eq!(refused.status, 400);
        assert_eq!(refused.header("access-control-allow-origin"), Some("https://any.example"));
        for (path, status) in [("/api/chat/chatrooms/", 401), ("/api/none/", 404), ("/api/auth/login/", 405)] {
            let refused = world.ask("GET", path, &[("origin", ADMIN)]).await;
            assert_eq!(refused.status, status);
            assert_eq!(refused.header("access-control-allow-origin"), Some(ADMIN));
        }
    }

    pub(super) async fn an_accept_without_json_or_of_another_version_is_406(world: World) {
        let ask = |accept| [("accept", accept)];
        assert_eq!(world.ask("GET", "/api/chat/chatrooms/", &ask("text/html")).await.json()["code"], 406);
        let second = ask("application/json; version=2");
        assert_eq!(world.ask("GET", "/api/users/client/", &second).await.status, 406);
        let first = ask("application/json; version=1");
        assert_eq!(world.ask("GET", "/api/users/client/", &first).await.status, 400);
    }

    pub(super) async fn guest_side_calls_need_both_keys_and_a_registered_page(world: World) {
        let access = ("X-PinTalk-Access-Key", world.host.access_key.as_str());
        let secret = ("X-PinTalk-Secret-Key", world.host.secret_key.as_str());
        let path = "/api/users/client/";
        let missing = world.ask("GET", path, &[access]).await;
        assert_eq!(missing.status, 400);
        assert!(missing.json()["fields"]["X-PinTalk-Secret-Key"].is_string());
        let no_such = ("X-PinTalk-Access-Key", "d20aF0TvSdeWk-iPXf3l_Q");
        assert_eq!(world.ask("GET", path, &[no_such, secret]).await.status, 401);
        assert_eq!(world.ask("GET", path, &[("X-PinTalk-Access-Key", "한"), secret]).await.status, 401);
        assert_eq!(world.ask("GET", path, &[access, ("X-PinTalk-Secret-Key", "x")]).await.status, 401);
        for origin in ["https://evil.example", "null"] {
            assert_eq!(world.ask("GET", path, &[access, secret, ("origin", origin)]).await.status, 403, "{origin}");
        }
        let server = world.ask("GET", path, &[access, secret]).await;
        assert_eq!(server.json()["configs"]["useOnlineStatus"], true);
        let page = world.ask("GET", path, &[access, secret, ("origin", SHOP)]).await;
        assert_eq!((page.status.as_u16(), page.header("access-control-allow-origin")), (200, Some(SHOP)));
    }

    pub(super) async fn a_login_answers_the_user_and_sets_the_cookie(world: World) {
        let path = "/api/auth/login/";
        let good = json!({"email": "dev@shop.example", "password": "pass word", "remember": true});
        let answer = world.send("POST", path, &[JSON], good.to_string()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["secretKey"], world.host.secret_key);
        assert!(answer.json()["accessToken"].is_string());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let cookie = answer.header("set-cookie").unwrap();
        assert!(cookie.starts_with("__Host-pintalk_refresh_token=ey"), "{cookie}");
        assert!(cookie.ends_with("SameSite=Lax; Secure"), "{cookie}");
        let expired = answer.headers.get_all("set-cookie").iter().nth(1).unwrap().to_str().unwrap();
        assert!(expired.starts_with("pintalk_refresh_token=; Path=/; Max-Age=0;"), "{expired}");

        let wrong = json!({"email": "dev@shop.example", "password": "pass wort"});
        let unknown = json!({"email": "who@shop.example", "password": "pass word"});
        let wrong = world.send("POST", path, &[JSON], wrong.to_string()).await;
        let unknown = world.send("POST", path, &[JSON], unknown.to_string()).await;
        assert_eq!((wrong.status.as_u16(), &wrong.body), (401, &unknown.body));
        let half = world.send("POST", path, &[JSON], r#"{"email": "dev@shop.example"}"#).await;
        assert_eq!((half.status.as_u16(), half.json()["fields"]["password"].as_str()), (400, Some("is required")));
    }

    pub(super) async fn bodies_that_cannot_be_read_are_told_why(world: World) {
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
            let answer = world.send("POST", "/api/auth/login/", &[("content-type", content_type)], body).await;
            assert_eq!(answer.json()["code"], status, "{content_type} {}", body.len());
        }
        assert_eq!(world.send("POST", "/api/auth/login/", &[], "{}").await.status, 415);
    }

    pub(super) async fn a_refresh_spends_the_cookie_and_a_dead_cookie_goes(world: World) {
        let login = world.app.accounts.login("dev@shop.example", "pass word").await.unwrap();
        let cookie = format!("other=1; pintalk_refresh_token={}", login.tokens.refresh);
        let answer = world.ask("POST", "/api/auth/token/refresh/", &[("cookie", &cookie)]).await;
        assert_eq!(answer.status, 201);
        let body = answer.json();
        assert!(body["access"].is_string() && body["access"] == body["accessToken"]);
        assert_eq!(body["access"], body["access_token"]);
        assert!(answer.header("set-cookie").unwrap().contains("Max-Age=604800"));
        for cookie in ["", "pintalk_refresh_token=x.y.z"] {
            let answer = world.ask("POST", "/api/auth/token/refresh/", &[("cookie", cookie)]).await;
            assert_eq!(answer.json()["code"], 401);
            let cleared: Vec<_> =
                answer.headers.get_all("set-cookie").iter().map(|cookie| cookie.to_str().unwrap()).collect();
            assert_eq!(cleared.len(), 2);
            assert!(cleared[0].starts_with("__Host-pintalk_refresh_token=; Path=/; Max-Age=0;"));
            assert!(cleared[1].starts_with("pintalk_refresh_token=; Path=/; Max-Age=0;"));
        }
    }

    pub(super) async fn logging_out_takes_the_cookie_and_tells_all_nodes(world: World) {
        let bearer = world.bearer().await;
        let answer = world.ask("POST", "/api/auth/logout/", &[("authorization", &bearer)]).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (204, ""));
        assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
        assert_eq!(world.announced.lock().unwrap().len(), 1);
        let again = world.ask("POST", "/api/auth/logout/", &[("authorization", &bearer)]).await;
        assert_eq!((again.status.as_u16(), again.header("www-authenticate")), (401, Some("Bearer")));
    }

    pub(super) async fn a_host_sees_himself_and_nobody_else(world: World) {
        let bearer = world.bearer().await;
        let mine = format!("/api/users/{}", world.host.id.0);
        let answer = world.ask("GET", &mine, &[("authorization", &bearer)]).await;
        assert_eq!(answer.json()["email"], "dev@shop.example");
        let other = format!("/api/users/{}/", world.host.id.0 + 1);
        assert_eq!(world.ask("GET", &other, &[("authorization", &bearer)]).await.status, 403);
        assert_eq!(world.ask("GET", &mine, &[]).await.status, 401);
        assert_eq!(world.ask("GET", &mine, &[("authorization", "Basic eA==")]).await.status, 401);
    }

    pub(super) async fn changing_configs_tells_all_nodes_once(world: World) {
        let bearer = world.bearer().await;
        let path = format!("/api/users/{}/configs/", world.host.id.0);
        for body in [r#"{"use_online_status": false}"#, r#"{"useOnlineStatus": false}"#, "{}"] {
            let answer = world.send("PATCH", &path, &[JSON, ("authorization", &bearer)], body).await;
            assert_eq!(answer.json(), json!({"useOnlineStatus": false, "emailNotifications": true}));
        }
        assert_eq!(world.announced.lock().unwrap().len(), 1);
        let bad = r#"{"useOnlineStatus": "no"}"#;
        assert_eq!(world.send("PATCH", &path, &[JSON, ("authorization", &bearer)], bad).await.status, 400);
    }

    pub(super) async fn a_profile_changes_field_by_field_and_tells_all_nodes(world: World) {
        let (token, path) = (world.bearer().await, format!("/api/users/{}/", world.host.id.0));
        let auth = ("authorization", token.as_str());
        let body = json!({"profile_name": " Jin ", "description": "", "serviceDomain": "https://New.example/x"});
        let answer = world.send("PATCH", &path, &[auth, JSON], body.to_string()).await;
        assert_eq!(answer.status, 200);
        let user = answer.json();
        assert_eq!((&user["profileName"], &user["description"]), (&json!("Jin"), &json!("")));
        assert_eq!((&user["serviceDomain"], &user["serviceName"]), (&json!("new.example"), &json!("Shop")));
        assert_eq!(*world.announced.lock().unwrap(), [Control::ConfigChanged { host: world.host.id }]);
        let answer = world.send("PATCH", &path, &[auth, JSON], r#"{"serviceDomain": null}"#).await;
        assert_eq!(answer.json()["serviceDomain"], json!(null));
        for (field, value) in [
            ("serviceName", json!("")),
            ("serviceName", json!("x".repeat(51))),
            ("profileName", json!(1)),
            ("serviceDomain", json!("a b")),
        ] {
            let answer = world.send("PATCH", &path, &[auth, JSON], json!({field: value}).to_string()).await;
            assert_eq!(answer.status, 400, "{field} {value}");
            assert!(answer.json()["fields"][field].is_string(), "{field} {value}");
        }
        let other = format!("/api/users/{}/", world.host.id.0 + 1);
        assert_eq!(world.send("PATCH", &other, &[auth, JSON], "{}").await.status, 403);
    }

    pub(super) async fn a_host_changes_his_keys_and_the_old_ones_go_on_or_not(world: World) {
        let bearer = world.bearer().await;
        let auth = ("authorization", bearer.as_str());
        let path = format!("/api/users/{}/keys/", world.host.id.0);
        let opens = async |keys: &serde_json::Value| {
            let key = |name: &str| keys[name].as_str().unwrap();
            let headers = [("x-pintalk-access-key", key("accessKey")), ("x-pintalk-secret-key", key("secretKey"))];
            world.ask("GET", "/api/users/client/", &headers).await.status == 200
        };
        let first = json!({"accessKey": world.host.access_key, "secretKey": world.host.secret_key});
        assert!(opens(&first).await, "and the node remembers it");

        let answer = world.ask("POST", &path, &[auth]).await;
        let second = answer.json();
        assert_eq!((answer.status.as_u16(), &second["email"]), (200, &json!("dev@shop.example")));
        assert_ne!(second["secretKey"], first["secretKey"]);
        assert!(opens(&first).await && opens(&second).await);
        let mixed = json!({"accessKey": first["accessKey"], "secretKey": second["secretKey"]});
        assert!(!opens(&mixed).await);

        for (body, status) in [(r#"{"revokeOld": "yes"}"#, 400), ("[]", 400), ("{", 400)] {
            assert_eq!(world.send("POST", &path, &[JSON, auth], body).await.json()["code"], status, "{body}");
        }
        let third = world.send("POST", &path, &[JSON, auth], r#"{"revoke_old": true}"#).await.json();
        assert_eq!((opens(&first).await, opens(&second).await, opens(&third).await), (false, false, true));
        assert_eq!(world.announced.lock().unwrap().len(), 2);

        assert_eq!(world.ask("POST", &path, &[]).await.status, 401);
        assert_eq!(world.ask("POST", &format!("/api/users/{}/keys/", world.host.id.0 + 1), &[auth]).await.status, 403);
        assert_eq!(world.ask("GET", &path, &[auth]).await.header("allow"), Some("POST, OPTIONS"));
    }

    pub(super) async fn lists_check_their_parameters_before_they_ask_anybody(world: World) {
        let bearer = world.bearer().await;
        for (query, field) in [
            ("chatrooms/?page=x", "page"),
            ("chatrooms/?page=0", "page"),
            ("chatrooms/?page_size=-1", "page_size"),
            ("chatrooms/?is_closed=maybe", "is_closed"),
            ("chatrooms/1/chat-messages/?limit=0", "limit"),
            ("chatrooms/1/chat-messages/?offset=1e3", "offset"),
        ] {
            let answer = world.ask("GET", &format!("/api/chat/{query}"), &[("authorization", &bearer)]).await;
            assert_eq!(answer.status, 400, "{query}");
            assert!(answer.json()["fields"][field].is_string(), "{query}");
        }
    }

    pub(super) async fn a_guest_opens_a_room_whatever_the_body_and_once_per_key(world: World) {
        let [access, secret] = world.keys();
        let room = world.send("POST", "/api/chat/", &[access, secret], b"\xff not json").await;
        assert_eq!(room.status, 201);
        let body = room.json();
        assert_eq!((body["name"].as_str().unwrap().len(), &body["isClosed"]), (22, &json!(false)));
        assert_eq!((&body["host"]["uuid"], &body["id"]), (&json!(world.host.uuid), &json!(null)));

        let key = ("idempotency-key", "0123456789abcdef");
        let first = world.ask("POST", "/api/chat", &[access, secret, key]).await;
        let again = world.ask("POST", "/api/chat", &[access, secret, key]).await;
        assert_eq!((again.status.as_u16(), &first.body), (201, &again.body));
        let short = world.ask("POST", "/api/chat", &[access, secret, ("idempotency-key", "short")]).await;
        assert_eq!(short.status, 400);
    }

    pub(super) async fn a_host_pins_closes_restores_and_leaves_his_room(world: World) {
        world.ask("POST", "/api/chat/", &world.keys()).await;
        let bearer = world.bearer().await;
        let auth = ("authorization", bearer.as_str());
        let id = world.ask("GET", "/api/chat/chatrooms/", &[auth]).await.json()["results"][0]["id"].to_string();
        let path = format!("/api/chat/chatrooms/{id}/");
        let headers = [JSON, auth];
        let patch = |body: &'static str| world.send("PATCH", &path, &headers, body);

        assert_eq!(patch(r#"{"is_fixed": true}"#).await.json()["isFixed"], true);
        let closed = patch(r#"{"isClosed": true}"#).await.json();
        assert_eq!(
            (&closed["isClosed"], &closed["isFixed"], &closed["unread"]),
            (&json!(true), &json!(false), &json!(0))
        );
        assert_eq!(patch(r#"{"isClosed": true}"#).await.status, 200);
        assert_eq!(patch(r#"{"isFixed": true}"#).await.json()["code"], 422);
        for _ in 0..2 {
            let restored = world.ask("PATCH", &format!("{path}restore/"), &[auth]).await;
            assert_eq!((restored.status.as_u16(), &restored.json()["isClosed"]), (200, &json!(false)));
        }
        let detail = world.ask("GET", &path, &[auth]).await.json();
        assert_eq!((detail["id"].to_string(), &detail["host"]["serviceName"]), (id, &json!("Shop")));
        let messages = world.ask("GET", &format!("{path}chat-messages/?limit=5"), &[auth]).await;
        assert_eq!(messages.json(), json!({"count": 0, "next": null, "previous": null, "results": []}));

        assert_eq!(world.ask("DELETE", &path, &[auth]).await.status, 204);
        assert_eq!(world.ask("GET", &path, &[auth]).await.json()["code"], 404);
    }

    pub(super) async fn a_list_links_to_its_next_page(world: World) {
        for _ in 0..3 {
            world.ask("POST", "/api/chat/", &world.keys()).await;
        }
        let bearer = world.bearer().await;
        let auth = ("authorization", bearer.as_str());
        let list = |query: &str| format!("/api/chat/chatrooms/{query}");
        let first = world.ask("GET", &list("?page_size=2&is_closed=False"), &[auth]).await.json();
        assert_eq!((&first["count"], first["results"].as_array().unwrap().len()), (&json!(3), 2));
        assert_eq!(first["next"], "https://chat.example/api/chat/chatrooms/?is_closed=false&page=2&page_size=2");
        assert_eq!(world.ask("GET", &list("?page=2"), &[auth]).await.json()["code"], 404);
        assert_eq!(world.ask("GET", &list("?search=nobody"), &[auth]).await.json()["count"], 0);
    }

    pub(super) async fn readiness_says_why_it_is_not(world: World) {
        let answer = world.ask("GET", "/health/ready", &[]).await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.json(), json!({"code": 503, "detail": "draining", "status": "not ready", "degraded": true}));
        assert_eq!(world.ask("HEAD", "/health/live/", &[("accept", "text/plain")]).await.status, 200);
    }

    pub(super) async fn metrics_are_for_direct_callers_on_this_machine(world: World) {
        assert_eq!(world.ask("GET", "/metrics", &[]).await.body, "pintalk_up 1\n");
        for header in ["x-forwarded-for", "forwarded", "x-real-ip"] {
            assert_eq!(world.ask("GET", "/metrics", &[(header, "127.0.0.1")]).await.json()["code"], 404);
        }
    }

    pub(super) async fn a_page_comes_with_a_policy_and_is_not_sent_twice(world: World) {
        let page = world.ask("GET", "/widget.js", &[]).await;
        assert_eq!(page.body, "// hello");
        assert_eq!(page.header("access-control-allow-origin"), Some("*"));
        assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'self';"));
        let mark = page.header("etag").unwrap();
        let again = world.ask("GET", "/widget.js", &[("if-none-match", mark)]).await;
        assert_eq!((again.status.as_u16(), again.body.as_str()), (304, ""));
        assert_eq!(world.ask("GET", "/console", &[]).await.status, 200);
        assert_eq!(world.ask("POST", "/console/", &[]).await.header("allow"), Some("GET, HEAD, OPTIONS"));
    }

    pub(super) async fn a_socket_is_handed_over_with_the_clients_address(world: World) {
        let forwarded = ("x-forwarded-for", "6.6.6.6, 1.2.3.4");
        let answer = world.ask("GET", "/ws/chat/a%2Db/?token=t", &[forwarded]).await;
        assert_eq!(answer.body, "/ws/chat/a-b?token=t 1.2.3.4");
        assert_eq!(world.ask("POST", "/ws/chat/x/", &[]).await.status, 405);
    }
}
