//! Validates the responses that tests receive against the OpenAPI document.

use std::sync::LazyLock;

use http::Method;
use serde_json::{Value, json};

use super::openapi;
use crate::http::pages::Pages;
use crate::http::routes::{self, Target, Verb};
use crate::http::testing::Answer;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::to_value(openapi::document("https://chat.example")).unwrap());

/// Panics if the document does not describe the response to a call. Ignores HEAD requests, and paths and methods that
/// are not in the route table.
pub(in crate::http) fn check(method: &str, path: &str, answer: &Answer) {
    let path = path.split('?').next().unwrap_or_default();
    let pages = Pages::new([]);
    let Target::Route(route, _) = routes::find(path, &pages) else { return };
    let is_documented = Method::from_bytes(method.as_bytes()).ok().and_then(|method| Verb::of(&method));
    if method == "HEAD" || is_documented.is_none_or(|verb| route.call(verb).is_none()) {
        return;
    }
    let operation = &DOCUMENT["paths"][route.template][method.to_lowercase()];
    let response = &operation["responses"][answer.status.as_str()];
    assert!(response.is_object(), "{method} {} says nothing of {answer:?}", route.template);
    let Some(contents) = response["content"].as_object() else {
        assert_eq!(answer.body, "", "{method} {}", route.template);
        return;
    };
    let content_type = answer.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
    let content = contents.get(content_type);
    let content = content.unwrap_or_else(|| panic!("{method} {} says nothing of {content_type}", route.template));
    if content_type == "application/json" {
        let schema = json!({"allOf": [content["schema"]], "components": DOCUMENT["components"]});
        validate(&schema, &answer.json());
    }
    for header in response["headers"].as_object().into_iter().flatten().map(|(name, _)| name) {
        assert!(answer.header(header).is_some(), "{header} of {answer:?}");
    }
}

pub(super) fn validate(schema: &Value, value: &Value) {
    let validator = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{value:#}: {errors:#?}");
}
