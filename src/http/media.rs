//! Serves profile images. They are public: everyone who has the URL can load the image (SPEC 2).

use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, ETAG};
use http::{HeaderName, HeaderValue, StatusCode};
use warp::reply::Response;

use crate::outbound::media::ImageKey;

use super::HttpContext;
use super::pages;
use super::reply::{self, ApiError};
use super::request::Request;

/// `Content-Security-Policy` of an image. If a browser opens the image as a page, the page loads nothing, runs no
/// script and has an opaque origin.
const POLICY: &str = "default-src 'none'; sandbox";

/// `Cache-Control` of an image. A file name always refers to the same image, so browsers need not revalidate it.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

pub(super) async fn show(app: &HttpContext, key: &str, asked: &Request) -> Result<Response, ApiError> {
    let key: ImageKey = key.parse().map_err(|_| ApiError::NotFound)?;
    app.limits.image(asked.client)?;
    let request = &asked.headers;
    let etag = format!("\"{key}\"");
    let mut response = if pages::is_known(&etag, request) {
        if !app.profiles.images().has(&key).await? {
            return Err(ApiError::NotFound);
        }
        reply::empty(StatusCode::NOT_MODIFIED)
    } else {
        let shown = app.profiles.images().show(&key).await?.ok_or(ApiError::NotFound)?;
        reply::text(StatusCode::OK, shown.image_type.content_type(), shown.bytes)
    };
    let headers = response.headers_mut();
    // A key in quotation marks is always a valid header value.
    if let Ok(etag) = HeaderValue::try_from(etag) {
        headers.insert(ETAG, etag);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(IMMUTABLE));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("inline"));
    // Pages of other sites contain the widget, which shows these images.
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin"));
    Ok(response)
}

#[cfg(test)]
mod tests;
