//! Renders the HTML page from the OpenAPI and AsyncAPI documents. All information on the page is therefore also
//! available to code generators. The page has no script and loads nothing from other sites.

use minijinja::{Environment, HtmlEscape, Value as Template, context};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::openapi::OpenApi;

use super::operations::TAGS;
use crate::domain::url_path;

const TEMPLATE: &str = include_str!("docs.html");

/// HTTP methods, in display order.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Prefix of a reference to a schema.
const SCHEMAS: &str = "#/components/schemas/";

#[derive(Serialize)]
struct Part {
    id: String,
    name: &'static str,
    about: &'static str,
    calls: Vec<CallView>,
}

#[derive(Serialize)]
struct CallView {
    id: String,
    method: String,
    path: String,
    summary: String,
    description: String,
    parameters: Vec<Row>,
    body: Vec<Row>,
    is_form: bool,
    answers: Vec<AnswerView>,
    curl: String,
}

/// Table row that describes a field or parameter.
#[derive(Serialize)]
struct Row {
    name: String,
    place: String,
    kind: String,
    is_required: bool,
    about: String,
}

#[derive(Serialize)]
struct AnswerView {
    status: String,
    about: String,
    schema: Option<String>,
}

#[derive(Serialize)]
struct Schema {
    name: String,
    about: String,
    rows: Vec<Row>,
}

/// Webhook event as shown on the page.
#[derive(Serialize)]
struct EventView {
    kind: String,
    about: String,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Channel {
    address: String,
    about: String,
    query: Vec<Row>,
    received: Vec<FrameView>,
    sent: Vec<FrameView>,
}

#[derive(Serialize)]
struct FrameView {
    about: String,
    examples: Vec<String>,
}

/// Renders the page. Returns an empty string if the template is invalid. A test checks that the template is valid.
pub(super) fn render(public_url: &str, calls: &OpenApi, sockets: &Value) -> String {
    let reader = Reader { document: serde_json::to_value(calls).unwrap_or_default(), public_url };
    let mut templates = Environment::new();
    templates.add_filter("words", words);
    let context = context! {
        about => reader.document["info"]["description"],
        version => env!("CARGO_PKG_VERSION"),
        path => url_path(public_url),
        parts => reader.parts(calls),
        events => reader.events(),
        schemas => reader.schemas(),
        sockets_about => sockets["info"]["description"],
        channels => channels(sockets),
        close_codes => sockets["x-close-codes"],
    };
    let html = templates.render_named_str("docs.html", TEMPLATE, context).unwrap_or_else(|error| {
        tracing::error!(%error, "failed to render api page");
        String::new()
    });
    // minijinja also escapes slashes, which HTML does not require. They are restored so that the page is easier to read
    // with `curl`.
    html.replace("&#x2f;", "/")
}

/// Converts text to HTML. Text between backticks becomes a `code` element.
fn words(text: &str) -> Template {
    let mut html = String::new();
    for (at, piece) in text.split('`').enumerate() {
        let piece = HtmlEscape(piece);
        // Every second piece was between backticks.
        html.push_str(&if at % 2 == 1 { format!("<code>{piece}</code>") } else { piece.to_string() });
    }
    Template::from_safe_string(html)
}

/// Reads the parts of the OpenAPI document that the page shows.
struct Reader<'a> {
    document: Value,
    public_url: &'a str,
}

impl Reader<'_> {
    fn parts(&self, calls: &OpenApi) -> Vec<Part> {
        let mut parts = TAGS.map(|(name, about)| Part { id: name.replace(' ', "-"), name, about, calls: Vec::new() });
        // Only the typed document preserves the order of paths.
        for path in calls.paths.paths.keys() {
            for method in METHODS {
                let operation = &self.document["paths"][path][method];
                if let Some(part) = parts.iter_mut().find(|part| operation["tags"][0] == part.name) {
                    part.calls.push(self.call(path, method, operation));
                }
            }
        }
        parts.into()
    }

    fn call(&self, path: &str, method: &str, operation: &Value) -> CallView {
        let answers = operation["responses"].as_object().into_iter().flatten().map(|(status, response)| AnswerView {
            status: status.clone(),
            about: text(&response["description"]),
            schema: schema_name(&response["content"]["application/json"]["schema"]),
        });
        let bodies = &operation["requestBody"]["content"];
        CallView {
            id: text(&operation["operationId"]),
            method: method.to_uppercase(),
            path: path.to_owned(),
            summary: text(&operation["summary"]),
            description: text(&operation["description"]),
            parameters: parameters(operation).collect(),
            body: self.body(bodies),
            is_form: bodies["multipart/form-data"].is_object(),
            answers: answers.collect(),
            curl: self.curl(path, method, operation),
        }
    }

    fn events(&self) -> Vec<EventView> {
        let webhooks = self.document["webhooks"].as_object().into_iter().flatten();
        let events = webhooks.map(|(name, item)| {
            let operation = &item["post"];
            let mut rows: Vec<Row> = parameters(operation).collect();
            rows.extend(self.rows(&operation["requestBody"]["content"]["application/json"]["schema"]));
            EventView { kind: name.clone(), about: text(&operation["summary"]), rows }
        });
        events.collect()
    }

    fn schemas(&self) -> Vec<Schema> {
        let schemas = self.document["components"]["schemas"].as_object().into_iter().flatten();
        schemas
            .map(|(name, schema)| Schema {
                name: name.clone(),
                about: text(&schema["description"]),
                rows: self.rows(schema),
            })
            .collect()
    }

    /// Returns the fields of a body from its JSON and form schemas.
    fn body(&self, bodies: &Value) -> Vec<Row> {
        let mut rows = self.rows(&bodies["application/json"]["schema"]);
        for row in self.rows(&bodies["multipart/form-data"]["schema"]) {
            if rows.iter().all(|known| known.name != row.name) {
                rows.push(Row { kind: "file, in a form".to_owned(), ..row });
            }
        }
        rows
    }

    /// Returns the fields of an object, including those of its `allOf` parts and `anyOf` alternatives.
    fn rows(&self, schema: &Value) -> Vec<Row> {
        if let Some(name) = schema_name(schema) {
            return self.rows(&self.document["components"]["schemas"][name]);
        }
        let mut rows: Vec<Row> =
            schema["allOf"].as_array().into_iter().flatten().flat_map(|part| self.rows(part)).collect();
        // A field of an alternative is not required.
        let alternatives = schema["anyOf"].as_array().into_iter().flatten().flat_map(|part| self.rows(part));
        rows.extend(alternatives.map(|row| Row { is_required: false, ..row }));
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        rows.extend(schema["properties"].as_object().into_iter().flatten().map(|(name, property)| Row {
            name: name.clone(),
            place: String::new(),
            kind: kind(property),
            is_required: required.iter().any(|required| required == name),
            about: text(&property["description"]),
        }));
        rows
    }

    /// Returns an example of a call as a `curl` command.
    fn curl(&self, path: &str, method: &str, operation: &Value) -> String {
        let mut curl = "curl".to_owned();
        if method != "get" {
            curl.push_str(&format!(" -X {}", method.to_uppercase()));
        }
        curl.push_str(&format!(" {}{}", self.public_url, path.replace("{id}", "$ID").replace("{name}", "$ROOM")));
        let mut more = |text: &str| curl.push_str(&format!(" \\\n  {text}"));
        let (mut reads_cookie, mut sets_cookie) = (false, false);
        for scheme in operation["security"][0].as_object().into_iter().flatten().map(|(name, _)| name.as_str()) {
            match scheme {
                "accessToken" => more("-H \"Authorization: Bearer $ACCESS_TOKEN\""),
                "accessKey" => more("-H \"X-PinTalk-Access-Key: $ACCESS_KEY\""),
                "secretKey" => more("-H \"X-PinTalk-Secret-Key: $SECRET_KEY\""),
                _ => reads_cookie = true,
            }
        }
        for (_, response) in operation["responses"].as_object().into_iter().flatten() {
            sets_cookie |= response["headers"]["Set-Cookie"].is_object();
        }
        if reads_cookie {
            more("-b cookies");
        }
        if sets_cookie {
            more("-c cookies");
        }
        let body = self.example(&operation["requestBody"]["content"]["application/json"]["schema"]);
        if !body.is_empty() {
            more("-H 'Content-Type: application/json'");
            more(&format!("-d '{}'", Value::Object(body)));
        }
        let form = &operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"];
        for (name, _) in
            form.as_object().into_iter().flatten().filter(|(_, field)| field["contentMediaType"].is_string())
        {
            more(&format!("# or, in place of -H and -d:  -F {name}=@picture.jpg"));
        }
        curl
    }

    /// Builds a body from the examples of its fields.
    fn example(&self, schema: &Value) -> Map<String, Value> {
        if let Some(name) = schema_name(schema) {
            return self.example(&self.document["components"]["schemas"][name]);
        }
        let first = &schema["anyOf"][0];
        let properties = if first.is_object() { &first["properties"] } else { &schema["properties"] };
        let examples = properties.as_object().into_iter().flatten().filter_map(|(name, property)| {
            let example = match (&property["examples"][0], property["type"].as_str()) {
                (Value::Null, Some("boolean")) => Value::Bool(true),
                (Value::Null, _) => return None,
                (example, _) => example.clone(),
            };
            Some((name.clone(), example))
        });
        examples.collect()
    }
}

fn parameters(operation: &Value) -> impl Iterator<Item = Row> {
    operation["parameters"].as_array().into_iter().flatten().map(|parameter| Row {
        name: text(&parameter["name"]),
        place: text(&parameter["in"]),
        kind: kind(&parameter["schema"]),
        is_required: parameter["required"] == true,
        about: text(&parameter["description"]),
    })
}

fn channels(sockets: &Value) -> Vec<Channel> {
    let channels = sockets["channels"].as_object().into_iter().flatten();
    channels
        .map(|(name, channel)| {
            let query = &channel["bindings"]["ws"]["query"]["properties"];
            let query = query.as_object().into_iter().flatten().map(|(name, parameter)| Row {
                name: name.clone(),
                place: "query".to_owned(),
                kind: kind(parameter),
                is_required: false,
                about: text(&parameter["description"]),
            });
            Channel {
                address: text(&channel["address"]),
                about: text(&channel["description"]),
                query: query.collect(),
                received: frames(sockets, name, "receive"),
                sent: frames(sockets, name, "send"),
            }
        })
        .collect()
}

fn frames(sockets: &Value, channel: &str, action: &str) -> Vec<FrameView> {
    let operations = sockets["operations"].as_object().into_iter().flatten();
    let channel = format!("#/channels/{channel}");
    operations
        .filter(|(_, operation)| operation["action"] == action && operation["channel"]["$ref"] == channel.as_str())
        .map(|(_, operation)| {
            let message = text(&operation["messages"][0]["$ref"]);
            let name = message.rsplit('/').next().unwrap_or_default();
            let examples = sockets["components"]["messages"][name]["examples"].as_array().into_iter().flatten();
            FrameView {
                about: text(&operation["summary"]),
                examples: examples.map(|example| example["payload"].to_string()).collect(),
            }
        })
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Returns the name of the referenced schema.
fn schema_name(schema: &Value) -> Option<String> {
    Some(schema["$ref"].as_str()?.strip_prefix(SCHEMAS)?.to_owned())
}

/// Returns a short name for the type that a schema describes.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema_name(schema) {
        return name;
    }
    let kind = match &schema["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => kinds.iter().map(text).collect::<Vec<_>>().join(" or "),
        _ => {
            let alternatives = ["anyOf", "oneOf", "allOf"].iter().filter_map(|word| schema[word].as_array()).flatten();
            alternatives.map(kind).collect::<Vec<_>>().join(" or ")
        }
    };
    if let Some(values) = schema["enum"].as_array().filter(|values| values.len() == 1) {
        return values.iter().map(|value| if value == "" { "empty".to_owned() } else { value.to_string() }).collect();
    }
    match (&schema["items"], schema["format"].as_str()) {
        (items, _) if items.is_object() => format!("{kind} of {}", self::kind(items)),
        (_, Some(format)) => format!("{kind} ({format})"),
        _ => kind,
    }
}
