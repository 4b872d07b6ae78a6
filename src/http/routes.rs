//! Route table of all API calls.

use http::Method;

use super::cors::Audience::{self, Guests, Hosts, Operators, Public};
use super::pages::{Pages, StampedPage};
use super::request;
use crate::domain::RoomName;

/// Path of the API and the calls of its supported methods.
pub(super) struct Route {
    /// Path. `{id}` stands for a row id, `{name}` for the name of a room.
    pub template: &'static str,
    /// Intended clients, which determine the CORS headers.
    pub audience: Audience,
    /// Supported methods, each with its call.
    pub calls: &'static [(Verb, Call)],
}

use Verb::{Delete, Get, Patch, Post, Put};

#[rustfmt::skip]
pub(super) static TABLE: &[Route] = &[
    // the widget
    route("/api/chat/",                              Guests, &[(Post, Call::OpenRoom)]),
    route("/api/chat/{name}/contact/",               Guests, &[(Put, Call::SetContact)]),
    route("/api/users/client/",                      Guests, &[(Get, Call::ShowClient)]),
    // logins
    route("/api/auth/login/",                        Hosts,  &[(Post, Call::LogIn)]),
    route("/api/auth/token/refresh/",                Hosts,  &[(Post, Call::RefreshToken)]),
    route("/api/auth/logout/",                       Hosts,  &[(Post, Call::LogOut)]),
    // accounts
    route("/api/auth/check-email/",                  Hosts,  &[(Post, Call::CheckEmail)]),
    route("/api/auth/email-verification/",           Hosts,  &[(Post, Call::MailCode)]),
    route("/api/auth/email-confirmation/",           Hosts,  &[(Post, Call::ConfirmEmail)]),
    route("/api/auth/signup/",                       Hosts,  &[(Post, Call::SignUp)]),
    route("/api/auth/password-change/",              Hosts,  &[(Post, Call::ChangePassword)]),
    route("/api/auth/password-reset/",               Hosts,  &[(Post, Call::ResetPassword)]),
    route("/api/auth/leave/",                        Hosts,  &[(Post, Call::Leave)]),
    route("/api/auth/restore/",                      Hosts,  &[(Post, Call::RestoreAccount)]),
    // account of the host
    route("/api/users/{id}/",                        Hosts,  &[(Get, Call::ShowUser), (Patch, Call::PatchUser)]),
    route("/api/users/{id}/configs/",                Hosts,  &[(Patch, Call::PatchConfigs)]),
    route("/api/users/{id}/keys/",                   Hosts,  &[(Post, Call::RotateKeys)]),
    // webhook of the host
    route("/api/users/{id}/webhook/",                Hosts,  &[(Get, Call::ShowWebhook), (Put, Call::SetWebhook), (Delete, Call::DeleteWebhook)]),
    route("/api/users/{id}/webhook/secret/",         Hosts,  &[(Post, Call::RotateWebhookSecret)]),
    route("/api/users/{id}/webhook/test/",           Hosts,  &[(Post, Call::TestWebhook)]),
    route("/api/users/{id}/webhook/deliveries/",     Hosts,  &[(Get, Call::ListDeliveries)]),
    // rooms of the host
    route("/api/chat/chatrooms/",                    Hosts,  &[(Get, Call::ListRooms)]),
    route("/api/chat/chatrooms/{id}/",               Hosts,  &[(Get, Call::ShowRoom), (Patch, Call::PatchRoom), (Delete, Call::DeleteRoom)]),
    route("/api/chat/chatrooms/{id}/restore/",       Hosts,  &[(Patch, Call::RestoreRoom)]),
    route("/api/chat/chatrooms/{id}/chat-messages/", Hosts,  &[(Get, Call::ListMessages)]),
    route("/api/chat/chatrooms/{id}/download/",      Hosts,  &[(Get, Call::Download)]),
    // operation
    route("/health/live",                            Operators, &[(Get, Call::Live)]),
    route("/health/ready",                           Operators, &[(Get, Call::Ready)]),
    route("/metrics",                                Operators, &[(Get, Call::Metrics)]),
];

/// API call. Each call has one handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    OpenRoom,
    SetContact,
    ShowClient,
    LogIn,
    RefreshToken,
    LogOut,
    CheckEmail,
    MailCode,
    ConfirmEmail,
    SignUp,
    ChangePassword,
    ResetPassword,
    Leave,
    RestoreAccount,
    ShowUser,
    PatchUser,
    PatchConfigs,
    RotateKeys,
    ShowWebhook,
    SetWebhook,
    DeleteWebhook,
    RotateWebhookSecret,
    TestWebhook,
    ListDeliveries,
    ListRooms,
    ShowRoom,
    PatchRoom,
    DeleteRoom,
    RestoreRoom,
    ListMessages,
    Download,
    Live,
    Ready,
    Metrics,
}

const fn route(template: &'static str, audience: Audience, calls: &'static [(Verb, Call)]) -> Route {
    Route { template, audience, calls }
}

/// HTTP method of a call. HEAD requests are handled like GET requests, and hyper omits the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    pub(super) fn of(method: &Method) -> Option<Self> {
        match *method {
            Method::GET | Method::HEAD => Some(Get),
            Method::POST => Some(Post),
            Method::PUT => Some(Put),
            Method::PATCH => Some(Patch),
            Method::DELETE => Some(Delete),
            _ => None,
        }
    }

    fn allow(self) -> &'static str {
        match self {
            Get => "GET, HEAD",
            Post => "POST",
            Put => "PUT",
            Patch => "PATCH",
            Delete => "DELETE",
        }
    }
}

/// Returns the metric label of a method. Unknown methods share one label.
pub(super) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

impl Route {
    /// Returns the call of a method; `None` if the path does not support the method.
    pub(super) fn call(&self, verb: Verb) -> Option<Call> {
        self.calls.iter().find(|(allowed, _)| *allowed == verb).map(|(_, call)| *call)
    }

    /// Returns the parameters of a path; `None` if the path does not match this route.
    fn matches(&self, segments: &[impl AsRef<str>]) -> Option<PathParams> {
        let mut named = PathParams { id: 0, room: None };
        let mut rest = segments.iter();
        for wanted in self.template.trim_matches('/').split('/') {
            let segment = rest.next()?.as_ref();
            if wanted == "{id}" {
                named.id = row_id(segment)?;
            } else if wanted == "{name}" {
                named.room = Some(segment.parse().ok()?);
            } else if wanted != segment {
                return None;
            }
        }
        rest.next().is_none().then_some(named)
    }
}

/// Parameters extracted from a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PathParams {
    /// Row id; 0 if the path has none.
    pub id: i64,
    /// Name of the room; `None` if the path has none.
    pub room: Option<RoomName>,
}

fn row_id(text: &str) -> Option<i64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Target of a path: an API call, a page, an image or a socket.
pub(super) enum Target<'a> {
    /// Entry of the route table, with the parameters from the path.
    Route(&'static Route, PathParams),
    /// Embedded page.
    Page(&'a StampedPage),
    /// Profile image. The value is the decoded segment after `/media/`.
    Media(String),
    /// Page on which guests unsubscribe from e-mails. The value is the token in the link.
    Unsubscribe(String),
    /// Page on which guests consent to e-mails. The value is the token in the link.
    Consent(String),
    /// Socket. The value is the path without a trailing slash, decoded unless it is malformed.
    Socket(String),
    /// Unknown path. The value determines which clients may read the 404 response.
    Nothing(Audience),
}

/// Returns the first segment of every path except the paths of pages. Includes `assets`, because a request may name an
/// asset of another release.
pub(super) fn first_segments() -> impl Iterator<Item = &'static str> {
    let calls = TABLE.iter().filter_map(|route| route.template.split('/').nth(1));
    calls.chain(["assets", "consent", "media", "unsubscribe", "ws"])
}

/// Returns the target of a path.
pub(super) fn find<'a>(path: &str, pages: &'a Pages) -> Target<'a> {
    let Some(segments) = request::segments(path) else {
        // A malformed socket path is rejected with a close code, because browsers can read close codes.
        let is_socket = path.starts_with("/ws/");
        return if is_socket { Target::Socket(path.trim_end_matches('/').to_owned()) } else { NO_SUCH_PATH };
    };
    if let [first, _, ..] = &segments[..]
        && first == "ws"
    {
        return Target::Socket(format!("/{}", segments.join("/")));
    }
    if let [first, key] = &segments[..]
        && first == "media"
    {
        return Target::Media(key.to_string());
    }
    if let [first, token] = &segments[..]
        && first == "unsubscribe"
    {
        return Target::Unsubscribe(token.to_string());
    }
    if let [first, token] = &segments[..]
        && first == "consent"
    {
        return Target::Consent(token.to_string());
    }
    if let Some((route, named)) = TABLE.iter().find_map(|route| Some((route, route.matches(&segments)?))) {
        return Target::Route(route, named);
    }
    // A page of another site may request an asset that this release does not contain. The page must be able to read the
    // 404 response.
    let is_asset = segments.first().is_some_and(|first| first == "assets");
    let missing = if is_asset { Target::Nothing(Public) } else { NO_SUCH_PATH };
    pages.find(&segments.join("/")).map_or(missing, Target::Page)
}

/// Target of an unknown path. Admin pages may read the 404 response.
const NO_SUCH_PATH: Target<'static> = Target::Nothing(Hosts);

impl Target<'_> {
    /// Returns the label of the target in metrics. The label never contains the raw path.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Route(route, _) => route.template,
            Self::Page(page) => page.label(),
            Self::Media(_) => "/media/",
            Self::Unsubscribe(_) => "/unsubscribe/",
            Self::Consent(_) => "/consent/",
            Self::Socket(_) => "/ws/",
            Self::Nothing(_) => "unmatched",
        }
    }

    /// Returns the intended clients, which determine the CORS headers.
    pub(super) fn audience(&self) -> Audience {
        match self {
            Self::Route(route, _) => route.audience,
            Self::Page(page) => page.audience(),
            Self::Media(_) => Public,
            // Pages of other origins do not need to read these responses.
            Self::Unsubscribe(_) | Self::Consent(_) | Self::Socket(_) => Operators,
            Self::Nothing(audience) => *audience,
        }
    }

    /// Returns the value of the `Allow` header.
    pub(super) fn allow(&self) -> String {
        let mut methods: Vec<&str> = match self {
            Self::Route(route, _) => route.calls.iter().map(|(verb, _)| verb.allow()).collect(),
            Self::Unsubscribe(_) | Self::Consent(_) => vec![Get.allow(), Post.allow()],
            Self::Page(_) | Self::Media(_) | Self::Socket(_) => vec![Get.allow()],
            Self::Nothing(_) => Vec::new(),
        };
        methods.push("OPTIONS");
        methods.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(path: &str) -> &'static str {
        find(path, &Pages::new([])).label()
    }

    #[test]
    fn every_route_is_found_with_and_without_trailing_slash() {
        for route in TABLE {
            let path = route.template.replace("{id}", "12").replace("{name}", &"a".repeat(RoomName::LEN));
            let bare = path.trim_end_matches('/');
            assert_eq!(label(bare), route.template);
            assert_eq!(label(&format!("{bare}/")), route.template);
            assert_eq!(label(&format!("{bare}//")), "unmatched");
            assert_eq!(label(&format!("{bare}/x")), "unmatched");
        }
    }

    #[test]
    fn id_is_a_valid_row_id() {
        assert!(matches!(find("/api/users/12/", &Pages::new([])), Target::Route(_, PathParams { id: 12, room: None })));
        for path in ["/api/users/x/", "/api/users/-1/", "/api/users/+1/", "/api/users/99999999999999999999/"] {
            assert_eq!(label(path), "unmatched", "{path}");
        }
    }

    #[test]
    fn room_name_in_a_path_has_the_form_of_room_names() {
        for path in ["/api/chat/chatrooms/contact/", "/api/chat/x/contact/"] {
            assert_eq!(label(path), "unmatched", "{path}");
        }
    }

    #[test]
    fn a_socket_is_named_by_its_decoded_path() {
        let Target::Socket(path) = find("/ws/chat/a%2Db/", &Pages::new([])) else { panic!("no socket") };
        assert_eq!(path, "/ws/chat/a-b");
        assert_eq!(label("/ws/"), "unmatched");
    }
}
