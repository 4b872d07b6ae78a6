//! Describes the purpose, parameters, bodies and outcomes of each endpoint in the route table. [`CallDoc`] adds the
//! outcomes that result from the properties of a call.

mod account;
mod chatrooms;
mod logins;
mod operation;
mod passwords;
mod sign_up;
mod webhook;
mod widget;

use super::call_doc::CallDoc;
use crate::http::routes::Call;

/// Sections of the API, in the order in which a new user needs them.
pub(super) const TAGS: [(&str, &str); 7] = [
    ("Widget", "Called by a site for its visitors, with the keys of its host."),
    ("Logins", "An access token valid for an hour, and a cookie with a refresh token."),
    ("Sign-up and passwords", "Sign-up in four steps; forgotten passwords; deactivating and restoring an account."),
    ("Account", "Profile, settings and keys of a host."),
    ("Webhook", "Sends the events of a host's rooms to the host's own systems."),
    ("Chatrooms", "A host's rooms and their messages."),
    ("Operation", "For monitoring and deployment."),
];

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
pub(super) fn describe(call: Call) -> CallDoc {
    match call {
        Call::OpenRoom => widget::open_room(),
        Call::SetContact => widget::set_contact(),
        Call::ShowClient => widget::show_client(),

        Call::LogIn => logins::log_in(),
        Call::RefreshToken => logins::refresh_token(),
        Call::LogOut => logins::log_out(),

        Call::CheckEmail => sign_up::check_email(),
        Call::MailCode => sign_up::mail_code(),
        Call::ConfirmEmail => sign_up::confirm_email(),
        Call::SignUp => sign_up::sign_up(),

        Call::ChangePassword => passwords::change_password(),
        Call::ResetPassword => passwords::reset_password(),
        Call::Leave => passwords::leave(),
        Call::RestoreAccount => passwords::restore_account(),

        Call::ShowUser => account::show_user(),
        Call::PatchUser => account::patch_user(),
        Call::PatchConfigs => account::patch_configs(),
        Call::RotateKeys => account::rotate_keys(),

        Call::ShowWebhook => webhook::show(),
        Call::SetWebhook => webhook::set(),
        Call::DeleteWebhook => webhook::delete(),
        Call::RotateWebhookSecret => webhook::rotate_secret(),
        Call::TestWebhook => webhook::test(),
        Call::ListDeliveries => webhook::list_deliveries(),

        Call::ListRooms => chatrooms::list_rooms(),
        Call::ShowRoom => chatrooms::show_room(),
        Call::PatchRoom => chatrooms::patch_room(),
        Call::DeleteRoom => chatrooms::delete_room(),
        Call::RestoreRoom => chatrooms::restore_room(),
        Call::ListMessages => chatrooms::list_messages(),
        Call::Download => chatrooms::download(),

        Call::Live => operation::live(),
        Call::Ready => operation::ready(),
        Call::Metrics => operation::metrics(),
    }
}
