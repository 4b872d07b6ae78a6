//! Parses `multipart/form-data` bodies, which contain profile images of hosts and may contain other profile fields
//! (SPEC 2).

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use multer::{Constraints, Multipart, SizeLimit};
use serde_json::{Map, Value};

use super::reply::ApiError;
use super::request::{MAX_BODY, RATE_BYTES, RATE_SPAN, Request, UPLOAD_TIMEOUT};

/// Maximum size of an image, in bytes.
pub(super) const MAX_IMAGE: usize = 5 * 1024 * 1024;

/// Maximum size of a form in bytes: [`MAX_IMAGE`] for the image and [`MAX_BODY`] for the other fields.
const MAX_UPLOAD: usize = MAX_IMAGE + MAX_BODY;

/// Names under which the image field is accepted.
pub(super) const IMAGE_FIELDS: [&str; 2] = ["profileImage", "profile_image"];

/// Text fields that are accepted, with both spellings of their names. Other fields are ignored.
const TEXT_FIELDS: [(&str, &str); 5] = [
    ("serviceName", "service_name"),
    ("serviceExpl", "service_expl"),
    ("serviceDomain", "service_domain"),
    ("profileName", "profile_name"),
    ("description", "description"),
];

/// Parsed form.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// Uploaded image, which has not been validated. `None` keeps the current image; an empty value removes it.
    pub image: Option<Bytes>,
    /// Text fields, by name in camelCase.
    pub fields: Map<String, Value>,
}

/// Returns whether the `Content-Type` of a request is `multipart/form-data`.
pub(super) fn is_multipart(request: &Request) -> bool {
    let content_type = request.headers.get(CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"multipart/form-data")
}

/// Reads a form within the limits on size and time.
///
/// # Errors
/// Returns 400 if the form is malformed, 408 if it arrives too slowly, 413 if it is too large, and 415 if the body has
/// a content encoding.
pub(super) async fn read(request: &mut Request) -> Result<Form, ApiError> {
    if request.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(ApiError::UnsupportedMediaType);
    }
    let boundary = request.header(CONTENT_TYPE).and_then(|value| multer::parse_boundary(value).ok());
    let boundary = boundary.ok_or(ApiError::Malformed("The Content-Type of the request body has no boundary."))?;
    let length = request.header(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_UPLOAD as u64) {
        return Err(ApiError::TooLarge);
    }
    let limits = IMAGE_FIELDS
        .iter()
        .fold(SizeLimit::new().whole_stream(MAX_UPLOAD as u64).per_field(MAX_BODY as u64), |limits, name| {
            limits.for_field(*name, MAX_IMAGE as u64)
        });
    let read = Arc::new(AtomicUsize::new(0));
    let counted = read.clone();
    let chunks = request.body.chunks().inspect_ok(move |chunk| _ = counted.fetch_add(chunk.len(), Relaxed));
    let parts = Multipart::with_constraints(chunks, boundary, Constraints::new().size_limit(limits));
    tokio::select! {
        form = collect(parts) => form,
        () = tokio::time::sleep(UPLOAD_TIMEOUT) => Err(ApiError::TooSlow),
        () = stall(&read) => Err(ApiError::TooSlow),
    }
}

/// Completes when fewer than [`RATE_BYTES`] bytes arrive during one [`RATE_SPAN`].
async fn stall(read: &AtomicUsize) {
    let mut before = 0;
    loop {
        tokio::time::sleep(RATE_SPAN).await;
        let now = read.load(Relaxed);
        if now - before < RATE_BYTES {
            return;
        }
        before = now;
    }
}

async fn collect(mut parts: Multipart<'_>) -> Result<Form, ApiError> {
    let mut form = Form::default();
    while let Some(mut part) = parts.next_field().await? {
        let name = part.name().unwrap_or_default().to_owned();
        if IMAGE_FIELDS.contains(&name.as_str()) {
            let is_file = part.file_name().is_some();
            let image = part.bytes().await?;
            // Scripts that call `formData.append("profileImage", null)` send the string "null". It removes the image.
            form.image = Some(if !is_file && image == "null" { Bytes::new() } else { image });
        } else if let Some((known, _)) = TEXT_FIELDS.iter().find(|(camel, snake)| [camel, snake].contains(&&&*name)) {
            let text = String::from_utf8(part.bytes().await?.into());
            let text = text.map_err(|_| ApiError::field(known, "must be UTF-8 text"))?;
            // Scripts that call `formData.append("serviceName", null)` send the string "null". It is read as `null`.
            if text == "null" {
                form.fields.entry(*known).or_insert(Value::Null);
            } else {
                form.fields.insert((*known).to_owned(), Value::String(text));
            }
        } else {
            while part.chunk().await?.is_some() {}
        }
    }
    Ok(form)
}

impl From<multer::Error> for ApiError {
    fn from(error: multer::Error) -> Self {
        match error {
            multer::Error::FieldSizeExceeded { .. } | multer::Error::StreamSizeExceeded { .. } => Self::TooLarge,
            multer::Error::StreamReadFailed(_) => Self::Malformed("The request body is incomplete."),
            _ => Self::Malformed("The request body is not valid multipart/form-data."),
        }
    }
}

#[cfg(test)]
mod tests;
