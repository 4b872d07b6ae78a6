//! A call in words, and what follows from them: whoever needs a token can be told 401, whoever sends a body 413, and so on.

use std::borrow::Cow;

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{ObjectBuilder, RefOr, Required, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::protocol::api::{ErrorBody, Page, RequestBody};

/// How a caller shows who he is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// He need not.
    Anybody,
    /// By the keys of a service.
    Service,
    /// By an access token.
    Host,
    /// By the cookie of a login.
    RefreshCookie,
    /// By the cookie of a sign-up that has come so far.
    SignUpCookie,
}

/// A schema under its name.
pub(super) struct Named {
    pub name: Cow<'static, str>,
    pub schema: RefOr<Schema>,
    /// Those that it refers to.
    pub others: Vec<(String, RefOr<Schema>)>,
}

impl Named {
    pub(super) fn of<T: ToSchema>() -> Self {
        let mut others = Vec::new();
        T::schemas(&mut others);
        Self { name: T::name(), schema: T::schema(), others }
    }

    pub(super) fn page_of<T: ToSchema>() -> Self {
        let Self { name, schema, mut others } = Self::of::<T>();
        others.push((name.clone().into_owned(), schema));
        Self { name: format!("{name}Page").into(), schema: Page::<T>::schema(), others }
    }
}

/// What an answer holds.
pub(super) enum Content {
    Nothing,
    Json(Box<Named>),
    Text(&'static str),
}

impl Content {
    pub(super) fn json(schema: Named) -> Self {
        Self::Json(Box::new(schema))
    }
}

/// One way in which a call ends.
pub(super) struct Outcome {
    pub status: u16,
    pub description: &'static str,
    pub content: Content,
}

impl Outcome {
    fn error(status: u16, description: &'static str) -> Self {
        Self { status, description, content: Content::json(Named::of::<ErrorBody<'_>>()) }
    }

    /// Whether it is told as errors are.
    pub(super) fn is_error(&self) -> bool {
        matches!(&self.content, Content::Json(named) if named.name == ErrorBody::name())
    }
}

/// A call in words.
pub(super) struct Sketch {
    /// The name under which generators know it.
    pub id: &'static str,
    pub summary: &'static str,
    pub description: &'static str,
    pub caller: Caller,
    pub body: Option<Named>,
    /// Whether the body may also be a form with an image.
    pub takes_image: bool,
    /// Whether a cookie comes with what went well.
    pub sets_cookie: bool,
    pub parameters: Vec<Parameter>,
    own: Vec<Outcome>,
    /// Whether it is JSON for clients, and can fail as all such calls can.
    is_api: bool,
}

impl Sketch {
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
        self.body = Some(Named::of::<T>());
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
        self.own.push(Outcome { status, description, content });
        self
    }

    pub(super) fn answers<T: ToSchema>(self, status: u16, description: &'static str) -> Self {
        self.ends(status, description, Content::json(Named::of::<T>()))
    }

    pub(super) fn refuses(mut self, status: u16, description: &'static str) -> Self {
        self.own.push(Outcome::error(status, description));
        self
    }

    /// Every way in which it may end, on a route that has an id in its path or not. What it says itself comes first.
    pub(super) fn outcomes(self, has_id: bool) -> Vec<Outcome> {
        let mut all = self.own;
        let mut add = |status, description| {
            if all.iter().all(|outcome| outcome.status != status) {
                all.push(Outcome::error(status, description));
            }
        };
        let reads = self.body.is_some();
        if !self.is_api {
            return all;
        }
        if reads || self.caller == Caller::Service || !self.parameters.is_empty() {
            add(400, "Something that was sent is missing or not valid; `fields` says what.");
        }
        match self.caller {
            Caller::Host => add(401, "No access token, or one that is not valid, has expired, or was ended."),
            Caller::Service => {
                add(401, "These keys are unknown.");
                add(403, "The page that calls is not on a registered domain of the service.");
            }
            Caller::Anybody | Caller::RefreshCookie | Caller::SignUpCookie => {}
        }
        if has_id {
            add(403, "This belongs to somebody else.");
            add(404, "There is nothing of this id.");
        }
        add(406, "`Accept` does not admit `application/json; version=1`.");
        if reads {
            add(408, "The body took too long to arrive.");
            add(413, "The body is too large.");
            add(415, "The body is of another type.");
        }
        add(500, "Something went wrong on the server.");
        add(503, "The server starts, ends, or cannot do this right now: try again.");
        all.sort_by_key(|outcome| outcome.status);
        all
    }
}

/// A whole number in the query, from `least` on.
pub(super) fn integer(name: &str, least: u64, default: Option<u64>, description: &str) -> ParameterBuilder {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least)).default(default.map(Into::into));
    // An empty parameter is none.
    let empty = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([""]));
    query(name, description).schema(Some(AnyOfBuilder::new().item(number).item(empty)))
}

/// A parameter in the query, which may be left out.
pub(super) fn query(name: &str, description: &str) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
}
