//! Reads a request body field by field and collects every validation error.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Reason for each invalid field, by the field's camelCase name: the `fields` of a validation error (SPEC 1).
pub type FieldErrors = BTreeMap<&'static str, String>;

/// Request body that is being parsed. Each field is read in camelCase and in snake_case, because existing clients mix
/// both. `null` is treated as absent. If both spellings have a value, camelCase is used.
pub struct Fields<'a> {
    body: &'a Map<String, Value>,
    errors: FieldErrors,
}

impl<'a> Fields<'a> {
    pub(super) fn of(body: &'a Map<String, Value>) -> Self {
        Self { body, errors: FieldErrors::new() }
    }

    /// Returns a required text. Absent and blank texts are errors.
    pub(super) fn text(&mut self, name: &'static str) -> String {
        let why = match self.find(name) {
            Some(Value::String(text)) if !text.trim().is_empty() => return text.clone(),
            Some(Value::String(_)) => "must not be blank",
            Some(_) => "must be a string",
            None => "is required",
        };
        self.wrong(name, why);
        String::new()
    }

    /// Returns an optional text.
    pub(super) fn maybe_text(&mut self, name: &'static str) -> Option<String> {
        match self.find(name) {
            Some(Value::String(text)) => Some(text.clone()),
            None => None,
            Some(_) => {
                self.wrong(name, "must be a string");
                None
            }
        }
    }

    /// Returns an optional list of texts.
    pub(super) fn texts(&mut self, name: &'static str) -> Option<Vec<&'a str>> {
        let texts = match self.find(name) {
            Some(Value::Array(values)) => values.iter().map(Value::as_str).collect::<Option<Vec<_>>>(),
            None => return None,
            Some(_) => None,
        };
        if texts.is_none() {
            self.wrong(name, "must be a list of strings");
        }
        texts
    }

    /// Returns the value of a field that is an unsigned integer; `None` for other values, which are not errors.
    pub(super) fn number(&self, name: &'static str) -> Option<u64> {
        self.find(name)?.as_u64()
    }

    /// Whether a nullable field is `null` and has no value in the other spelling.
    pub(super) fn is_null(&self, name: &'static str) -> bool {
        self.find(name).is_none() && self.spellings(name).next().is_some()
    }

    /// Returns an optional boolean.
    pub(super) fn flag(&mut self, name: &'static str) -> Option<bool> {
        match self.find(name) {
            Some(Value::Bool(flag)) => Some(*flag),
            Some(_) => {
                self.wrong(name, "must be true or false");
                None
            }
            None => None,
        }
    }

    pub(super) fn wrong(&mut self, name: &'static str, why: &str) {
        self.errors.insert(name, why.to_owned());
    }

    pub(super) fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    pub(super) fn finish<T>(self, value: T) -> Result<T, FieldErrors> {
        if self.errors.is_empty() { Ok(value) } else { Err(self.errors) }
    }

    fn find(&self, name: &str) -> Option<&'a Value> {
        self.spellings(name).find(|value| !value.is_null())
    }

    fn spellings(&self, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
        [self.body.get(name), self.body.get(&snake_case(name))].into_iter().flatten()
    }
}

fn snake_case(camel: &str) -> String {
    camel.chars().fold(String::with_capacity(camel.len() + 4), |mut snake, c| {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
        snake
    })
}
