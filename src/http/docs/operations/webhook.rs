//! Describes the calls for a host's webhook.

use crate::http::docs::call_doc::{CallDoc, Caller, Content};
use crate::protocol::api::{Webhook, WebhookDeliveries, WebhookRequest, WebhookSecretRequest, WebhookTest};

pub(super) fn show() -> CallDoc {
    CallDoc::new("showWebhook", Caller::Host, "Get the webhook", "Returns the webhook without its secret.")
        .answers::<Webhook<'_>>(200, "The webhook.")
        .refuses(404, "There is no webhook.")
}

pub(super) fn set() -> CallDoc {
    CallDoc::new(
        "setWebhook",
        Caller::Host,
        "Set the webhook",
        "Each event is sent to the URL by POST, at least once, and is retried for three days until the response is 2xx. An event \
         has the same `webhook-id` in every attempt. `webhook-signature` is `v1,` followed by the HMAC-SHA256, in base64, of \
         `webhook-id`, `webhook-timestamp` and the body, joined by dots. Its key is the part of the secret after `whsec_`, \
         decoded from base64. Setting the URL again keeps the secret. A 410 response disables the webhook.",
    )
    .reads::<WebhookRequest>()
    .answers::<Webhook<'_>>(201, "Created. `secret` is returned only by this response.")
    .answers::<Webhook<'_>>(200, "The current webhook.")
}

pub(super) fn delete() -> CallDoc {
    CallDoc::new(
        "deleteWebhook",
        Caller::Host,
        "Delete the webhook",
        "Also deletes its secret and every event that has not been sent.",
    )
    .ends(204, "Deleted.", Content::Nothing)
    .refuses(404, "There is no webhook.")
}

pub(super) fn rotate_secret() -> CallDoc {
    CallDoc::new(
        "rotateWebhookSecret",
        Caller::Host,
        "Change the webhook's secret",
        "For a day, events are also signed with the old secret: `webhook-signature` then contains two signatures, separated by a \
         space. If the old secret is revoked, it ends at once.",
    )
    .reads::<WebhookSecretRequest>()
    .answers::<Webhook<'_>>(200, "The webhook. `secret` is returned only by this response.")
    .refuses(404, "There is no webhook.")
}

pub(super) fn test() -> CallDoc {
    CallDoc::new(
        "testWebhook",
        Caller::Host,
        "Test the webhook",
        "Sends a signed event of type `ping` now, even if the webhook is disabled, and returns the result.",
    )
    .answers::<WebhookTest<'_>>(200, "The response of the receiver, or the error.")
    .refuses(404, "There is no webhook.")
    .refuses(429, "Too many tests: retry after `Retry-After` seconds.")
}

pub(super) fn list_deliveries() -> CallDoc {
    CallDoc::new(
        "listWebhookDeliveries",
        Caller::Host,
        "List the latest deliveries",
        "Returns the newest fifty events. Delivered events are kept for a day, failed ones for a week.",
    )
    .answers::<WebhookDeliveries<'_>>(200, "The events, newest first.")
}
