//! HTTP layer, which receives all API calls, page requests and WebSocket handshakes.
//!
//! One warp filter extracts the parts of a request. [`routes`] maps the path to an API call, a page or a socket.
//! [`answer`] runs the handler and completes the response. The filter never rejects a request: [`answer`] also handles
//! unknown paths.
//!
//! **Invariant:** every API response, including errors, is JSON and has CORS headers. No metric label, log event or
//! error contains a raw path, a query or a token.

mod auth;
mod authority;
mod callers;
mod chat;
mod contact;
mod cookie;
mod cors;
mod docs;
mod download;
mod keys;
mod media;
pub(crate) mod metrics;
mod multipart;
mod negotiate;
mod operation;
mod pages;
mod paging;
mod peer;
mod pre_routing;
mod prefix;
mod reply;
mod request;
mod routes;
mod server;
mod sign_up;
mod sockets;
mod users;
mod webhook;

use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use http::{HeaderMap, Method};
use hyper::upgrade::OnUpgrade;
use tracing::Instrument as _;
use warp::filters::path::FullPath;
use warp::reply::Response;
use warp::{Filter, Rejection};

use crate::accounts::limits::Limits;
use crate::accounts::metrics::LoginMetrics;
use crate::accounts::{Accounts, Profiles, RecoveryKind};
use crate::chat::rooms::Rooms;
use crate::outbound::contacts::Contacts;
use crate::outbound::webhooks::Webhooks;

use cors::Audience;
use metrics::{CallLabels, HttpMetrics};
use request::{Body, Request};
use routes::{Call, PathParams, Target, Verb};

pub use cookie::REFRESH_COOKIE;
pub use docs::docs;
pub use operation::{Health, Readiness};
pub use pages::{CSS, HTML, JSON, Page, Pages, SCRIPT, SVG, digest, gzip};
pub use peer::{IsTrustedProxy, Peer};
pub use reply::{ApiError, empty, json, text};
pub use request::MAX_BODY;
pub use server::{ListenerSettings, Slots, raise_descriptor_limit, serve, serve_metrics};
pub(crate) use server::{PeerStream, Slot, SlotClass};
pub use sockets::{UpgradeRequest, Upgrades};

/// Maximum time to handle a request. Store operations time out much earlier, so a request that exceeds this limit was
/// delayed by something else.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Services and settings that the handlers use.
pub struct HttpContext {
    /// Logins and access tokens.
    pub accounts: Accounts,
    /// Profiles and profile images of hosts.
    pub profiles: Profiles,
    /// Operations on chatrooms.
    pub rooms: Rooms,
    /// E-mail addresses and consent of guests.
    pub contacts: Contacts,
    /// Webhooks of hosts.
    pub webhooks: Webhooks,
    /// Rate limits for requests.
    pub limits: Arc<Limits>,
    /// Readiness of this node.
    pub health: Arc<dyn Health>,
    /// Renders the metrics in Prometheus text format.
    pub metrics: RenderMetrics,
    /// Metrics of HTTP requests.
    pub(crate) http_metrics: HttpMetrics,
    /// Metrics of logins.
    pub(crate) login_metrics: LoginMetrics,
    /// Handler of requests under `/ws/`.
    pub upgrades: Arc<dyn Upgrades>,
    /// Embedded pages and scripts.
    pub pages: Pages,
    /// Configuration of the HTTP layer.
    pub settings: HttpSettings,
}

/// Function that renders the metrics in Prometheus text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Configuration of the HTTP layer.
#[derive(Clone)]
pub struct HttpSettings {
    /// Public URL of the API, without a trailing slash. Links in responses start with it. Requests are accepted with
    /// and without the path of this URL.
    pub public_url: String,
    /// Origins of admin pages. CORS permits host-side requests with credentials from these origins.
    pub admin_origins: Vec<String>,
    /// `Domain` attribute of the refresh cookie.
    pub cookie_domain: Option<String>,
    /// Decides for which peers `X-Forwarded-For` is trusted.
    pub is_trusted_proxy: IsTrustedProxy,
    /// Whether visitors may create host accounts.
    pub is_sign_up_open: bool,
    /// Whether the main port serves `/metrics` to direct clients on the loopback interface. Set if the metrics have no
    /// separate port.
    pub metrics_here: bool,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            public_url: String::new(),
            admin_origins: Vec::new(),
            cookie_domain: None,
            is_trusted_proxy: Arc::new(|_| false),
            is_sign_up_open: true,
            metrics_here: true,
        }
    }
}

/// Returns the filter that serves all requests.
pub(crate) fn filter(app: Arc<HttpContext>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<Peer>())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::body::stream())
        .then(move |method: Method, path: FullPath, query: String, headers: HeaderMap, peer, on_upgrade, body| {
            let peer = Option::map(peer, |Peer(address)| address.ip());
            let known = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            let request = Request {
                client: peer::client(known, &headers, &app.settings.is_trusted_proxy),
                method,
                path: path.as_str().to_owned(),
                query,
                headers,
                peer,
                on_upgrade,
                body: Body::new(body),
            };
            answer(app.clone(), request)
        })
}

/// Handles one request. Converts errors, panics and timeouts to responses.
async fn answer(app: Arc<HttpContext>, mut request: Request) -> Response {
    let started = Instant::now();
    let path = std::mem::take(&mut request.path);
    let target = routes::find(&path, &app.pages);
    let (route, audience) = (target.label(), target.audience());
    let is_socket = matches!(target, Target::Socket(_));

    // The log events of the handler belong to a span with the route and the method.
    let call = tracing::error_span!("call", route, method = routes::method_label(&request.method));
    let work = AssertUnwindSafe(perform(&app, target, &mut request)).catch_unwind().instrument(call);
    let mut response = match tokio::time::timeout(CALL_TIMEOUT, work).await {
        Ok(Ok(Ok(response))) => response,
        Ok(Ok(Err(error))) => error.into_response(),
        Ok(Err(_)) => {
            tracing::error!(route, "request handler panicked");
            ApiError::Internal.into_response()
        }
        Err(_) => {
            tracing::error!(route, "request timed out");
            ApiError::Unavailable.into_response()
        }
    };
    if !is_socket {
        request.drain().await;
    }
    pre_routing::add_common_headers(&mut response, audience, &request.headers, &app.settings);
    record(&app.http_metrics, route, &request.method, &response, started);
    response
}

/// Records the metrics of a response and logs it.
fn record(metrics: &HttpMetrics, route: &'static str, method: &Method, response: &Response, started: Instant) {
    let method = routes::method_label(method);
    let labels = CallLabels { route, method, status: response.status() };
    metrics.requests.find(labels).increment(1);
    metrics.duration.find(labels).record(started.elapsed().as_secs_f64());
    tracing::debug!(
        route,
        method,
        status = response.status().as_u16(),
        duration_ms = started.elapsed().as_millis() as u64,
        "request served"
    );
}

/// Answers an `OPTIONS` request, or validates a request and runs its handler. A request is valid if its path exists,
/// its method is allowed and, for an API call, the caller accepts the content type of the response.
async fn perform(app: &HttpContext, target: Target<'_>, request: &mut Request) -> Result<Response, ApiError> {
    if matches!(target, Target::Nothing(_)) {
        return Err(ApiError::NotFound);
    }
    let allow = target.allow();
    if request.method == Method::OPTIONS {
        return Ok(cors::preflight(&allow, target.audience(), &request.headers));
    }
    let not_allowed = || ApiError::MethodNotAllowed(allow.clone());
    let verb = Verb::of(&request.method).ok_or_else(not_allowed)?;
    match target {
        Target::Nothing(_) => Err(ApiError::NotFound),
        Target::Page(page) if verb == Verb::Get => {
            // A page that contains keys is served only if `Host` is a name of this server.
            if !page.is_cross_origin() && !authority::is_own_name(&request.headers, &app.settings.public_url) {
                return Err(ApiError::NotFound);
            }
            Ok(page.show(&request.headers))
        }
        Target::Media(key) if verb == Verb::Get => media::show(app, &key, request).await,
        Target::Socket(path) if verb == Verb::Get => Ok(sockets::upgrade(app, path, request).await),
        Target::Unsubscribe(token) if verb == Verb::Get => contact::ask_unsubscribe(app, &token, request),
        Target::Unsubscribe(token) if verb == Verb::Post => contact::unsubscribe(app, &token, request).await,
        Target::Consent(token) if verb == Verb::Get => contact::ask_consent(app, &token, request).await,
        Target::Consent(token) if verb == Verb::Post => contact::consent(app, &token, request).await,
        Target::Page(_) | Target::Media(_) | Target::Unsubscribe(_) | Target::Consent(_) | Target::Socket(_) => {
            Err(not_allowed())
        }
        Target::Route(route, named) => {
            let call = route.call(verb).ok_or_else(not_allowed)?;
            let is_api = matches!(route.audience, Audience::Guests | Audience::Hosts);
            let is_acceptable = negotiate::admits_json(&request.headers)
                || call == Call::Download && negotiate::admits_text(&request.headers);
            if is_api && !is_acceptable {
                return Err(ApiError::NotAcceptable);
            }
            if is_api && !app.health.is_started() {
                return Err(ApiError::Unavailable);
            }
            dispatch(app, call, named, request).await
        }
    }
}

async fn dispatch(
    app: &HttpContext,
    call: Call,
    PathParams { id, room }: PathParams,
    request: &mut Request,
) -> Result<Response, ApiError> {
    match call {
        Call::OpenRoom => chat::open_room(app, request).await,
        Call::SetContact => contact::set_contact(app, request, room).await,
        Call::ShowClient => users::show_client(app, request).await,

        Call::LogIn => auth::log_in(app, request).await,
        Call::RefreshToken => auth::refresh_token(app, request).await,
        Call::LogOut => auth::log_out(app, request).await,

        Call::CheckEmail => sign_up::check_email(app, request).await,
        Call::MailCode => sign_up::mail_code(app, request).await,
        Call::ConfirmEmail => sign_up::confirm_email(app, request).await,
        Call::SignUp => sign_up::sign_up(app, request).await,
        Call::ChangePassword => auth::change_password(app, request).await,
        Call::ResetPassword => auth::mail_password(app, request, RecoveryKind::Password).await,
        Call::Leave => auth::leave(app, request).await,
        Call::RestoreAccount => auth::mail_password(app, request, RecoveryKind::Account).await,

        Call::ShowUser => users::show_user(app, request, id).await,
        Call::PatchUser => users::patch_user(app, request, id).await,
        Call::PatchConfigs => users::patch_configs(app, request, id).await,
        Call::RotateKeys => keys::rotate_keys(app, request, id).await,

        Call::ShowWebhook => webhook::show(app, request, id).await,
        Call::SetWebhook => webhook::set(app, request, id).await,
        Call::DeleteWebhook => webhook::delete(app, request, id).await,
        Call::RotateWebhookSecret => webhook::rotate_secret(app, request, id).await,
        Call::TestWebhook => webhook::test(app, request, id).await,
        Call::ListDeliveries => webhook::list_deliveries(app, request, id).await,

        Call::ListRooms => chat::list_rooms(app, request).await,
        Call::ShowRoom => chat::show_room(app, request, id).await,
        Call::PatchRoom => chat::patch_room(app, request, id).await,
        Call::DeleteRoom => chat::delete_room(app, request, id).await,
        Call::RestoreRoom => chat::restore_room(app, request, id).await,
        Call::ListMessages => chat::list_messages(app, request, id).await,
        Call::Download => download::download(app, request, id).await,

        Call::Live => Ok(operation::live()),
        Call::Ready => Ok(operation::ready(app)),
        Call::Metrics => operation::metrics(app, request),
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
