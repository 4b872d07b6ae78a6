//! A request as handlers see it: parameters decoded, body read within bounds.

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

/// The largest body of a call, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// How long a body may take: as long as a head.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a body with an image may take: 5 MiB over 2 Mbit/s. What is left of a call's 30 s is for decoder and stores.
pub(super) const UPLOAD_TIMEOUT: Duration = Duration::from_secs(20);

/// What a body with an image must bring in each [`RATE_SPAN`], in bytes, until it ends: one that stalls takes the room of others.
pub(super) const RATE_BYTES: usize = 32 * 1024;
pub(super) const RATE_SPAN: Duration = Duration::from_secs(5);

/// How much of an unwanted body is still read, so that its sender gets to see the answer, and for how long: what a camera
/// makes, which is too large for a profile.
const DRAIN: usize = 8 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The body's chunks; an error means that the peer broke off.
pub(super) type BodyStream = Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send + Sync>>;

/// One request.
pub(super) struct Request {
    pub method: Method,
    /// As it came, percent-encoded.
    pub path: String,
    /// As it came, without the question mark.
    pub query: String,
    pub headers: HeaderMap,
    /// Who holds the other end of the socket; `None` only in tests.
    pub peer: Option<IpAddr>,
    /// The client, as far as trusted proxies tell.
    pub client: IpAddr,
    /// For a socket.
    pub on_upgrade: Option<hyper::upgrade::OnUpgrade>,
    pub body: Body,
}

impl Request {
    /// A header that is there once and is text.
    pub(super) fn header(&self, name: impl Into<HeaderName>) -> Option<&str> {
        self.headers.get(name.into())?.to_str().ok()
    }

    /// The first non-empty parameter of one of these names, decoded.
    pub(super) fn parameter(&self, names: &[&str]) -> Option<String> {
        url::form_urlencoded::parse(self.query.as_bytes())
            .find(|(name, value)| names.contains(&name.as_ref()) && !value.is_empty())
            .map(|(_, value)| value.into_owned())
    }

    /// The body as a JSON object. No body at all is an empty object.
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

    /// Reads what is left of the body, up to a bound: an answer followed by a reset would be lost.
    pub(super) async fn drain(&mut self) {
        // Who waits for "100 Continue" sends nothing, and reading would ask him to.
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
    // serde_json gives up at 128 levels, so a tower of brackets is an error like any other.
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(body)) => Ok(body),
        Ok(_) => Err(ApiError::Malformed("The body must be a JSON object.")),
        Err(_) => Err(ApiError::Malformed("The body is not valid JSON in UTF-8.")),
    }
}

/// What is still to be read of a request.
pub(super) struct Body(Option<BodyStream>);

impl Body {
    pub(super) fn new<B: Buf>(stream: impl Stream<Item = Result<B, warp::Error>> + Send + Sync + 'static) -> Self {
        Self(Some(Box::pin(stream.map(|chunk| chunk.map(|mut chunk| chunk.copy_to_bytes(chunk.remaining()))))))
    }

    async fn read(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        let reading = async {
            let mut all = BytesMut::new();
            while let Some(chunk) = self.next().await {
                let chunk = chunk.map_err(|_| ApiError::Malformed("The body broke off."))?;
                if all.len() + chunk.len() > limit {
                    return Err(ApiError::TooLarge);
                }
                all.extend_from_slice(&chunk);
            }
            Ok(all.freeze())
        };
        tokio::time::timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(ApiError::TooSlow))
    }

    /// What comes, piece by piece; whoever reads it sees to the bounds.
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
        // A stream that has ended is not asked again.
        if !matches!(next, Some(Ok(_))) {
            self.0 = None;
        }
        next
    }
}

/// The segments of a path, decoded, without the slash at its end. `None` when it is no path of ours: an empty segment
/// (`//`), broken encoding, or a slash or NUL hidden in a segment.
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

/// Undoes percent-encoding; `None` when a `%` has no two digits or the bytes are not UTF-8.
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
    fn a_path_is_the_same_with_and_without_its_last_slash() {
        assert_eq!(segments("/api/chat/"), segments("/api/chat"));
        assert_eq!(segments("/").unwrap().len(), 0);
    }

    #[test]
    fn segments_are_decoded_and_nothing_can_hide_in_them() {
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
