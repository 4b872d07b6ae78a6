use image::ImageFormat;
use serde_json::{Value, json};

use crate::domain::Control;
use crate::http::multipart::MAX_IMAGE;
use crate::http::testing::{FORM_TYPE, JSON, Part, SHOP, TestServer, form, on_a_server};
use crate::outbound::media::testing::{PLACE, bomb, contains, file, flag, png, telephone_jpeg};

const BASE: &str = "https://chat.example";

/// File name and content type that a browser claims. The server must not trust them.
const CLAIM: Option<(&str, &str)> = Some(("../../me.svg", "image/svg+xml"));

on_a_server! {
    an_uploaded_image_is_public_and_cached_as_immutable
    host_and_guests_receive_the_url_of_the_image
    location_metadata_is_removed_from_a_photograph
    claimed_name_and_type_of_a_file_are_ignored
    a_file_that_is_not_an_image_is_rejected_with_a_reason_and_not_stored
    an_image_of_more_than_five_mebibytes_is_rejected
    an_empty_image_or_null_removes_the_image
    a_patch_without_an_image_keeps_the_image
    only_the_host_can_upload_their_image
    a_body_of_another_type_is_415_and_a_form_without_form_400
    an_unknown_image_name_is_404
}

/// Uploads an image and returns the path under which it is served.
async fn upload(server: &TestServer, bytes: &[u8]) -> String {
    let answer = server.patch_form(&[("profile_image", CLAIM, bytes)]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let url = answer.json()["profileImage"].as_str().unwrap().to_owned();
    url.strip_prefix(BASE).unwrap().to_owned()
}

mod sentences {
    use super::*;

    pub(super) async fn an_uploaded_image_is_public_and_cached_as_immutable(server: TestServer) {
        let path = upload(&server, &png(600, 300)).await;
        let shown = server.ask("GET", &path, &[("accept", "image/*"), ("origin", "https://any.example")]).await;
        for (name, value) in [
            ("content-type", "image/png"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "default-src 'none'; sandbox"),
            ("content-disposition", "inline"),
            ("cache-control", "public, max-age=31536000, immutable"),
            ("access-control-allow-origin", "*"),
            ("cross-origin-resource-policy", "cross-origin"),
        ] {
            assert_eq!(shown.header(name), Some(value));
        }
        let image = image::load_from_memory_with_format(&shown.bytes, ImageFormat::Png).unwrap();
        assert_eq!((image.width(), image.height()), (512, 256));

        let etag = shown.header("etag").unwrap();
        let again = server.ask("GET", &path, &[("if-none-match", etag)]).await;
        assert_eq!((again.status.as_u16(), again.bytes.len(), again.header("etag")), (304, 0, Some(etag)));
        assert_eq!(again.header("cache-control"), shown.header("cache-control"));
        assert_eq!(server.ask("GET", &path, &[("if-none-match", "\"x\"")]).await.status, 200);
        assert_eq!(server.ask("HEAD", &format!("{path}/"), &[]).await.status, 200);
        assert_eq!(server.ask("DELETE", &path, &[]).await.header("allow"), Some("GET, HEAD, OPTIONS"));

        // A new image has a new name, and requests for the old name return 404.
        assert_ne!(upload(&server, &png(600, 300)).await, path);
        for headers in [vec![], vec![("if-none-match", etag)]] {
            assert_eq!(server.ask("GET", &path, &headers).await.json()["code"], 404);
        }
        assert_eq!(server.kept_images().len(), 1);
    }

    pub(super) async fn host_and_guests_receive_the_url_of_the_image(server: TestServer) {
        let [access, secret] = server.keys();
        let keys = [access, secret, ("origin", SHOP)];
        assert_eq!(server.ask("GET", "/api/users/client/", &keys).await.json()["profileImage"], Value::Null);
        let url = format!("{BASE}{}", upload(&server, &png(10, 10)).await);
        let published = server.published.lock().unwrap().clone();
        assert_eq!(published, [Control::ConfigChanged { host: server.host.id }]);

        let client = server.ask("GET", "/api/users/client/", &keys).await.json();
        let room = server.ask("POST", "/api/chat/", &keys).await.json();
        let bearer = server.bearer().await;
        let auth = [("authorization", bearer.as_str())];
        let user = server.ask("GET", &format!("/api/users/{}/", server.host.id.0), &auth).await.json();
        let listed = server.ask("GET", "/api/chat/chatrooms/", &auth).await.json();
        let detail =
            server.ask("GET", &format!("/api/chat/chatrooms/{}/", listed["results"][0]["id"]), &auth).await.json();
        let login = json!({"email": "dev@shop.example", "password": "pass word"}).to_string();
        let login = server.send("POST", "/api/auth/login/", &[JSON], login).await.json();
        for shown in [&client, &user, &login, &room["host"], &detail["host"]] {
            assert_eq!(shown["profileImage"], url.as_str());
        }
    }

    pub(super) async fn location_metadata_is_removed_from_a_photograph(server: TestServer) {
        let path = upload(&server, &telephone_jpeg(&flag(200, 100), 6)).await;
        let shown = server.ask("GET", &path, &[]).await;
        assert_eq!(shown.header("content-type"), Some("image/jpeg"));
        assert!(!contains(&shown.bytes, PLACE) && !contains(&shown.bytes, b"Exif"));
        let image = image::load_from_memory_with_format(&shown.bytes, ImageFormat::Jpeg).unwrap();
        assert_eq!((image.width(), image.height()), (100, 200));
    }

    pub(super) async fn claimed_name_and_type_of_a_file_are_ignored(server: TestServer) {
        for (format, shown_as) in [
            (ImageFormat::Png, "image/png"),
            (ImageFormat::Jpeg, "image/jpeg"),
            (ImageFormat::WebP, "image/jpeg"),
            (ImageFormat::Gif, "image/png"),
        ] {
            for claim in [("x.html", "text/html"), ("x.png", "image/png"), ("x.jpg", "image/jpeg"), ("", "x")] {
                let answer = server.patch_form(&[("profileImage", Some(claim), &file(&flag(8, 8), format))]).await;
                let path = answer.json()["profileImage"].as_str().unwrap().replace(BASE, "");
                assert_eq!(server.ask("GET", &path, &[]).await.header("content-type"), Some(shown_as));
            }
        }
    }

    pub(super) async fn a_file_that_is_not_an_image_is_rejected_with_a_reason_and_not_stored(server: TestServer) {
        let half = &png(300, 300)[..400];
        let bomb = bomb(50_000, 50_000, 8);
        for (bytes, why) in [
            (b"<svg onload='alert(1)'/>".as_slice(), "is not a PNG, JPEG, WebP or GIF"),
            (half, "is damaged"),
            (&bomb, "has too many pixels: at most 4096 x 4096 are possible"),
        ] {
            let answer = server.patch_form(&[("profileImage", Some(("me.png", "image/png")), bytes)]).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["fields"]["profileImage"]), (400, &json!(why)));
        }
        assert_eq!((server.kept_images().len(), server.published.lock().unwrap().len()), (0, 0));
    }

    pub(super) async fn an_image_of_more_than_five_mebibytes_is_rejected(server: TestServer) {
        let mut large = png(40, 40);
        large.resize(MAX_IMAGE, 0);
        upload(&server, &large).await;
        large.push(0);
        let answer = server.patch_form(&[("profileImage", CLAIM, &large)]).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (413, &json!(413)));
        large.resize(2 * MAX_IMAGE, 0);
        assert_eq!(server.patch_form(&[("other", CLAIM, &large)]).await.status, 413);
        // The larger limit does not apply to JSON bodies or to other form fields.
        let bearer = server.bearer().await;
        let path = format!("/api/users/{}/", server.host.id.0);
        let json = format!(r#"{{"description": "{}"}}"#, "x".repeat(70_000));
        assert_eq!(server.send("PATCH", &path, &[JSON, ("authorization", &bearer)], json).await.status, 413);
        assert_eq!(server.patch_form(&[("description", None, &[b'x'; 70_000])]).await.status, 413);
        assert_eq!(server.kept_images().len(), 1);
    }

    pub(super) async fn an_empty_image_or_null_removes_the_image(server: TestServer) {
        let bearer = server.bearer().await;
        let path = format!("/api/users/{}/", server.host.id.0);
        let empty: [Part<'_>; 3] = [
            ("profileImage", Some(("", "application/octet-stream")), b""),
            ("profile_image", None, b""),
            ("profileImage", None, b"null"),
        ];
        for part in empty {
            upload(&server, &png(10, 10)).await;
            assert_eq!(server.patch_form(&[part]).await.json()["profileImage"], Value::Null);
            assert_eq!(server.kept_images().len(), 0);
        }
        for body in [r#"{"profileImage": null}"#, r#"{"profile_image": null}"#] {
            upload(&server, &png(10, 10)).await;
            let answer = server.send("PATCH", &path, &[JSON, ("authorization", &bearer)], body).await;
            assert_eq!(answer.json()["profileImage"], Value::Null);
            assert_eq!(server.kept_images().len(), 0);
        }
    }

    pub(super) async fn a_patch_without_an_image_keeps_the_image(server: TestServer) {
        let image = upload(&server, &png(10, 10)).await;
        let bearer = server.bearer().await;
        let path = format!("/api/users/{}/", server.host.id.0);
        let answer = server.patch_form(&[("other", CLAIM, &png(20, 20))]).await;
        assert_eq!(answer.json()["profileImage"], format!("{BASE}{image}"));
        // Some pages send the received image URL back without changing the image.
        let body = json!({"profileImage": format!("{BASE}{image}")}).to_string();
        let answer = server.send("PATCH", &path, &[JSON, ("authorization", &bearer)], body).await;
        assert_eq!(answer.json()["profileImage"], format!("{BASE}{image}"));
    }

    pub(super) async fn only_the_host_can_upload_their_image(server: TestServer) {
        let bearer = server.bearer().await;
        let body = form(&[("profileImage", CLAIM, &png(10, 10))]);
        let kind = ("content-type", FORM_TYPE);
        let mine = format!("/api/users/{}/", server.host.id.0);
        let other = format!("/api/users/{}/", server.host.id.0 + 1);
        assert_eq!(server.send("PATCH", &mine, &[kind], &body).await.status, 401);
        assert_eq!(server.send("PATCH", &other, &[kind, ("authorization", &bearer)], &body).await.status, 403);
        assert_eq!(server.kept_images().len(), 0);
    }

    pub(super) async fn a_body_of_another_type_is_415_and_a_form_without_form_400(server: TestServer) {
        let bearer = server.bearer().await;
        let path = format!("/api/users/{}/", server.host.id.0);
        let whole = form(&[("profileImage", CLAIM, &png(10, 10))]);
        for (kind, body, status) in [
            ("image/png", png(10, 10), 415),
            ("application/x-www-form-urlencoded", b"profileImage=x".to_vec(), 415),
            ("multipart/mixed; boundary=x", whole.clone(), 415),
            ("multipart/form-data", whole.clone(), 400),
            ("multipart/form-data; boundary=other", whole.clone(), 400),
            (FORM_TYPE, whole[..whole.len() - 40].to_vec(), 400),
            (FORM_TYPE, Vec::new(), 400),
        ] {
            let headers = [("content-type", kind), ("authorization", bearer.as_str())];
            let answer = server.send("PATCH", &path, &headers, &body).await;
            assert_eq!(answer.json()["code"], status, "{kind} {}", body.len());
        }
        let packed = [("content-type", FORM_TYPE), ("content-encoding", "gzip"), ("authorization", &bearer)];
        assert_eq!(server.send("PATCH", &path, &packed, &whole).await.status, 415);
        assert_eq!(server.kept_images().len(), 0);
    }

    pub(super) async fn an_unknown_image_name_is_404(server: TestServer) {
        for path in [
            "/media",
            "/media/",
            "/media/d20aF0TvSdeWk-iPXf3l_Q.png",
            "/media/d20aF0TvSdeWk-iPXf3l_Q.svg",
            "/media/..%2f..%2fetc%2fpasswd",
            "/media/%2e%2e/",
            "/media/x/y",
            "/media/x%00.png",
        ] {
            let answer = server.ask("GET", path, &[]).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (404, &json!(404)), "{path}");
        }
    }
}
