//! Describes login, token refresh and logout.

use crate::http::docs::call_doc::{CallDoc, Caller, Content};
use crate::protocol::api::{LoggedIn, LoginRequest, Refreshed};

pub(super) fn log_in() -> CallDoc {
    CallDoc::new(
        "logIn",
        Caller::Anonymous,
        "Log in",
        "With the password, or with an e-mailed temporary password, which replaces the old one or restores the account. \
         Sets the cookie `__Host-pintalk_refresh_token` for seven days (without the prefix where the server has no TLS or a \
         cookie domain); the access token is valid for an hour.",
    )
    .reads::<LoginRequest>()
    .answers::<LoggedIn<'_>>(200, "The user, with an access token.")
    .sets_cookie()
    .refuses(401, "Wrong e-mail or password.")
    .refuses(409, "The password is right, but the account is deactivated.")
    .refuses(
        429,
        "Too many logins from this address, or too many wrong passwords for this account: retry after `Retry-After` seconds. \
         After many wrong passwords, only a device that sends a refresh cookie of the account, expired or not, can try again.",
    )
}

pub(super) fn refresh_token() -> CallDoc {
    CallDoc::new(
        "refreshToken",
        Caller::RefreshCookie,
        "Refresh the access token",
        "Replaces the refresh token in the cookie and returns a new access token. Reuse of a token that was replaced more \
         than ten seconds ago is treated as theft and ends the login.",
    )
    .answers::<Refreshed<'_>>(201, "The access token, under each of the three names that clients read.")
    .sets_cookie()
    .refuses(401, "The refresh token is missing, invalid, expired, already used, or revoked.")
}

pub(super) fn log_out() -> CallDoc {
    CallDoc::new("logOut", Caller::Host, "Log out", "Ends this login and closes its sockets on every node.").ends(
        204,
        "Logged out; the cookie is cleared.",
        Content::Nothing,
    )
}
