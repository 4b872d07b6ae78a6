//! Webhook events: the `webhooks` section of the OpenAPI document.

use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn, PathItem, Paths};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{
    Components, ContentBuilder, KnownFormat, ObjectBuilder, Ref, Required, ResponseBuilder, SchemaFormat, Type,
};

use super::openapi::reference;
use super::sketch::Named;
use crate::domain::EventKind;
use crate::protocol::webhook::{MessageCreated, PING, Ping, RoomClosed, RoomCreated};

/// Headers sent with an event.
const HEADERS: [(&str, &str); 3] = [
    ("webhook-id", "The event's `id`: the same whenever it is sent again."),
    ("webhook-timestamp", "When it was sent, in seconds since 1970."),
    (
        "webhook-signature",
        "`v1,` and the signature, in base64; two of them, with a space between, while a secret is changed.",
    ),
];

/// Returns the path item of every event, by event type.
pub(super) fn webhooks(components: &mut Components) -> Paths {
    let mut paths = Paths::new();
    for (kind, summary, data) in [
        (EventKind::RoomCreated.as_str(), "A guest has opened a room", Named::of::<RoomCreated<'_>>()),
        (EventKind::MessageCreated.as_str(), "Somebody has written a message", Named::of::<MessageCreated<'_>>()),
        (EventKind::RoomClosed.as_str(), "A room was closed", Named::of::<RoomClosed<'_>>()),
        (PING, "The webhook is tested", Named::of::<Ping>()),
    ] {
        let operation = operation(kind, summary, data, components);
        paths.paths.insert(kind.to_owned(), PathItem::new(HttpMethod::Post, operation));
    }
    paths
}

fn operation(kind: &str, summary: &str, data: Named, components: &mut Components) -> Operation {
    let name = format!("{}Event", data.name);
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let instant = text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
    let event = ObjectBuilder::new()
        .description(Some(summary))
        .property("id", text().description(Some("Says which event it is, as `webhook-id` does.")))
        .required("id")
        .property("type", text().enum_values(Some([kind])))
        .required("type")
        .property("createdAt", instant.description(Some("When it happened.")))
        .required("createdAt")
        .property("data", reference(&data, components))
        .required("data")
        .build();
    components.schemas.insert(name.clone(), event.into());
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name(&name))).build();
    let mut operation = OperationBuilder::new()
        .operation_id(Some(kind))
        .summary(Some(summary))
        .request_body(Some(
            RequestBodyBuilder::new().content("application/json", body).required(Some(Required::True)).build(),
        ))
        .response("2XX", ResponseBuilder::new().description("Taken: it is not sent again."))
        .response("410", ResponseBuilder::new().description("The webhook is switched off."))
        .response("default", ResponseBuilder::new().description("Not taken: it is sent again, for three days."));
    for (name, about) in HEADERS {
        operation = operation.parameter(
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Header)
                .required(Required::True)
                .description(Some(about))
                .schema(Some(text())),
        );
    }
    operation.build()
}
