//! Request as passed to the handlers, with access to decoded parameters and a bounded body.

use std::borrow::Cow;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http::{HeaderMap, HeaderName, Method};
use serde_json::{Map, Value};

use super::reply::ApiError;

/// Maximum size of a body, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// Timeout for a request body, equal to the timeout for a request head.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout for a body with an image: the time that 5 MiB take at about 2 Mbit/s. It leaves 10 s of the maximum duration
/// of a call for decoding the image and for store calls.
pub(super) const UPLOAD_TIMEOUT: Duration = Duration::from_secs(20);

/// Minimum number of bytes of an image upload that must arrive in each [`RATE_SPAN`], so that stalled uploads do not
/// occupy memory.
pub(super) const RATE_BYTES: usize = 32 * 1024;
pub(super) const RATE_SPAN: Duration = Duration::from_secs(5);

/// Maximum number of bytes and maximum time for reading the rest of a rejected body. The body is read so that the
/// client receives the response. The number of bytes is sufficient for a photograph that is too large for a profile
/// image.
const DRAIN: usize = 8 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Chunks of a body. An error means that the peer aborted the request.
pub(super) type BodyStream = Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send + Sync>>;

/// HTTP request as passed to the handlers.
pub(super) struct Request {
    pub method: Method,
    /// Raw path, percent-encoded.
    pub path: String,
    /// Raw query, without the question mark.
    pub query: String,
    pub headers: HeaderMap,
    /// Peer of the connection; `None` only in tests.
    pub peer: Option<IpAddr>,
    /// Address of the client: the peer, or the address that trusted proxies report in `X-Forwarded-For`.
    pub client: IpAddr,
    /// Pending upgrade of the connection; `None` if the request is not an upgrade.
    pub on_upgrade: Option<hyper::upgrade::OnUpgrade>,
    pub body: Body,
}

impl Request {
    /// Returns the first value of a header; `None` if the header is absent or if this value contains characters other
    /// than visible ASCII.
    pub(super) fn header(&self, name: impl Into<HeaderName>) -> Option<&str> {
        self.headers.get(name.into())?.to_str().ok()
    }

    /// Returns the first non-empty query parameter with one of these names, decoded.
    pub(super) fn parameter(&self, names: &[&str]) -> Option<String> {
        url::form_urlencoded::parse(self.query.as_bytes())
            .find(|(name, value)| names.contains(&name.as_ref()) && !value.is_empty())
            .map(|(_, value)| value.into_owned())
    }

    /// Reads the body as a JSON object. An absent body is treated as an empty object.
    pub(super) async fn json(&mut self) -> Result<Map<String, Value>, ApiError> {
        let declared = self.headers.get(CONTENT_TYPE).map(|value| is_json(value.as_bytes()));
        let encoded = self.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
        if declared == Some(false) || encoded {
            return Err(ApiError::UnsupportedMediaType);
        }
        let length = self.header(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length > MAX_BODY as u64) {
            return Err(ApiError::TooLarge);
        }
        let bytes = self.body.read(MAX_BODY).await?;
        match declared {
            _ if bytes.is_empty() => Ok(Map::new()),
            Some(true) => parse(&bytes),
            _ => Err(ApiError::UnsupportedMediaType),
        }
    }

    /// Reads and discards the rest of the body up to a limit. If data remained unread, the kernel would reset the
    /// connection and the client would not receive the response.
    pub(super) async fn drain(&mut self) {
        // A client that expects `100 Continue` has not sent the body yet. A read would make hyper request the body.
        if !self.headers.contains_key(EXPECT) {
            let _ = tokio::time::timeout(DRAIN_TIMEOUT, self.body.discard(DRAIN)).await;
        }
    }
}

fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

fn parse(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    // The depth needs no check, because serde_json returns an error if the nesting is deeper than 128 levels.
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(body)) => Ok(body),
        Ok(_) => Err(ApiError::Malformed("The request body must be a JSON object.")),
        Err(_) => Err(ApiError::Malformed("The request body is not valid JSON in UTF-8.")),
    }
}

/// Unread part of a request's body.
pub(super) struct Body(Option<BodyStream>);

impl Body {
    pub(super) fn new<B: Buf>(stream: impl Stream<Item = Result<B, warp::Error>> + Send + Sync + 'static) -> Self {
        Self(Some(Box::pin(stream.map(|chunk| chunk.map(|mut chunk| chunk.copy_to_bytes(chunk.remaining()))))))
    }

    async fn read(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        let reading = async {
            let mut all = BytesMut::new();
            while let Some(chunk) = self.next().await {
                let chunk = chunk.map_err(|_| ApiError::Malformed("The request body is incomplete."))?;
                if all.len() + chunk.len() > limit {
                    return Err(ApiError::TooLarge);
                }
                all.extend_from_slice(&chunk);
            }
            Ok(all.freeze())
        };
        tokio::time::timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(ApiError::TooSlow))
    }

    /// Returns the chunks of the body. The caller must limit their size and time.
    pub(super) fn chunks(&mut self) -> impl Stream<Item = Result<Bytes, warp::Error>> + Send + '_ {
        futures_util::stream::unfold(self, |body| async move { body.next().await.map(|chunk| (chunk, body)) })
    }

    async fn discard(&mut self, limit: usize) {
        let mut read = 0;
        while let Some(Ok(chunk)) = self.next().await {
            read += chunk.len();
            if read > limit {
                break;
            }
        }
    }

    async fn next(&mut self) -> Option<Result<Bytes, warp::Error>> {
        let next = self.0.as_mut()?.next().await;
        // A stream must not be polled after it has ended.
        if !matches!(next, Some(Ok(_))) {
            self.0 = None;
        }
        next
    }
}

/// Splits a path into decoded segments. Ignores a trailing slash. Returns `None` if the path contains an empty segment
/// (`//`), a malformed encoding, or an encoded slash or NUL.
pub(super) fn segments(path: &str) -> Option<Vec<Cow<'_, str>>> {
    let path = path.strip_prefix('/')?;
    if path.is_empty() {
        return Some(Vec::new());
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/')
        .map(|segment| decode(segment).filter(|text| !text.is_empty() && !text.contains(['/', '\0'])))
        .collect()
}

/// Decodes percent-encoding. Returns `None` if a `%` is not followed by two hexadecimal digits, or if the result is not
/// UTF-8.
pub(super) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_the_same_with_and_without_trailing_slash() {
        assert_eq!(segments("/api/chat/"), segments("/api/chat"));
        assert_eq!(segments("/").unwrap().len(), 0);
    }

    #[test]
    fn segments_are_decoded_once_and_contain_no_separator() {
        assert_eq!(segments("/a%2Db/%ED%95%9C").unwrap(), ["a-b", "한"]);
        for bad in ["//", "/a//b", "/a//", "/a%2Fb", "/a%", "/a%zz", "/%ff", "/a%00", "*", ""] {
            assert_eq!(segments(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_json_objects_are_bodies() {
        assert!(parse(br#" {"a": [1]} "#).is_ok());
        let deep = "[".repeat(60_000);
        let mut latin = br#"{"a": ""}"#.to_vec();
        latin[7] = 0xe9;
        for bad in [b"[1]".as_slice(), b"{", b"{} {}", b"\"x\"", deep.as_bytes(), &latin] {
            assert!(matches!(parse(bad), Err(ApiError::Malformed(_))));
        }
    }

    #[test]
    fn the_content_type_may_have_parameters() {
        assert!(is_json(b"application/json"));
        assert!(is_json(b"Application/JSON ; charset=utf-8"));
        assert!(!is_json(b"text/plain"));
        assert!(!is_json(b"application/json-patch+json"));
    }
}
