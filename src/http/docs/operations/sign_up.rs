//! Describes the steps of a sign-up.

use crate::http::docs::call_doc::{CallDoc, Caller, Content};
use crate::protocol::api::{ConfirmationRequest, Detail, Email, EmailRequest, SignUpRequest, User};

/// Description of the error that each step returns while `sign-up` is `closed`.
const SIGN_UP_CLOSED: &str = "Sign-up is closed on this server.";

pub(super) fn check_email() -> CallDoc {
    CallDoc::new(
        "checkEmail",
        Caller::Anonymous,
        "Sign up, step 1: is the address free?",
        "Sets the cookie `pintalk_sign_up`, which the next steps need. It is valid for an hour.",
    )
    .reads::<EmailRequest>()
    .answers::<Email<'_>>(200, "The address is free.")
    .sets_cookie()
    .refuses(403, SIGN_UP_CLOSED)
    .refuses(409, "There is an account with this address.")
    .refuses(429, "Too many calls from this address: retry after `Retry-After` seconds.")
}

pub(super) fn mail_code() -> CallDoc {
    CallDoc::new(
        "mailCode",
        Caller::SignUpCookie,
        "Sign up, step 2: request a code",
        "E-mails a code of six digits to the checked address. The code is valid for five minutes.",
    )
    .reads::<EmailRequest>()
    .answers::<Detail>(200, "The code was sent.")
    .sets_cookie()
    .refuses(403, SIGN_UP_CLOSED)
    .refuses(409, "There is an account with this address.")
    .refuses(422, "The address was not checked.")
    .refuses(429, "Too many e-mails from this address, or to this mailbox: retry after `Retry-After` seconds.")
}

pub(super) fn confirm_email() -> CallDoc {
    CallDoc::new(
        "confirmEmail",
        Caller::SignUpCookie,
        "Sign up, step 3: confirm the address",
        "Takes the e-mailed code. The confirmation is valid for ten minutes.",
    )
    .reads::<ConfirmationRequest>()
    .ends(204, "Confirmed.", Content::Nothing)
    .refuses(403, SIGN_UP_CLOSED)
    .refuses(409, "The code is wrong.")
    .refuses(422, "No code was requested, or it has expired.")
    .refuses(429, "Too many calls from this address: retry after `Retry-After` seconds.")
}

pub(super) fn sign_up() -> CallDoc {
    CallDoc::new(
        "signUp",
        Caller::SignUpCookie,
        "Sign up, step 4: create the account",
        "Creates the account of the confirmed address.",
    )
    .reads::<SignUpRequest>()
    .answers::<User<'_>>(201, "The new user, with the keys for the widget.")
    .refuses(403, SIGN_UP_CLOSED)
    .refuses(409, "There is an account with this address.")
    .refuses(422, "The address was not confirmed.")
    .refuses(429, "Too many calls from this address: retry after `Retry-After` seconds.")
}
