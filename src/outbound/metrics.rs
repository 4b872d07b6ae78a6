//! Metrics of e-mails, notifications and webhooks.

use crate::domain::metric::{Counter, Family, Gauge, Histogram, OnFirstUse, label, metric_set};
use crate::store::{MailClass, MailScope};

metric_set! {
    /// Metrics of the e-mail dispatcher.
    pub(crate) struct MailMetrics {
        /// E-mails; `failed` is retried, `refused` is permanent, `unknown` may have been sent and is not retried.
        mails: Family<Counter, MailOutcome> = "pintalk_mails_total", Count;
        /// E-mails delayed by a limit, counted at each delay; an e-mail that expires first is dropped (`expired`
        /// above).
        limited: Family<Counter, (LimitScope, LimitedMail)> = "pintalk_mails_limited_total", Count;
    }
}

label! {
    /// Outcome of an attempt to send an e-mail.
    pub(crate) enum MailOutcome = "outcome" {
        Sent = "sent",
        Failed = "failed",
        Refused = "refused",
        Expired = "expired",
        Unknown = "unknown",
    }
}

label! {
    /// Scope of a limit on e-mails.
    pub(crate) enum LimitScope = "scope" {
        Mailbox = "mailbox",
        Host = "host",
        Installation = "installation",
    }
}

label! {
    /// Class of an e-mail that a limit delayed.
    pub(crate) enum LimitedMail = "class" {
        Account = "account",
        Host = "host",
        Guest = "guest",
    }
}

impl From<MailScope> for LimitScope {
    fn from(scope: MailScope) -> Self {
        match scope {
            MailScope::Mailbox => Self::Mailbox,
            MailScope::Host => Self::Host,
            MailScope::Installation => Self::Installation,
        }
    }
}

impl From<MailClass> for LimitedMail {
    fn from(class: MailClass) -> Self {
        match class {
            MailClass::Account => Self::Account,
            MailClass::Host => Self::Host,
            MailClass::Guest => Self::Guest,
        }
    }
}

metric_set! {
    /// Metrics of e-mail notifications.
    pub(crate) struct NotificationMetrics {
        /// Decisions about e-mails to participants who are not in a room; `asked`: a request for consent is sent,
        /// `unconsented`: the e-mail waits for consent.
        decisions: Family<Counter, (Recipient, Decision)> = "pintalk_notifications_total", Count;
    }
}

label! {
    /// Side of a recipient.
    pub(crate) enum Recipient = "to" {
        Host = "host",
        Guest = "guest",
    }
}

label! {
    /// Decision about a notification.
    pub(crate) enum Decision = "outcome" {
        Mailed = "mailed",
        Asked = "asked",
        Unconsented = "unconsented",
        Present = "present",
        Read = "read",
        Closed = "closed",
        Unwanted = "unwanted",
    }
}

metric_set! {
    /// Metrics of the webhook dispatcher.
    pub(crate) struct WebhookMetrics {
        /// Webhook events; `failed` is retried.
        events: Family<Counter, WebhookOutcome> = "pintalk_webhooks_total", Count;
        /// Duration of a webhook request until its response.
        duration: OnFirstUse<Histogram> = "pintalk_webhook_duration_seconds", Seconds;
        /// Age of the oldest due event of all enabled webhooks.
        lag: Gauge = "pintalk_webhook_lag_seconds", Seconds;
    }
}

label! {
    /// Outcome of an attempt to deliver a webhook event.
    pub(crate) enum WebhookOutcome = "outcome" {
        Delivered = "delivered",
        Failed = "failed",
        GivenUp = "given_up",
    }
}
