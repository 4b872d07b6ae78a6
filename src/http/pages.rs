//! Pages, scripts and other files that are embedded in the binary.

use std::borrow::Cow;
use std::io::Write as _;
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};
use warp::reply::Response;

use super::cors::Audience;
use super::reply;

/// Content type of pages.
pub const HTML: &str = "text/html; charset=utf-8";
/// Content type of style sheets.
pub const CSS: &str = "text/css; charset=utf-8";
/// Content type of scripts.
pub const SCRIPT: &str = "text/javascript; charset=utf-8";
/// Content type of JSON documents.
pub const JSON: &str = "application/json";
/// Content type of SVG images.
pub const SVG: &str = "image/svg+xml";

/// `Content-Security-Policy` of pages. A page can load only files of this server. Inline code, embedding in pages of
/// other sites, and the assignment of strings as HTML are forbidden. The trusted-types policy `pintalk` permits the
/// widget's loader to add a script.
const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; \
                      frame-ancestors 'self'; require-trusted-types-for 'script'; trusted-types pintalk";

/// `Cache-Control` of pages. Browsers cache a page but revalidate it on each use, so that a new release takes effect at
/// once.
const REVALIDATE: &str = "no-cache";

/// `Cache-Control` of files whose path contains a digest of their content. The content of such a path never changes.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// Size in bytes above which a page is compressed. A smaller page fits into one packet without compression.
const WORTH_COMPRESSING: usize = 1_000;

/// Page, script or other file embedded in the binary.
#[derive(Clone, Debug)]
pub struct Page {
    path: Cow<'static, str>,
    /// Path of the page as it appears in metrics.
    label: &'static str,
    content_type: &'static str,
    bytes: Bytes,
    cache: &'static str,
    /// Whether pages of other origins may load and read the file.
    is_cross_origin: bool,
}

impl Page {
    /// Creates a page that browsers revalidate on each use.
    pub fn new(path: &'static str, content_type: &'static str, bytes: Bytes) -> Self {
        Self { path: path.into(), label: path, content_type, bytes, cache: REVALIDATE, is_cross_origin: true }
    }

    /// Creates a file that browsers cache without revalidation, because its path contains a digest of its content.
    /// `label` is its name in metrics.
    pub fn immutable(label: &'static str, path: String, content_type: &'static str, bytes: Bytes) -> Self {
        Self { path: path.into(), label, content_type, bytes, cache: IMMUTABLE, is_cross_origin: true }
    }

    /// Prevents pages of other origins from loading the file.
    pub fn same_origin_only(self) -> Self {
        Self { is_cross_origin: false, ..self }
    }

    #[cfg(test)]
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Returns a digest of `parts`, encoded for use in a path.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    use base64::Engine as _;
    let mut digest = Sha256::new();
    parts.into_iter().for_each(|part| digest.update(part));
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&digest.finalize()[..16])
}

/// Compresses bytes with gzip. Returns `None` if the compression fails.
pub fn gzip(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).ok()?;
    Some(encoder.finish().ok()?.into())
}

/// All pages and scripts that this server serves.
#[derive(Clone, Debug, Default)]
pub struct Pages(Vec<StampedPage>);

/// Page with the digest of its content.
#[derive(Clone, Debug)]
pub(super) struct StampedPage {
    page: Page,
    digest: String,
    /// Compressed content, which is computed on first use. `None` if the page is not compressed.
    gzipped: OnceLock<Option<Bytes>>,
}

impl Pages {
    /// Creates the collection from all pages of the server.
    pub fn new(pages: impl IntoIterator<Item = Page>) -> Self {
        Self(pages.into_iter().map(StampedPage::new).collect())
    }

    /// Returns the first path segment of each page.
    pub(super) fn first_segments(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|stamped| stamped.page.path.split('/').nth(1))
    }

    /// Returns the page at a path without leading and trailing slashes.
    pub(super) fn find(&self, path: &str) -> Option<&StampedPage> {
        self.0.iter().find(|stamped| stamped.page.path.trim_matches('/') == path)
    }
}

impl StampedPage {
    fn new(page: Page) -> Self {
        let digest = digest([&page.bytes[..]]);
        Self { page, digest, gzipped: OnceLock::new() }
    }

    pub(super) fn audience(&self) -> Audience {
        if self.page.is_cross_origin { Audience::Public } else { Audience::Operators }
    }

    pub(super) fn is_cross_origin(&self) -> bool {
        self.page.is_cross_origin
    }

    pub(super) fn label(&self) -> &'static str {
        self.page.label
    }

    /// Returns the page, or 304 if the caller has it in its cache.
    pub(super) fn show(&self, request: &HeaderMap) -> Response {
        let Page { content_type, bytes, cache, is_cross_origin, .. } = &self.page;
        let gzipped = self.gzipped().filter(|_| takes_gzip(request));
        // Compressed and uncompressed content must have different entity tags.
        let etag = format!("\"{}{}\"", self.digest, if gzipped.is_some() { "-gzip" } else { "" });
        let mut response = if is_known(&etag, request) {
            reply::empty(StatusCode::NOT_MODIFIED)
        } else {
            reply::text(StatusCode::OK, content_type, gzipped.unwrap_or(bytes).clone())
        };
        let is_gzip = gzipped.is_some() && response.status() == StatusCode::OK;
        let headers = response.headers_mut();
        if is_gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        // Base64 in quotation marks is always a valid header value.
        if let Ok(etag) = HeaderValue::try_from(etag) {
            headers.insert(ETAG, etag);
        }
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        // Pages of other sites load the script of the widget.
        let resource_policy = HeaderValue::from_static(if *is_cross_origin { "cross-origin" } else { "same-origin" });
        headers.insert(HeaderName::from_static("cross-origin-resource-policy"), resource_policy);
        response
    }

    fn gzipped(&self) -> Option<&Bytes> {
        let bytes = &self.page.bytes;
        let make = || gzip(bytes).filter(|gzipped| bytes.len() > WORTH_COMPRESSING && gzipped.len() < bytes.len());
        self.gzipped.get_or_init(make).as_ref()
    }
}

/// Returns whether the caller accepts gzip.
fn takes_gzip(request: &HeaderMap) -> bool {
    let mut codings =
        request.get_all(ACCEPT_ENCODING).iter().flat_map(|value| value.to_str().unwrap_or_default().split(','));
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().trim_start_matches("q=").parse::<f32>();
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_ok_and(|weight| weight > 0.0)
    })
}

/// Returns whether `If-None-Match` matches the entity tag `etag`.
pub(super) fn is_known(etag: &str, request: &HeaderMap) -> bool {
    request
        .get_all(IF_NONE_MATCH)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(|mark| mark.trim())
        .any(|mark| mark == "*" || mark.strip_prefix("W/").unwrap_or(mark) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(page: Page, headers: &[(HeaderName, &str)]) -> Response {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        Pages::new([page]).0[0].show(&headers)
    }

    #[test]
    fn gzip_response_has_a_separate_entity_tag() {
        let page = || Page::new("/x.js", SCRIPT, "let x;".repeat(1_000).into());
        let mark = |response: &Response| response.headers()[ETAG].to_str().unwrap().to_owned();
        let (plain, gzipped) = (shown(page(), &[]), shown(page(), &[(ACCEPT_ENCODING, "br, gzip;q=0.5")]));
        assert!(!plain.headers().contains_key(CONTENT_ENCODING) && gzipped.headers()[CONTENT_ENCODING] == "gzip");
        assert_ne!(mark(&plain), mark(&gzipped));
        let again = shown(page(), &[(ACCEPT_ENCODING, "gzip"), (IF_NONE_MATCH, &mark(&gzipped))]);
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert!(!again.headers().contains_key(CONTENT_ENCODING));
        assert!(!shown(page(), &[(ACCEPT_ENCODING, "gzip;q=0")]).headers().contains_key(CONTENT_ENCODING));
        let small = Page::new("/x.js", SCRIPT, Bytes::from_static(b"let x;"));
        assert!(!shown(small, &[(ACCEPT_ENCODING, "gzip")]).headers().contains_key(CONTENT_ENCODING));
    }

    #[test]
    fn page_may_be_restricted_to_same_origin() {
        let page = || Page::new("/secret.json", JSON, Bytes::from_static(b"{}"));
        assert_eq!(shown(page(), &[]).headers()["cross-origin-resource-policy"], "cross-origin");
        assert_eq!(shown(page().same_origin_only(), &[]).headers()["cross-origin-resource-policy"], "same-origin");
        assert_eq!(Pages::new([page().same_origin_only()]).0[0].audience(), Audience::Operators);
    }

    #[test]
    fn only_paths_with_a_digest_are_cached_without_revalidation() {
        let kept = Page::immutable("/assets/", "/assets/abc/x.js".into(), SCRIPT, Bytes::new());
        assert_eq!(shown(kept, &[]).headers()[CACHE_CONTROL], IMMUTABLE);
        assert_eq!(shown(Page::new("/x.js", SCRIPT, Bytes::new()), &[]).headers()[CACHE_CONTROL], "no-cache");
    }
}
