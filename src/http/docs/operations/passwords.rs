//! Describes password changes and resets, and the deactivation and restoration of accounts.

use crate::http::docs::call_doc::{CallDoc, Caller};
use crate::protocol::api::{Detail, EmailRequest, LeaveRequest, PasswordChangeRequest, User};

pub(super) fn change_password() -> CallDoc {
    CallDoc::new("changePassword", Caller::Host, "Change the password", "Ends all other logins of the account.")
        .reads::<PasswordChangeRequest>()
        .answers::<User<'_>>(200, "The user.")
        .refuses(401, "The access token is not valid, or the current password is wrong.")
        .refuses(429, "Too many attempts: retry after `Retry-After` seconds.")
}

pub(super) fn reset_password() -> CallDoc {
    CallDoc::new(
        "resetPassword",
        Caller::Anonymous,
        "Reset a forgotten password",
        "E-mails a temporary password, valid for an hour in addition to the old one.",
    )
    .reads::<EmailRequest>()
    .answers::<Detail>(200, "The response is the same whether or not there is such an account.")
    .refuses(429, "Too many e-mails from this address, or to this mailbox: retry after `Retry-After` seconds.")
}

pub(super) fn leave() -> CallDoc {
    CallDoc::new(
        "leave",
        Caller::Host,
        "Deactivate the account",
        "Ends all logins and closes their sockets. The account can be restored.",
    )
    .reads::<LeaveRequest>()
    .answers::<User<'_>>(200, "The deactivated user.")
    .refuses(401, "The access token is not valid, or the password is wrong.")
    .refuses(429, "Too many attempts: retry after `Retry-After` seconds.")
}

pub(super) fn restore_account() -> CallDoc {
    CallDoc::new(
        "restoreAccount",
        Caller::Anonymous,
        "Restore a deactivated account",
        "E-mails a temporary password; logging in with it reactivates the account.",
    )
    .reads::<EmailRequest>()
    .answers::<Detail>(200, "The response is the same whether or not there is such an account.")
    .refuses(429, "Too many e-mails from this address, or to this mailbox: retry after `Retry-After` seconds.")
}
