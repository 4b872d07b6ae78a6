use futures_util::stream;
use http::{HeaderMap, Method};
use serde_json::json;

use super::*;
use crate::http::request::Body;
use crate::http::testing::{FORM_TYPE, Part, form};

/// Creates a request whose body arrives in pieces of `piece` bytes.
fn request(content_type: &'static str, body: &[u8], piece: usize) -> Request {
    let pieces: Vec<_> = body.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Request {
        method: Method::PATCH,
        path: String::new(),
        query: String::new(),
        headers: HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]),
        peer: None,
        client: "127.0.0.1".parse().unwrap(),
        on_upgrade: None,
        body: Body::new(stream::iter(pieces)),
    }
}

async fn read_parts(parts: &[Part<'_>]) -> Result<Form, ApiError> {
    read(&mut request(FORM_TYPE, &form(parts), 1000)).await
}

#[tokio::test]
async fn text_and_image_parts_are_distinguished_by_name_for_any_chunking() {
    let image = [b"\r\n------pintal".as_slice(), &[0, 255, 13, 10, 45, 45]].concat();
    let body = form(&[
        ("serviceName", None, "가게".as_bytes()),
        ("profile_name", None, b" Kim "),
        ("description", Some(("a.txt", "text/plain")), b""),
        ("profileImage", Some(("me.png", "image/png")), &image),
        ("password", None, b"ignored"),
    ]);
    for piece in [1, 2, 3, 7, 64, body.len()] {
        let form = read(&mut request(FORM_TYPE, &body, piece)).await.unwrap();
        assert_eq!(form.image.as_deref(), Some(&image[..]), "pieces of {piece}");
        let wanted = json!({"serviceName": "가게", "profileName": " Kim ", "description": ""});
        assert_eq!(Value::Object(form.fields), wanted);
    }
}

#[tokio::test]
async fn absent_image_differs_from_empty_image() {
    assert_eq!(read_parts(&[("description", None, b"x")]).await.unwrap().image, None);
    for (file, bytes, image) in [
        (Some(("", "application/octet-stream")), b"".as_slice(), b"".as_slice()),
        (None, b"null", b""),
        (Some(("me.png", "image/png")), b"null", b"null"),
    ] {
        let form = read_parts(&[("profile_image", file, bytes)]).await.unwrap();
        assert_eq!(form.image.as_deref(), Some(image));
    }
}

#[tokio::test]
async fn each_part_and_the_whole_body_are_bounded() {
    let (image, text) = (vec![0; MAX_IMAGE], vec![b'x'; MAX_BODY]);
    assert!(read_parts(&[("profileImage", None, &image)]).await.is_ok());
    assert!(read_parts(&[("description", None, &text)]).await.is_ok());
    for parts in [
        vec![("profileImage", None, image.as_slice()), ("description", None, text.as_slice())],
        vec![("profileImage", None, &image), ("profile_image", None, &image)],
        vec![("description", None, &image[..=MAX_BODY])],
        vec![("unknown", None, &image[..=MAX_BODY])],
    ] {
        assert!(matches!(read_parts(&parts).await, Err(ApiError::TooLarge)));
    }
}

#[tokio::test]
async fn body_with_too_large_a_length_is_rejected_unread() {
    let mut request = request(FORM_TYPE, b"", 1);
    request.headers.insert(CONTENT_LENGTH, (MAX_UPLOAD + 1).into());
    assert!(matches!(read(&mut request).await, Err(ApiError::TooLarge)));
}

#[tokio::test]
async fn invalid_text_is_reported_by_field() {
    let error = read_parts(&[("profile_name", None, b"\xff")]).await.unwrap_err();
    assert!(matches!(error, ApiError::Invalid(fields) if fields.contains_key("profileName")));
}

#[tokio::test]
async fn truncated_form_is_rejected() {
    let whole = form(&[("profileImage", None, b"image")]);
    for cut in [0, 10, 40, 80, whole.len() - 10] {
        let error = read(&mut request(FORM_TYPE, &whole[..cut], 16)).await.unwrap_err();
        assert!(matches!(error, ApiError::Malformed(_)), "{cut}: {error}");
    }
}

/// Reads a form that arrives at the given rate. Returns the result and the elapsed time.
async fn read_slowly(bytes_per_second: usize) -> (Result<Form, ApiError>, std::time::Duration) {
    let body = form(&[("profileImage", None, &vec![7; MAX_IMAGE])]);
    let pieces: Vec<_> = body.chunks(bytes_per_second.max(1)).map(Bytes::copy_from_slice).collect();
    let paced = stream::unfold(pieces.into_iter(), move |mut pieces| async move {
        let piece = if bytes_per_second == 0 { std::future::pending().await } else { pieces.next()? };
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        Some((Ok(piece), pieces))
    });
    let mut slow = request(FORM_TYPE, b"", 1);
    slow.body = Body::new(paced);
    let began = tokio::time::Instant::now();
    (read(&mut slow).await, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn stalled_or_slow_form_is_abandoned_early() {
    for rate in [0, 1, 1_000] {
        let (form, took) = read_slowly(rate).await;
        assert!(matches!(form, Err(ApiError::TooSlow)), "{rate}");
        assert!(took <= RATE_SPAN + RATE_SPAN / 10, "{rate}: {took:?}");
    }
    let (form, took) = read_slowly(50_000).await;
    assert!(matches!(form, Err(ApiError::TooSlow)) && took >= UPLOAD_TIMEOUT - RATE_SPAN / 10, "{took:?}");
    assert!(read_slowly(500_000).await.0.is_ok());
}
