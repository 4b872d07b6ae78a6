//! Tests profile images that are uploaded to one node and requested from another (SPEC 2).

use std::io::Cursor;

use image::{DynamicImage, ImageFormat};
use serde_json::Value;

use crate::support::{Node, Room, TestApp, eventually};
use crate::{on_both, with_topology};

on_both! {
    async fn image_uploaded_to_one_node_is_served_by_another(app) {
        image_of_one_node_on_another(app).await;
    }

    async fn new_image_is_shown_in_the_next_room(app) {
        let (a, b) = app.two();
        let host = app.host("host@shop.example").await;
        assert_eq!(Room::open(app, b, &host).await.body["host"]["profileImage"], Value::Null);
        let path = host.upload(a, &png(64)).await.expect("an image");
        // The other node returns the new image before its cached host expires, because the change was published.
        let shown = eventually("the other node knows", async || {
            let shown = Room::open(app, b, &host).await.body["host"]["profileImage"].as_str()?.to_owned();
            Some(shown)
        })
        .await;
        assert_eq!(shown, b.url(&path));
    }

    async fn image_that_is_too_large_is_rejected_and_the_connection_stays_open(app) {
        let (a, _) = app.two();
        let host = app.host("host@shop.example").await;
        let path = a.url(&format!("/api/users/{}/", host.account.id.0));
        let mut body = b"--x\r\nContent-Disposition: form-data; name=\"profileImage\"\r\n\r\n".to_vec();
        body.resize(7 * 1024 * 1024, b'x');
        let request = app.http.patch(&path).bearer_auth(&host.token).body(body);
        let answer = request.header("Content-Type", "multipart/form-data; boundary=x").send().await.expect("an answer");
        assert_eq!(answer.status(), 413);
        assert_eq!(answer.json::<Value>().await.expect("JSON")["code"], 413);
        assert!(host.upload(a, &png(64)).await.is_some());
    }
}

with_topology! {
    #[embedded]
    #[clusters]
    async fn images_may_be_stored_in_a_bucket(topology) {
        // `tests/run` serves an S3 bucket on this machine. The nodes read its address from the environment.
        let endpoint = std::env::var("AWS_ENDPOINT_URL").unwrap_or_default();
        assert!(endpoint.starts_with("http://127.0.0.1:"), "tests/run starts an S3");
        let app = TestApp::start_with(topology, &["--media-url", "s3://pintalk-tests/images/of hosts"]).await;
        image_of_one_node_on_another(&app).await;
        app.stop().await;
    }
}

async fn image_of_one_node_on_another(app: &TestApp) {
    let (a, b) = app.two();
    let host = app.host("host@shop.example").await;
    let path = host.upload(a, &png(900)).await.expect("an image");
    let answer = get(app, b, &path).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"image/png".parse().expect("a type"))
    );
    let length = answer.headers()["content-length"].clone();
    let bytes = answer.bytes().await.expect("a body");
    let shown = image::load_from_memory_with_format(&bytes, ImageFormat::Png).expect("a PNG");
    assert_eq!((shown.width(), shown.height()), (512, 512));
    let head = app.http.head(b.url(&path)).send().await.expect("an answer");
    assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &length));
    let again =
        app.http.get(b.url(&path)).header("If-None-Match", &head.headers()["etag"]).send().await.expect("an answer");
    assert_eq!(again.status(), 304);

    let next = host.upload(b, &png(30)).await.expect("an image");
    assert_eq!((get(app, a, &path).await.status().as_u16(), get(app, a, &next).await.status().as_u16()), (404, 200));
    assert_eq!(host.upload(a, b"").await, None);
    assert_eq!(get(app, b, &next).await.status(), 404);
}

async fn get(app: &TestApp, node: &Node, path: &str) -> reqwest::Response {
    app.http.get(node.url(path)).send().await.expect("an answer")
}

fn png(side: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::new_rgb8(side, side).write_to(&mut bytes, ImageFormat::Png).expect("a PNG");
    bytes.into_inner()
}
