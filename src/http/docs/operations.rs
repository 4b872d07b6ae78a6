//! Describes each call of the route table: purpose, parameters, bodies, and outcomes besides those that follow from its
//! kind ([`Sketch`]).

mod webhook;

use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, Required, Type};

use super::sketch::{Caller, Content, Named, Sketch, integer, query};
use crate::http::chat::MAX_SEARCH_CHARS;
use crate::http::operation::{Liveness, ReadinessBody};
use crate::http::paging::{DEFAULT_SIZE, MAX_LIMIT, MAX_PAGE_SIZE};
use crate::http::routes::Call;
use crate::protocol::api::{
    ChatMessage, Chatroom, ChatroomDetail, ChatroomPatch, Client, ClientChatroom, Configs, ConfigsPatch,
    ConfirmationRequest, ContactRequest, Detail, Email, EmailRequest, KeysRequest, LeaveRequest, LoggedIn,
    LoginRequest, PasswordChangeRequest, ProfilePatch, Refreshed, SignUpRequest, User,
};

/// Sections of the API, in the order in which a new user needs them.
pub(super) const TAGS: [(&str, &str); 7] = [
    ("Widget", "What a site calls for its visitors, with the keys of its host."),
    ("Logins", "An access token for an hour, and a cookie that gets the next one."),
    (
        "Sign-up and passwords",
        "Four steps to an account; what to do when a password is forgotten; leave and come back.",
    ),
    ("Account", "What a host sees and changes of himself."),
    ("Webhook", "A host's own systems are told what happens in his rooms."),
    ("Chatrooms", "A host's rooms and what was said in them."),
    ("Operation", "For the machines that run the server."),
];

/// Outcome of each step of a sign-up while `sign-up` is `closed`.
const SIGN_UP_CLOSED: &str = "Sign-up is closed on this server.";

/// Returns the section of a call.
pub(super) fn tag(call: Call) -> &'static str {
    let at = match call {
        Call::OpenRoom | Call::SetContact | Call::ShowClient => 0,
        Call::LogIn | Call::RefreshToken | Call::LogOut => 1,
        Call::CheckEmail | Call::MailCode | Call::ConfirmEmail | Call::SignUp => 2,
        Call::ChangePassword | Call::ResetPassword | Call::Leave | Call::RestoreAccount => 2,
        Call::ShowUser | Call::PatchUser | Call::PatchConfigs | Call::RotateKeys => 3,
        Call::ShowWebhook | Call::SetWebhook | Call::DeleteWebhook | Call::RotateWebhookSecret => 4,
        Call::TestWebhook | Call::ListDeliveries => 4,
        Call::ListRooms | Call::ShowRoom | Call::PatchRoom | Call::DeleteRoom | Call::RestoreRoom => 5,
        Call::ListMessages | Call::Download => 5,
        Call::Live | Call::Ready | Call::Metrics => 6,
    };
    TAGS[at].0
}

/// Returns the description of a call.
pub(super) fn sketch(call: Call) -> Sketch {
    use Caller::{Anybody, Host, RefreshCookie, Service, SignUpCookie};
    match call {
        Call::OpenRoom => Sketch::new(
            "openChatroom",
            Service,
            "Open a chatroom",
            "A visitor begins to talk: he gets a room and a nickname. Its `name` leads to `/ws/chat/{name}/`. A browser calls \
             from a registered domain of the service; a server, which sends no `Origin`, is admitted by the keys alone.",
        )
        .parameter(
            ParameterBuilder::new()
                .name("Idempotency-Key")
                .parameter_in(ParameterIn::Header)
                .required(Required::False)
                .description(Some("Unique for each room of the service: a repeated call with it returns the same room."))
                .schema(Some(
                    ObjectBuilder::new()
                        .schema_type(Type::String)
                        .min_length(Some(16))
                        .max_length(Some(64))
                        .pattern(Some("^[ -~]*$")),
                )),
        )
        .answers::<ClientChatroom<'_>>(201, "The room.")
        .refuses(429, "Too many rooms of this address, or without `Origin` of this host: retry after `Retry-After` seconds."),
        Call::SetContact => Sketch::new(
            "setContact",
            Service,
            "Leave an address",
            "Sets the address to which a guest is e-mailed when an answer arrives while they are absent: once, until they have \
             been back. The first e-mail of a service to a mailbox asks for consent; answers are sent after it was given. \
             Another address replaces the first; the link in each e-mail unsubscribes the mailbox from the service.",
        )
        .reads::<ContactRequest>()
        .answers::<Email<'_>>(200, "The address.")
        .refuses(403, "The page that calls is not on a registered domain of the service, or the room is another service's.")
        .refuses(404, "There is no such room.")
        .refuses(429, "Too many addresses of this caller: come back after `Retry-After` seconds."),
        Call::ShowClient => Sketch::new(
            "showClient",
            Service,
            "Whose service this is",
            "What the widget shows of the host.",
        )
        .answers::<Client<'_>>(200, "The host, as guests see it.")
        .refuses(429, "Too many calls with unknown keys from where you are: retry after `Retry-After` seconds."),

        Call::LogIn => Sketch::new(
            "logIn",
            Anybody,
            "Log in",
            "With the password, or with a temporary one that was mailed: it replaces the old one, or brings the account back. \
             Sets the cookie `__Host-pintalk_refresh_token` for seven days (without the prefix where the server has no TLS or a \
             cookie domain); the access token is good for an hour.",
        )
        .reads::<LoginRequest>()
        .answers::<LoggedIn<'_>>(200, "The user, with an access token.")
        .sets_cookie()
        .refuses(401, "Wrong e-mail or password.")
        .refuses(409, "The password is right, but the account is deactivated.")
        .refuses(
            429,
            "Too many logins from this address, or too many wrong passwords for this account: retry after `Retry-After` seconds. \
             After many wrong passwords only a device that sends a refresh cookie of the account, expired or not, may try.",
        ),
        Call::RefreshToken => Sketch::new(
            "refreshToken",
            RefreshCookie,
            "Get another access token",
            "Spends the refresh token and sets the cookie to the next one. A token that was spent more than ten seconds ago \
             means theft: the whole login ends.",
        )
        .answers::<Refreshed<'_>>(201, "One access token, under the three names that clients read.")
        .sets_cookie()
        .refuses(401, "No refresh token, or one that is not valid, has expired, was spent, or was ended."),
        Call::LogOut => Sketch::new("logOut", Host, "Log out", "Ends this login, and its sockets on every node.")
            .ends(204, "Logged out; the cookie is cleared.", Content::Nothing),

        Call::CheckEmail => Sketch::new(
            "checkEmail",
            Anybody,
            "Sign up, step 1: is the address free?",
            "Sets the cookie `pintalk_sign_up`, which the next steps need; it is good for an hour.",
        )
        .reads::<EmailRequest>()
        .answers::<Email<'_>>(200, "It is free.")
        .sets_cookie()
        .refuses(403, SIGN_UP_CLOSED)
        .refuses(409, "There is an account with this address.")
        .refuses(429, "Too many calls from where you are: retry after `Retry-After` seconds."),
        Call::MailCode => Sketch::new(
            "mailCode",
            SignUpCookie,
            "Sign up, step 2: mail a code",
            "Mails six digits to the address that was checked. They are good for five minutes.",
        )
        .reads::<EmailRequest>()
        .answers::<Detail>(200, "The code is on its way.")
        .sets_cookie()
        .refuses(403, SIGN_UP_CLOSED)
        .refuses(409, "There is an account with this address.")
        .refuses(422, "This address was not checked before.")
        .refuses(429, "Too many mails from where you are, or to this mailbox: come back after `Retry-After` seconds."),
        Call::ConfirmEmail => Sketch::new(
            "confirmEmail",
            SignUpCookie,
            "Sign up, step 3: confirm the address",
            "With the code that was mailed. The confirmation is good for ten minutes.",
        )
        .reads::<ConfirmationRequest>()
        .ends(204, "Confirmed.", Content::Nothing)
        .refuses(403, SIGN_UP_CLOSED)
        .refuses(409, "This is not the code.")
        .refuses(422, "No code was mailed, or it is no longer good.")
        .refuses(429, "Too many calls from where you are: retry after `Retry-After` seconds."),
        Call::SignUp => Sketch::new(
            "signUp",
            SignUpCookie,
            "Sign up, step 4: make the account",
            "For the address that was confirmed.",
        )
        .reads::<SignUpRequest>()
        .answers::<User<'_>>(201, "The new user. His keys go into the widget.")
        .refuses(403, SIGN_UP_CLOSED)
        .refuses(409, "There is an account with this address.")
        .refuses(422, "This address was not confirmed before.")
        .refuses(429, "Too many calls from where you are: retry after `Retry-After` seconds."),
        Call::ChangePassword => Sketch::new(
            "changePassword",
            Host,
            "Change the password",
            "All other logins of the account end.",
        )
        .reads::<PasswordChangeRequest>()
        .answers::<User<'_>>(200, "Changed.")
        .refuses(401, "No valid access token, or the current password is wrong.")
        .refuses(429, "Too many attempts: come back after `Retry-After` seconds."),
        Call::ResetPassword => Sketch::new(
            "resetPassword",
            Anybody,
            "Forgotten the password?",
            "Mails a temporary password. It is good for an hour, beside the old one.",
        )
        .reads::<EmailRequest>()
        .answers::<Detail>(200, "The same answer whether there is such an account or not.")
        .refuses(429, "Too many mails from where you are, or to this mailbox: come back after `Retry-After` seconds."),
        Call::Leave => Sketch::new(
            "leave",
            Host,
            "Deactivate the account",
            "All logins end, and their sockets close. It can be restored.",
        )
        .reads::<LeaveRequest>()
        .answers::<User<'_>>(200, "Deactivated.")
        .refuses(401, "No valid access token, or the password is wrong.")
        .refuses(429, "Too many attempts: come back after `Retry-After` seconds."),
        Call::RestoreAccount => Sketch::new(
            "restoreAccount",
            Anybody,
            "Bring a deactivated account back",
            "Mails a temporary password; logging in with it reactivates the account.",
        )
        .reads::<EmailRequest>()
        .answers::<Detail>(200, "The same answer whether there is such an account or not.")
        .refuses(429, "Too many mails from where you are, or to this mailbox: come back after `Retry-After` seconds."),

        Call::ShowUser => Sketch::new("showUser", Host, "The account", "Everything about himself, the keys among it.")
            .answers::<User<'_>>(200, "The user."),
        Call::PatchUser => Sketch::new(
            "changeUser",
            Host,
            "Change the profile",
            "What is left out stays. As a form (`multipart/form-data`) it may hold a picture under `profileImage`: PNG, JPEG, \
             WebP or GIF, at most 5 MiB and 4096 x 4096 pixels. An empty one, or `null` in JSON, takes the picture away.",
        )
        .reads::<ProfilePatch>()
        .takes_image()
        .answers::<User<'_>>(200, "The changed user.")
        .refuses(429, "The host or the address sends too many images at a time: retry after `Retry-After` seconds."),
        Call::PatchConfigs => Sketch::new(
            "changeConfigs",
            Host,
            "Change the settings",
            "What is left out stays. Switching the status off closes its sockets with 4009.",
        )
        .reads::<ConfigsPatch>()
        .answers::<Configs>(200, "The settings as they are now."),
        Call::RotateKeys => Sketch::new(
            "rotateKeys",
            Host,
            "Change the keys",
            "Makes a new pair. The old one goes on for a day, as the operator has set, unless it is revoked.",
        )
        .reads::<KeysRequest>()
        .answers::<User<'_>>(200, "The user, with the new keys."),

        Call::ShowWebhook => webhook::show(),
        Call::SetWebhook => webhook::set(),
        Call::DeleteWebhook => webhook::delete(),
        Call::RotateWebhookSecret => webhook::rotate_secret(),
        Call::TestWebhook => webhook::test(),
        Call::ListDeliveries => webhook::list_deliveries(),

        Call::ListRooms => Sketch::new(
            "listChatrooms",
            Host,
            "List the chatrooms",
            "The pinned first, then by their newest message.",
        )
        .parameter(integer("page", 1, Some(1), "Which page."))
        .parameter(integer("page_size", 1, Some(DEFAULT_SIZE), &format!("Rooms a page; at most {MAX_PAGE_SIZE}.")))
        .parameter(query("search", "Part of the guest's nickname.").schema(Some(
            ObjectBuilder::new().schema_type(Type::String).max_length(Some(MAX_SEARCH_CHARS)),
        )))
        .parameter(
            query("is_closed", "Only the closed, or only the open ones.")
                .schema(Some(ObjectBuilder::new().schema_type(Type::Boolean))),
        )
        .ends(200, "A page of rooms.", Content::json(Named::page_of::<Chatroom<'_>>()))
        .refuses(404, "There is no such page."),
        Call::ShowRoom => Sketch::new("showChatroom", Host, "One chatroom", "As its guest sees it, with its id.")
            .answers::<ChatroomDetail<'_>>(200, "The room."),
        Call::PatchRoom => Sketch::new(
            "changeChatroom",
            Host,
            "Pin or close a chatroom",
            "Closing tells everybody in the room and ends their sockets with 1000. Closing twice is no error.",
        )
        .reads::<ChatroomPatch>()
        .answers::<Chatroom<'_>>(200, "The room as it is now.")
        .refuses(422, "Five rooms are pinned already, or the room is closed."),
        Call::DeleteRoom => Sketch::new(
            "leaveChatroom",
            Host,
            "Leave a chatroom",
            "Deletes the room and all its messages at once, for everybody. Its sockets are closed with 4004.",
        )
        .ends(204, "Nothing is left of it.", Content::Nothing),
        Call::RestoreRoom => Sketch::new(
            "restoreChatroom",
            Host,
            "Reopen a closed chatroom",
            "With its messages, unless they were deleted meanwhile. Restoring twice is no error.",
        )
        .answers::<Chatroom<'_>>(200, "The room as it is now."),
        Call::ListMessages => Sketch::new(
            "listMessages",
            Host,
            "The messages of a chatroom",
            "The newest first. Whatever was acknowledged is among them.",
        )
        .parameter(integer("limit", 1, Some(DEFAULT_SIZE), &format!("How many; at most {MAX_LIMIT}.")))
        .parameter(integer("offset", 0, Some(0), "How many newer ones are left out."))
        .ends(200, "A part of the messages.", Content::json(Named::page_of::<ChatMessage<'_>>())),
        Call::Download => Sketch::new(
            "downloadChatroom",
            Host,
            "The whole conversation as a file",
            "UTF-8, a line a message, the oldest first. `Content-Disposition` names the file.",
        )
        .ends(200, "The conversation.", Content::Text("text/plain")),

        Call::Live => operation("live", "Is this process alive?").answers::<Liveness>(200, "It is."),
        Call::Ready => operation("ready", "May this node be sent clients?")
            .answers::<ReadinessBody>(200, "It may; `degraded` when it does without SQL for a time.")
            .answers::<ReadinessBody>(503, "Not now: it starts, ends, or cannot relay."),
        Call::Metrics => operation("metrics", "Metrics for Prometheus")
            .ends(200, "In its text format.", Content::Text("text/plain"))
            .refuses(404, "Asked from elsewhere than this machine, or they have a port of their own."),
    }
}

fn operation(id: &'static str, summary: &'static str) -> Sketch {
    Sketch::new(id, Caller::Anybody, summary, "For the machines that run the server; no web page may read it.")
        .for_operators()
}
