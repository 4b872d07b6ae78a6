//! Processing before routing, and headers common to all responses.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use warp::reply::Response;

use super::cors::{self, Audience};
use super::prefix::Prefix;
use super::{HttpContext, HttpSettings, routes};
use crate::domain::url_path;

/// Header that determines which sites may embed a response.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Removes the path of `public-url` from requests, and adds the common headers to responses that are created before
/// routing. Without CORS headers, a web page cannot read an error response. The default value leaves requests and
/// responses unchanged.
#[derive(Clone, Default)]
pub(super) struct PreRouting {
    app: Option<Arc<HttpContext>>,
    prefix: Option<Arc<Prefix>>,
}

impl PreRouting {
    /// Creates the pre-routing of a server.
    pub(super) fn new(app: Arc<HttpContext>) -> Self {
        let prefix = Prefix::new(url_path(&app.settings.public_url), &app.pages).map(Arc::new);
        Self { app: Some(app), prefix }
    }

    /// Removes the path of `public-url`, so that routing handles only paths without it. A proxy may already have
    /// removed the path.
    pub(super) fn strip_prefix<B>(&self, request: &mut Request<B>) {
        if let Some(prefix) = &self.prefix {
            prefix.strip(request);
        }
    }

    /// Adds the common headers to an error response.
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
    // Responses may contain keys and tokens. Pages set their own cache lifetime.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if audience == Audience::Public {
        headers.entry(RESOURCE_POLICY).or_insert(HeaderValue::from_static("cross-origin"));
    }
}
