//! Pages and scripts that are part of the binary.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, IF_NONE_MATCH, REFERRER_POLICY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};
use warp::reply::Response;

use super::reply;

/// Path, content type, bytes.
pub type Page = (&'static str, &'static str, Bytes);

/// Only what this server itself serves; nothing inline, and nobody else's frame.
const POLICY: &str =
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'";

/// The pages of this server.
#[derive(Clone, Debug, Default)]
pub struct Pages(Vec<StampedPage>);

/// A page with its mark.
#[derive(Clone, Debug)]
pub(super) struct StampedPage {
    page: Page,
    etag: HeaderValue,
}

impl Pages {
    /// Of a list of pages.
    pub fn new(pages: impl IntoIterator<Item = Page>) -> Self {
        Self(pages.into_iter().filter_map(StampedPage::new).collect())
    }

    /// The page of a path without its outer slashes.
    pub(super) fn find(&self, path: &str) -> Option<&StampedPage> {
        self.0.iter().find(|stamped| stamped.page.0.trim_matches('/') == path)
    }
}

impl StampedPage {
    fn new(page: Page) -> Option<Self> {
        use base64::Engine as _;
        let digest = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&Sha256::digest(&page.2)[..16]);
        // base64 in quotes is always a header value.
        let etag = HeaderValue::try_from(format!("\"{digest}\"")).ok()?;
        Some(Self { page, etag })
    }

    pub(super) fn path(&self) -> &'static str {
        self.page.0
    }

    /// The page, or 304 when the caller has it already.
    pub(super) fn show(&self, request: &HeaderMap) -> Response {
        let (_, content_type, bytes) = &self.page;
        let mut response = if is_known(self.etag.to_str().unwrap_or_default(), request) {
            reply::empty(StatusCode::NOT_MODIFIED)
        } else {
            reply::text(StatusCode::OK, content_type, bytes.clone())
        };
        let headers = response.headers_mut();
        headers.insert(ETAG, self.etag.clone());
        // Kept, but asked for each time: a new release is seen at once.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        // The widget's script is loaded by other sites.
        headers
            .insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin"));
        response
    }
}

/// Whether the caller has what bears this mark.
pub(super) fn is_known(etag: &str, request: &HeaderMap) -> bool {
    request
        .get_all(IF_NONE_MATCH)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(|mark| mark.trim())
        .any(|mark| mark == "*" || mark.strip_prefix("W/").unwrap_or(mark) == etag)
}
