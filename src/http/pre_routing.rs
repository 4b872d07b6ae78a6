//! Processing of requests before routing, and headers that all responses have in common.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use warp::reply::Response;

use super::cors::{self, Audience};
use super::prefix::Prefix;
use super::{HttpContext, HttpSettings, routes};
use crate::domain::url_path;

/// Header that determines which sites may load a response.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Removes the path of `public-url` from requests, and adds the common headers to error responses that are created
/// before routing. Without CORS headers, a web page could not read such a response. The default value changes neither
/// requests nor responses.
#[derive(Clone, Default)]
pub(super) struct PreRouting {
    app: Option<Arc<HttpContext>>,
    prefix: Option<Arc<Prefix>>,
}

impl PreRouting {
    pub(super) fn new(app: Arc<HttpContext>) -> Self {
        let prefix = Prefix::new(url_path(&app.settings.public_url), &app.pages).map(Arc::new);
        Self { app: Some(app), prefix }
    }

    /// Removes the path of `public-url`, so that routing handles only paths without it. Has no effect if a proxy has
    /// already removed the path.
    pub(super) fn strip_prefix<B>(&self, request: &mut Request<B>) {
        if let Some(prefix) = &self.prefix {
            prefix.strip(request);
        }
    }

    /// Adds the common headers to an error response to `request`.
    pub(super) fn add_common_headers<B>(&self, refusal: &mut Response, request: &Request<B>) {
        if let Some(app) = &self.app {
            let audience = routes::find(request.uri().path(), &app.pages).audience();
            add_common_headers(refusal, audience, request.headers(), &app.settings);
        }
    }
}

/// Adds the common headers to a response.
pub(super) fn add_common_headers(
    response: &mut Response,
    audience: Audience,
    request: &HeaderMap,
    settings: &HttpSettings,
) {
    cors::stamp(response, audience, request, &settings.admin_origins);
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Responses may contain keys and tokens, so they are not cached by default. Pages set their own `Cache-Control`.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if audience == Audience::Public {
        headers.entry(RESOURCE_POLICY).or_insert(HeaderValue::from_static("cross-origin"));
    }
}
