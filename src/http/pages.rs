//! Pages and scripts that are part of the binary.

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

/// The type of a page.
pub const HTML: &str = "text/html; charset=utf-8";
/// The type of a style sheet.
pub const CSS: &str = "text/css; charset=utf-8";
/// The type of a script.
pub const SCRIPT: &str = "text/javascript; charset=utf-8";
/// The type of a document for machines.
pub const JSON: &str = "application/json";
/// The type of a drawing.
pub const SVG: &str = "image/svg+xml";

/// Files of this server only, nothing inline, no frames of other sites, and no text that becomes HTML. The widget's loader needs its policy
/// to add a script.
const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; \
                      frame-ancestors 'self'; require-trusted-types-for 'script'; trusted-types pintalk";

/// Kept, but asked for each time: a new release is seen at once.
const ASK_AGAIN: &str = "no-cache";

/// What bears the digest of its content in its path is never another.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// What is smaller goes into one packet as it is.
const WORTH_COMPRESSING: usize = 1_000;

/// A page, a script or another file that the server has in itself.
#[derive(Clone, Debug)]
pub struct Page {
    path: Cow<'static, str>,
    /// Its name in metrics.
    label: &'static str,
    content_type: &'static str,
    bytes: Bytes,
    cache: &'static str,
    /// Whether pages of other sites may load and read it.
    is_open: bool,
}

impl Page {
    /// A page that browsers ask for anew each time they show it.
    pub fn new(path: &'static str, content_type: &'static str, bytes: Bytes) -> Self {
        Self { path: path.into(), label: path, content_type, bytes, cache: ASK_AGAIN, is_open: true }
    }

    /// A file whose path names its content, so that browsers keep it for good. `label` is its name in metrics.
    pub fn immutable(label: &'static str, path: String, content_type: &'static str, bytes: Bytes) -> Self {
        Self { path: path.into(), label, content_type, bytes, cache: FOR_EVER, is_open: true }
    }

    /// For the pages of this server alone.
    pub fn kept_from_others(self) -> Self {
        Self { is_open: false, ..self }
    }

    /// Where it is.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What it is.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// A digest of content, as text that may stand in a path.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    use base64::Engine as _;
    let mut digest = Sha256::new();
    parts.into_iter().for_each(|part| digest.update(part));
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&digest.finalize()[..16])
}

/// Bytes as gzip.
pub fn gzip(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).ok()?;
    Some(encoder.finish().ok()?.into())
}

/// The pages of this server.
#[derive(Clone, Debug, Default)]
pub struct Pages(Vec<StampedPage>);

/// A page with its mark.
#[derive(Clone, Debug)]
pub(super) struct StampedPage {
    page: Page,
    digest: String,
    /// Made when somebody first asks for it.
    gzipped: OnceLock<Option<Bytes>>,
}

impl Pages {
    /// Of a list of pages.
    pub fn new(pages: impl IntoIterator<Item = Page>) -> Self {
        Self(pages.into_iter().map(StampedPage::new).collect())
    }

    /// The page of a path without its outer slashes.
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
        if self.page.is_open { Audience::Everybody } else { Audience::Operators }
    }

    pub(super) fn is_open(&self) -> bool {
        self.page.is_open
    }

    pub(super) fn label(&self) -> &'static str {
        self.page.label
    }

    /// The page, or 304 when the caller has it already.
    pub(super) fn show(&self, request: &HeaderMap) -> Response {
        let Page { content_type, bytes, cache, is_open, .. } = &self.page;
        let gzipped = self.gzipped().filter(|_| takes_gzip(request));
        // Other bytes need another mark.
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
        // base64 in quotes is always a header value.
        if let Ok(etag) = HeaderValue::try_from(etag) {
            headers.insert(ETAG, etag);
        }
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        // The widget's script is loaded by other sites.
        let whose = HeaderValue::from_static(if *is_open { "cross-origin" } else { "same-origin" });
        headers.insert(HeaderName::from_static("cross-origin-resource-policy"), whose);
        response
    }

    fn gzipped(&self) -> Option<&Bytes> {
        let bytes = &self.page.bytes;
        let make = || gzip(bytes).filter(|gzipped| bytes.len() > WORTH_COMPRESSING && gzipped.len() < bytes.len());
        self.gzipped.get_or_init(make).as_ref()
    }
}

/// Whether the caller reads gzip.
fn takes_gzip(request: &HeaderMap) -> bool {
    let mut codings =
        request.get_all(ACCEPT_ENCODING).iter().flat_map(|value| value.to_str().unwrap_or_default().split(','));
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().trim_start_matches("q=").parse::<f32>();
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_ok_and(|weight| weight > 0.0)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(page: Page, headers: &[(HeaderName, &str)]) -> Response {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        Pages::new([page]).0[0].show(&headers)
    }

    #[test]
    fn who_reads_gzip_gets_it_under_a_mark_of_its_own() {
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
    fn a_page_may_be_kept_from_other_sites() {
        let page = || Page::new("/secret.json", JSON, Bytes::from_static(b"{}"));
        assert_eq!(shown(page(), &[]).headers()["cross-origin-resource-policy"], "cross-origin");
        assert_eq!(shown(page().kept_from_others(), &[]).headers()["cross-origin-resource-policy"], "same-origin");
        assert_eq!(Pages::new([page().kept_from_others()]).0[0].audience(), Audience::Operators);
    }

    #[test]
    fn only_what_bears_its_digest_is_kept_without_asking() {
        let kept = Page::immutable("/assets/", "/assets/abc/x.js".into(), SCRIPT, Bytes::new());
        assert_eq!(shown(kept, &[]).headers()[CACHE_CONTROL], FOR_EVER);
        assert_eq!(shown(Page::new("/x.js", SCRIPT, Bytes::new()), &[]).headers()[CACHE_CONTROL], "no-cache");
    }
}
