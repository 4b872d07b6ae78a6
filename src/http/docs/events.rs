//! Describes the webhook events in the `webhooks` section of the OpenAPI document.

use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn, PathItem, Paths};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{
    Components, ContentBuilder, KnownFormat, ObjectBuilder, Ref, Required, ResponseBuilder, SchemaFormat, Type,
};

use super::call_doc::NamedSchema;
use crate::domain::EventKind;
use crate::protocol::webhook::{MessageCreated, PING, Ping, RoomClosed, RoomCreated};

/// Headers sent with an event.
const HEADERS: [(&str, &str); 3] = [
    ("webhook-id", "The event's `id`: the same in every attempt."),
    ("webhook-timestamp", "Time of the attempt, in seconds since 1970."),
    (
        "webhook-signature",
        "`v1,` and the signature in base64; two of them, separated by a space, for a day after the secret was changed.",
    ),
];

/// Returns the path item of each event, with the event type as its key.
pub(super) fn webhooks(components: &mut Components) -> Paths {
    let mut paths = Paths::new();
    for (kind, summary, data) in [
        (EventKind::RoomCreated.as_str(), "A guest opened a room", NamedSchema::of::<RoomCreated<'_>>()),
        (EventKind::MessageCreated.as_str(), "A message was sent", NamedSchema::of::<MessageCreated<'_>>()),
        (EventKind::RoomClosed.as_str(), "A room was closed", NamedSchema::of::<RoomClosed<'_>>()),
        (PING, "Test of the webhook", NamedSchema::of::<Ping>()),
    ] {
        let operation = operation(kind, summary, data, components);
        paths.paths.insert(kind.to_owned(), PathItem::new(HttpMethod::Post, operation));
    }
    paths
}

fn operation(kind: &str, summary: &str, data: NamedSchema, components: &mut Components) -> Operation {
    let name = format!("{}Event", data.name);
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let instant = text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
    let event = ObjectBuilder::new()
        .description(Some(summary))
        .property("id", text().description(Some("Id of the event, as in `webhook-id`.")))
        .required("id")
        .property("type", text().enum_values(Some([kind])))
        .required("type")
        .property("createdAt", instant.description(Some("Time of the event.")))
        .required("createdAt")
        .property("data", data.reference(components))
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
        .response("2XX", ResponseBuilder::new().description("The event is delivered."))
        .response("410", ResponseBuilder::new().description("The webhook is disabled."))
        .response("default", ResponseBuilder::new().description("The event is retried for three days."));
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
