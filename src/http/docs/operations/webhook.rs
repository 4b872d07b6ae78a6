//! Descriptions of the calls for a host's webhook.

use crate::http::docs::sketch::{Caller, Content, Sketch};
use crate::protocol::api::{Webhook, WebhookDeliveries, WebhookRequest, WebhookSecretRequest, WebhookTest};

pub(super) fn show() -> Sketch {
    Sketch::new("showWebhook", Caller::Host, "The webhook", "Without its secret.")
        .answers::<Webhook<'_>>(200, "The webhook.")
        .refuses(404, "There is none.")
}

pub(super) fn set() -> Sketch {
    Sketch::new(
        "setWebhook",
        Caller::Host,
        "Set the webhook",
        "Each event is sent to the URL with POST, at least once, and again for three days until the answer is 2xx; the same event \
         always has the same `webhook-id`. `webhook-signature` is `v1,` and the HMAC-SHA256, in base64, of `webhook-id`, \
         `webhook-timestamp` and the body with dots between them; its key is what stands behind `whsec_` in the secret, decoded \
         from base64. A URL that is set again keeps its secret. Answering 410 switches the webhook off.",
    )
    .reads::<WebhookRequest>()
    .answers::<Webhook<'_>>(201, "There was none. `secret` is shown this once.")
    .answers::<Webhook<'_>>(200, "The webhook as it is now.")
}

pub(super) fn delete() -> Sketch {
    Sketch::new(
        "deleteWebhook",
        Caller::Host,
        "Take the webhook away",
        "With its secret, and with every event that has not been sent.",
    )
    .ends(204, "Nothing is sent any more.", Content::Nothing)
    .refuses(404, "There is none.")
}

pub(super) fn rotate_secret() -> Sketch {
    Sketch::new(
        "rotateWebhookSecret",
        Caller::Host,
        "Change the webhook's secret",
        "For a day events are signed with the old one, too: `webhook-signature` then holds two, with a space between them. Revoked, \
         the old one ends at once.",
    )
    .reads::<WebhookSecretRequest>()
    .answers::<Webhook<'_>>(200, "The webhook; `secret` is shown this once.")
    .refuses(404, "There is no webhook.")
}

pub(super) fn test() -> Sketch {
    Sketch::new(
        "testWebhook",
        Caller::Host,
        "Test the webhook",
        "Sends an event of type `ping` now, signed as all are, also while the webhook is off, and says what came of it.",
    )
    .answers::<WebhookTest<'_>>(200, "What the receiver answered, or why it did not.")
    .refuses(404, "There is no webhook.")
    .refuses(429, "Too many tests: come back after `Retry-After` seconds.")
}

pub(super) fn list_deliveries() -> Sketch {
    Sketch::new(
        "listWebhookDeliveries",
        Caller::Host,
        "What became of the events",
        "The newest fifty, as far as they are remembered: a day if they arrived, a week if they were given up.",
    )
    .answers::<WebhookDeliveries<'_>>(200, "The events, the newest first.")
}
