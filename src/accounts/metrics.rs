//! Metrics of accounts and rate limits.

use crate::accounts::LoginError;
use crate::backend::throttle::Kind;
use crate::domain::metric::{Counter, Family, label, metric_set};

metric_set! {
    /// Metrics of logins.
    pub(crate) struct LoginMetrics {
        /// Logins.
        logins: Family<Counter, LoginOutcome> = "pintalk_logins_total", Count;
    }
}

label! {
    /// Outcome of a login.
    pub(crate) enum LoginOutcome = "outcome" {
        Ok = "ok",
        Wrong = "wrong",
        Deactivated = "deactivated",
        Failed = "failed",
    }
}

impl<T> From<&Result<T, LoginError>> for LoginOutcome {
    fn from(result: &Result<T, LoginError>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(LoginError::WrongCredentials) => Self::Wrong,
            Err(LoginError::Deactivated) => Self::Deactivated,
            Err(LoginError::Fault(_)) => Self::Failed,
        }
    }
}

metric_set! {
    /// Metrics of rate limits.
    pub(crate) struct LimitMetrics {
        /// Calls and handshakes rejected with 429.
        limited: Family<Counter, LimitedCall> = "pintalk_limited_total", Count;
    }
}

label! {
    /// Call that a limit rejected.
    pub(crate) enum LimitedCall = "kind" {
        Handshake = "handshake",
        Room = "room",
        LoginAddress = "login_address",
        LoginPair = "login_pair",
        LoginPairHour = "login_pair_hour",
        LoginAccount = "login_account",
        Mail = "mail",
        Mailbox = "mailbox",
        WebhookTest = "webhook_test",
        UnknownKeys = "unknown_keys",
        SignUp = "sign_up",
        Image = "image",
    }
}

impl LimitedCall {
    /// Returns the label of a limit. Returns `None` for byte limits, because the message metrics count rejections by
    /// these limits.
    pub(crate) fn of(kind: Kind) -> Option<Self> {
        Some(match kind {
            Kind::Handshake => Self::Handshake,
            Kind::Room => Self::Room,
            Kind::LoginAddress => Self::LoginAddress,
            Kind::LoginPair => Self::LoginPair,
            Kind::LoginPairHour => Self::LoginPairHour,
            Kind::LoginAccount => Self::LoginAccount,
            Kind::Mail => Self::Mail,
            Kind::Mailbox => Self::Mailbox,
            Kind::WebhookTest => Self::WebhookTest,
            Kind::UnknownKeys => Self::UnknownKeys,
            Kind::SignUp => Self::SignUp,
            Kind::Image => Self::Image,
            Kind::GuestBytes | Kind::OwnBytes => return None,
        })
    }
}
