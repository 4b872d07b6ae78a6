//! Describes the calls that the widget sends. They contain the keys of a host's service.

use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, Required, Type};

use crate::http::docs::call_doc::{CallDoc, Caller};
use crate::protocol::api::{Client, ClientChatroom, ContactRequest, Email};

pub(super) fn open_room() -> CallDoc {
    CallDoc::new(
        "openChatroom",
        Caller::Service,
        "Open a chatroom",
        "Creates a room and a nickname for a visitor. The socket of the room is `/ws/chat/{name}/`. A browser must call from \
         a registered domain of the service; a server, which sends no `Origin`, is admitted by the keys alone.",
    )
    .parameter(
        ParameterBuilder::new()
            .name("Idempotency-Key")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some("Unique for each room of the service: a repeated call with the same key returns the same room."))
            .schema(Some(
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .min_length(Some(16))
                    .max_length(Some(64))
                    .pattern(Some("^[ -~]*$")),
            )),
    )
    .answers::<ClientChatroom<'_>>(201, "The room.")
    .refuses(429, "Too many rooms from this address, or by calls without `Origin` for this host: retry after `Retry-After` seconds.")
}

pub(super) fn set_contact() -> CallDoc {
    CallDoc::new(
        "setContact",
        Caller::Service,
        "Set the guest's e-mail address",
        "Sets the address to which a guest is e-mailed when an answer arrives while they are absent: once, until they have \
         been back. The first e-mail of a service to a mailbox asks for consent; answers are sent after it was given. \
         A new address replaces the previous one; the link in each e-mail unsubscribes the mailbox from the service.",
    )
    .reads::<ContactRequest>()
    .answers::<Email<'_>>(200, "The address.")
    .refuses(403, "The calling page is not on a registered domain of the service, or the room belongs to another service.")
    .refuses(404, "There is no such room.")
    .refuses(429, "Too many addresses set by this caller: retry after `Retry-After` seconds.")
}

pub(super) fn show_client() -> CallDoc {
    CallDoc::new(
        "showClient",
        Caller::Service,
        "Get the host of the service",
        "Returns the profile of the host that the widget shows.",
    )
    .answers::<Client<'_>>(200, "The host, as guests see it.")
    .refuses(429, "Too many calls with unknown keys from this address: retry after `Retry-After` seconds.")
}
