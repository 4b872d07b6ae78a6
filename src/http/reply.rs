//! Creates responses: encodes JSON bodies, and maps errors to statuses and bodies.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use warp::reply::Response;

use crate::accounts::limits::TooMany;
use crate::accounts::profile_images::{NoUploadPlace, ProfileImageError};
use crate::accounts::{AuthError, CreateHostError, Fault, LoginError, PasswordChangeError, ProfileChangeError};
use crate::chat::rooms::RoomError;
use crate::outbound::webhooks::SetError;
use crate::protocol::api::{ErrorBody, FieldErrors};

/// `Retry-After` in seconds for an upload above the limit on concurrent uploads per host or address. It is the typical
/// duration of an upload.
const UPLOAD_RETRY_AFTER: u64 = 5;

/// Error response to a call. Each variant corresponds to an HTTP status of SPEC 1.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 400: the request cannot be parsed.
    #[error("{0}")]
    Malformed(&'static str),
    /// 400: the request was parsed, but some fields are invalid.
    #[error("Some fields are not valid.")]
    Invalid(FieldErrors),
    /// 401: the caller is not authenticated.
    #[error("{detail}")]
    Unauthorized {
        /// Authentication scheme in `WWW-Authenticate`.
        scheme: &'static str,
        /// Human-readable message.
        detail: &'static str,
    },
    /// 403: the caller may not send this request.
    #[error("{0}")]
    Forbidden(&'static str),
    /// 404: the requested object does not exist.
    #[error("Not found.")]
    NotFound,
    /// 405: the method is not allowed. The value lists the allowed methods.
    #[error("This method is not allowed for this path.")]
    MethodNotAllowed(String),
    /// 406: the caller does not accept JSON.
    #[error("The response is application/json; version=1, which `Accept` does not admit.")]
    NotAcceptable,
    /// 408: the body did not arrive in time.
    #[error("The request body did not arrive in time.")]
    TooSlow,
    /// 409: the request conflicts with the current state.
    #[error("{0}")]
    Conflict(&'static str),
    /// 413: the body is too large.
    #[error("The request body is too large.")]
    TooLarge,
    /// 415: the content type or the content encoding is not supported.
    #[error("The request body must be application/json, or multipart/form-data with an image.")]
    UnsupportedMediaType,
    /// 422: the request is not possible in the current state.
    #[error("{0}")]
    Unprocessable(&'static str),
    /// 429: the caller exceeded a limit.
    #[error("Too many requests: retry after the time in `Retry-After`.")]
    TooMany {
        /// Value of `Retry-After` in seconds, at least 1.
        retry_after: u64,
    },
    /// 500: an internal error occurred. Its cause is logged and never sent to the caller.
    #[error("Internal server error.")]
    Internal,
    /// 503: the server is temporarily unavailable.
    #[error("The server is temporarily unavailable: try again.")]
    Unavailable,
}

impl ApiError {
    /// Creates a 401 error for a host-side call.
    pub fn bearer(detail: &'static str) -> Self {
        Self::Unauthorized { scheme: "Bearer", detail }
    }

    /// Creates a 400 error for one field.
    pub fn field(name: &'static str, why: &str) -> Self {
        Self::Invalid(FieldErrors::from([(name, why.to_owned())]))
    }

    /// Returns the HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unprocessable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Converts the error to a response.
    pub fn into_response(self) -> Response {
        let none = FieldErrors::new();
        let fields = if let Self::Invalid(fields) = &self { fields } else { &none };
        let (status, detail) = (self.status(), self.to_string());
        let mut response = json(status, &ErrorBody { code: status.as_u16(), detail: &detail, fields });
        let headers = response.headers_mut();
        match self {
            Self::Unauthorized { scheme, .. } => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
            }
            Self::MethodNotAllowed(allow) => {
                if let Ok(allow) = HeaderValue::try_from(allow) {
                    headers.insert(ALLOW, allow);
                }
            }
            Self::TooMany { retry_after } => {
                headers.insert(RETRY_AFTER, retry_after.into());
            }
            Self::Unavailable => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

impl From<FieldErrors> for ApiError {
    fn from(fields: FieldErrors) -> Self {
        Self::Invalid(fields)
    }
}

impl From<TooMany> for ApiError {
    fn from(above: TooMany) -> Self {
        Self::TooMany { retry_after: above.seconds() }
    }
}

impl From<RoomError> for ApiError {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::NotFound => Self::NotFound,
            RoomError::NotYours => Self::Forbidden("This chatroom belongs to another account."),
            RoomError::TooManyPinned => Self::Unprocessable("At most 5 chatrooms can be pinned."),
            RoomError::Closed => Self::Unprocessable("This chatroom is closed."),
            RoomError::Unavailable(why) => Fault::Unavailable(why).into(),
        }
    }
}

impl From<SetError> for ApiError {
    fn from(error: SetError) -> Self {
        match error {
            SetError::Url(problem) => Self::field("url", &problem.to_string()),
            SetError::Store(error) => Fault::from(error).into(),
        }
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unavailable(why) => {
                tracing::warn!(error = why, "request failed: store unavailable");
                Self::Unavailable
            }
            Fault::Internal(why) => {
                tracing::error!(error = why, "request failed: internal error");
                Self::Internal
            }
        }
    }
}

impl From<ProfileImageError> for ApiError {
    fn from(error: ProfileImageError) -> Self {
        match error {
            ProfileImageError::Refused(why) => Self::field("profileImage", &why.to_string()),
            ProfileImageError::Fault(fault) => fault.into(),
        }
    }
}

impl From<ProfileChangeError> for ApiError {
    fn from(error: ProfileChangeError) -> Self {
        match error {
            ProfileChangeError::Invalid(fields) => fields.into(),
            ProfileChangeError::Fault(fault) => fault.into(),
        }
    }
}

impl From<NoUploadPlace> for ApiError {
    fn from(none: NoUploadPlace) -> Self {
        match none {
            NoUploadPlace::Own => Self::TooMany { retry_after: UPLOAD_RETRY_AFTER },
            NoUploadPlace::All => Self::Unavailable,
        }
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::WrongCredentials => Self::bearer("Wrong e-mail or password."),
            LoginError::Deactivated => Self::Conflict("This account is deactivated."),
            LoginError::Fault(fault) => fault.into(),
        }
    }
}

impl From<CreateHostError> for ApiError {
    fn from(error: CreateHostError) -> Self {
        match error {
            CreateHostError::Invalid(fields) => fields.into(),
            CreateHostError::EmailTaken => Self::Conflict("There is an account with this e-mail address."),
            CreateHostError::Fault(fault) => fault.into(),
        }
    }
}

impl From<PasswordChangeError> for ApiError {
    fn from(error: PasswordChangeError) -> Self {
        match error {
            PasswordChangeError::WrongPassword => Self::bearer("Wrong password."),
            PasswordChangeError::Invalid(fields) => fields.into(),
            PasswordChangeError::Fault(fault) => fault.into(),
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Invalid => Self::bearer("The token is not valid."),
            AuthError::Expired => Self::bearer("The token has expired."),
            AuthError::Ended => Self::bearer("This login has ended."),
            AuthError::Fault(fault) => fault.into(),
        }
    }
}

/// Content type of plain text.
pub(super) const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// Creates a JSON response.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => text(status, "application/json", bytes.into()),
        Err(error) => {
            tracing::error!(%error, "failed to encode response");
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// Creates a response with any content type.
pub fn text(status: StatusCode, content_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Creates a response without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = status;
    response
}
