//! Description of an API call. Some outcomes follow from the properties of the call: a call with a token can return
//! 401, and a call with a body can return 413.

use std::borrow::Cow;

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{Components, ObjectBuilder, Ref, RefOr, Required, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::protocol::api::{ErrorBody, Paginated, RequestBody};

/// Authentication of the caller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// The caller is not authenticated.
    Anonymous,
    /// The caller presents the keys of a service.
    Service,
    /// The caller presents the access token of a host.
    Host,
    /// The caller presents the refresh cookie of a login.
    RefreshCookie,
    /// The caller presents the cookie of a sign-up whose previous step is complete.
    SignUpCookie,
}

/// OpenAPI schema with its name.
pub(super) struct NamedSchema {
    pub name: Cow<'static, str>,
    pub schema: RefOr<Schema>,
    /// Schemas to which this schema refers.
    pub others: Vec<(String, RefOr<Schema>)>,
}

impl NamedSchema {
    pub(super) fn of<T: ToSchema>() -> Self {
        let mut others = Vec::new();
        T::schemas(&mut others);
        Self { name: T::name(), schema: T::schema(), others }
    }

    pub(super) fn page_of<T: ToSchema>() -> Self {
        let Self { name, schema, mut others } = Self::of::<T>();
        others.push((name.clone().into_owned(), schema));
        Self { name: format!("{name}Page").into(), schema: Paginated::<T>::schema(), others }
    }

    /// Adds the schema to the components and returns a reference to it.
    pub(super) fn reference(&self, components: &mut Components) -> Ref {
        let known = &mut components.schemas;
        known.insert(self.name.clone().into_owned(), self.schema.clone());
        known.extend(self.others.iter().cloned());
        Ref::from_schema_name(self.name.as_ref())
    }
}

pub(super) enum Content {
    Nothing,
    Json(Box<NamedSchema>),
    Text(&'static str),
}

impl Content {
    pub(super) fn json(schema: NamedSchema) -> Self {
        Self::Json(Box::new(schema))
    }
}

/// Status, description and content of a possible response.
pub(super) struct CallOutcome {
    pub status: u16,
    pub description: &'static str,
    pub content: Content,
}

impl CallOutcome {
    fn error(status: u16, description: &'static str) -> Self {
        Self { status, description, content: Content::json(NamedSchema::of::<ErrorBody<'_>>()) }
    }

    /// Returns whether the body is an error body.
    pub(super) fn is_error(&self) -> bool {
        matches!(&self.content, Content::Json(named) if named.name == ErrorBody::name())
    }
}

/// Description of an API call.
pub(super) struct CallDoc {
    /// `operationId`, which code generators use as the name of a function.
    pub id: &'static str,
    pub summary: &'static str,
    pub description: &'static str,
    pub caller: Caller,
    pub body: Option<NamedSchema>,
    /// Whether the body may also be a form that contains an image.
    pub takes_image: bool,
    /// Whether a successful response sets a cookie.
    pub sets_cookie: bool,
    pub parameters: Vec<Parameter>,
    own: Vec<CallOutcome>,
    /// Whether the call is for API clients. A call for operators has only its explicitly listed outcomes.
    is_api: bool,
}

impl CallDoc {
    pub(super) fn new(id: &'static str, caller: Caller, summary: &'static str, description: &'static str) -> Self {
        let (body, parameters, own) = (None, Vec::new(), Vec::new());
        Self {
            id,
            summary,
            description,
            caller,
            body,
            takes_image: false,
            sets_cookie: false,
            parameters,
            own,
            is_api: true,
        }
    }

    pub(super) fn reads<T: RequestBody>(mut self) -> Self {
        self.body = Some(NamedSchema::of::<T>());
        self
    }

    pub(super) fn takes_image(mut self) -> Self {
        self.takes_image = true;
        self
    }

    pub(super) fn for_operators(mut self) -> Self {
        self.is_api = false;
        self
    }

    pub(super) fn sets_cookie(mut self) -> Self {
        self.sets_cookie = true;
        self
    }

    pub(super) fn parameter(mut self, parameter: ParameterBuilder) -> Self {
        self.parameters.push(parameter.build());
        self
    }

    pub(super) fn ends(mut self, status: u16, description: &'static str, content: Content) -> Self {
        self.own.push(CallOutcome { status, description, content });
        self
    }

    pub(super) fn answers<T: ToSchema>(self, status: u16, description: &'static str) -> Self {
        self.ends(status, description, Content::json(NamedSchema::of::<T>()))
    }

    pub(super) fn refuses(mut self, status: u16, description: &'static str) -> Self {
        self.own.push(CallOutcome::error(status, description));
        self
    }

    /// Returns all outcomes. For API clients, adds the common outcomes whose status is not listed explicitly, and sorts
    /// by status. `has_id` is `true` if the path contains an id.
    pub(super) fn outcomes(self, has_id: bool) -> Vec<CallOutcome> {
        let mut all = self.own;
        let mut add = |status, description| {
            if all.iter().all(|outcome| outcome.status != status) {
                all.push(CallOutcome::error(status, description));
            }
        };
        let reads = self.body.is_some();
        if !self.is_api {
            return all;
        }
        if reads || self.caller == Caller::Service || !self.parameters.is_empty() {
            add(400, "Part of the request is missing or invalid; `fields` lists the invalid fields.");
        }
        match self.caller {
            Caller::Host => add(401, "The access token is missing, invalid or expired, or its login has ended."),
            Caller::Service => {
                add(401, "The keys are unknown.");
                add(403, "The calling page is not on a registered domain of the service.");
            }
            Caller::Anonymous | Caller::RefreshCookie | Caller::SignUpCookie => {}
        }
        if has_id {
            add(403, "The resource belongs to another host.");
            add(404, "There is no resource with this id.");
        }
        add(406, "`Accept` does not admit `application/json; version=1`.");
        if reads {
            add(408, "The request body did not arrive in time.");
            add(413, "The request body is too large.");
            add(415, "The content type of the request body is not supported.");
        }
        add(500, "Internal server error.");
        add(503, "The server is starting, draining, or temporarily unavailable: try again.");
        all.sort_by_key(|outcome| outcome.status);
        all
    }
}

/// Describes an integer query parameter with a minimum value.
pub(super) fn integer(name: &str, least: u64, default: Option<u64>, description: &str) -> ParameterBuilder {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least)).default(default.map(Into::into));
    // An empty parameter is treated as absent.
    let empty = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([""]));
    query(name, description).schema(Some(AnyOfBuilder::new().item(number).item(empty)))
}

/// Describes an optional query parameter.
pub(super) fn query(name: &str, description: &str) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
}
