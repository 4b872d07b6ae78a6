//! Generates the OpenAPI 3.1 document, which describes every endpoint of the route table.

use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn, PathItem, Paths};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Components, ContentBuilder, HeaderBuilder, InfoBuilder, KnownFormat, ObjectBuilder, OpenApi, OpenApiBuilder, RefOr,
    Required, Response, ResponseBuilder, Schema, SchemaFormat, ServerBuilder, Type,
};

use super::call_doc::{CallDoc, CallOutcome, Caller, Content, NamedSchema};
use super::events;
use super::operations::{TAGS, describe, tag};
use crate::domain::RoomName;
use crate::http::callers::{ACCESS_KEY, SECRET_KEY};
use crate::http::cookie::{HOST_REFRESH_COOKIE, SIGN_UP_COOKIE};
use crate::http::multipart::IMAGE_FIELDS;
use crate::http::routes::{TABLE, Verb};

const ABOUT: &str = "Live chat between the visitors of a site (guests) and its owner (host). Messages are exchanged over sockets \
    (`/api/asyncapi.json`); these calls manage chatrooms and accounts. Every path works with and without its trailing \
    slash. Request fields are accepted in camelCase and in snake_case, and unknown fields are ignored. Errors are JSON with `code` \
    and `detail`, and `fields` if fields are invalid. Times are UTC.";

/// Returns the document of a server at `public_url`.
pub(super) fn document(public_url: &str) -> OpenApi {
    let mut components = Components::new();
    for (name, scheme) in schemes() {
        components.add_security_scheme(name, scheme);
    }
    let mut paths = Paths::new();
    for route in TABLE {
        let has_id = route.template.contains("{id}");
        let has_name = route.template.contains("{name}");
        let mut item = PathItem::default();
        for (verb, call) in route.calls {
            let doc = if has_name { describe(*call).parameter(room_name()) } else { describe(*call) };
            let operation = operation(doc, tag(*call), has_id, &mut components);
            item.merge_operations(PathItem::new(method(*verb), operation));
        }
        paths.paths.insert(route.template.to_owned(), item);
    }
    OpenApiBuilder::new()
        .info(InfoBuilder::new().title("PinTalk").version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT)))
        .servers(Some([ServerBuilder::new().url(public_url).build()]))
        .tags(Some(TAGS.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build())))
        .paths(paths)
        .webhooks(Some(events::webhooks(&mut components)))
        .components(Some(components))
        .build()
}

fn schemes() -> [(&'static str, SecurityScheme); 5] {
    let header = |name, about| SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, about)));
    let cookie = |name, about| SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(name, about)));
    [
        (
            "accessToken",
            SecurityScheme::Http(
                HttpBuilder::new()
                    .scheme(HttpAuthScheme::Bearer)
                    .bearer_format("JWT")
                    .description(Some("Returned by login and refresh; valid for an hour."))
                    .build(),
            ),
        ),
        ("accessKey", header(ACCESS_KEY, "`accessKey` of the host.")),
        ("secretKey", header(SECRET_KEY, "`secretKey` of the host.")),
        (
            "refreshToken",
            cookie(HOST_REFRESH_COOKIE, "Set by login and refresh; `pintalk_refresh_token` is also read."),
        ),
        ("signUp", cookie(SIGN_UP_COOKIE, "Set by the steps of a sign-up; contains its progress.")),
    ]
}

fn method(verb: Verb) -> HttpMethod {
    match verb {
        Verb::Get => HttpMethod::Get,
        Verb::Post => HttpMethod::Post,
        Verb::Put => HttpMethod::Put,
        Verb::Patch => HttpMethod::Patch,
        Verb::Delete => HttpMethod::Delete,
    }
}

/// Describes the path parameter `{name}`, the name of a room.
fn room_name() -> ParameterBuilder {
    let length = RoomName::LEN;
    let name = ObjectBuilder::new().schema_type(Type::String).min_length(Some(length)).max_length(Some(length));
    ParameterBuilder::new()
        .name("name")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("The room's name."))
        .schema(Some(name.pattern(Some("^[A-Za-z0-9_-]+$"))))
}

fn operation(doc: CallDoc, tag: &str, has_id: bool, components: &mut Components) -> Operation {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(doc.id))
        .tag(tag)
        .summary(Some(doc.summary))
        .description(Some(doc.description));
    if has_id {
        let id =
            ObjectBuilder::new().schema_type(Type::Integer).format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)));
        let parameter = ParameterBuilder::new()
            .name("id")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(id.minimum(Some(0))));
        operation = operation.parameter(parameter);
    }
    for parameter in &doc.parameters {
        operation = operation.parameter(parameter.clone());
    }
    if let Some(security) = security(doc.caller) {
        operation = operation.security(security);
    }
    if let Some(body) = &doc.body {
        operation = operation.request_body(Some(request_body(body, doc.takes_image, components)));
    }
    let sets_cookie = doc.sets_cookie;
    for outcome in doc.outcomes(has_id) {
        let (status, mut response) = (outcome.status, response(outcome, components));
        if sets_cookie && status < 300 {
            let cookie = ObjectBuilder::new().schema_type(Type::String);
            response.headers.insert("Set-Cookie".to_owned(), HeaderBuilder::new().schema(Some(cookie)).build().into());
        }
        operation = operation.response(status.to_string(), response);
    }
    operation.build()
}

fn security(caller: Caller) -> Option<SecurityRequirement> {
    let only = |name: &str| SecurityRequirement::new(name, [""; 0]);
    match caller {
        Caller::Anonymous => None,
        Caller::Service => Some(only("accessKey").add("secretKey", [""; 0])),
        Caller::Host => Some(only("accessToken")),
        Caller::RefreshCookie => Some(only("refreshToken")),
        Caller::SignUpCookie => Some(only("signUp")),
    }
}

fn request_body(body: &NamedSchema, takes_image: bool, components: &mut Components) -> RequestBody {
    let json = ContentBuilder::new().schema(Some(body.reference(components))).build();
    // An absent body is read as an empty object.
    let may_be_empty = matches!(&body.schema, RefOr::T(Schema::Object(object)) if object.required.is_empty());
    let required = if may_be_empty { Required::False } else { Required::True };
    let all = RequestBodyBuilder::new().content("application/json", json).required(Some(required));
    if !takes_image {
        return all.build();
    }
    let [image, _] = IMAGE_FIELDS;
    let mut form = ObjectBuilder::new().property(
        image,
        ObjectBuilder::new()
            .schema_type(Type::String)
            .content_media_type("application/octet-stream")
            .description(Some("PNG, JPEG, WebP or GIF, at most 5 MiB; an empty file removes the image.")),
    );
    // All form fields are strings, so the types of the JSON fields do not apply.
    if let RefOr::T(Schema::Object(object)) = &body.schema {
        for name in object.properties.keys() {
            form = form.property(name, ObjectBuilder::new().schema_type(Type::String));
        }
    }
    all.content("multipart/form-data", ContentBuilder::new().schema(Some(form)).build()).build()
}

fn response(outcome: CallOutcome, components: &mut Components) -> Response {
    let mut response = ResponseBuilder::new().description(outcome.description);
    if outcome.is_error() && matches!(outcome.status, 429 | 503) {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
        let header = HeaderBuilder::new().schema(Some(seconds)).description(Some("Time until a retry, in seconds."));
        response = response.header("Retry-After", header.build());
    }
    match outcome.content {
        Content::Nothing => {}
        Content::Json(named) => {
            let content = ContentBuilder::new().schema(Some(named.reference(components)));
            response = response.content("application/json", content.build());
        }
        Content::Text(media_type) => {
            let text = ObjectBuilder::new().schema_type(Type::String);
            response = response.content(media_type, ContentBuilder::new().schema(Some(text)).build());
        }
    }
    response.build()
}
