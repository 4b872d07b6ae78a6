//! Reader of request bodies. It reads field by field and collects all validation errors.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The `fields` of a validation error (SPEC 1): the reason for each invalid field, by the field's camelCase name.
pub type FieldErrors = BTreeMap<&'static str, String>;

/// Request body that is being parsed. Each field is read in camelCase and in snake_case, because existing clients use
/// both. A field that is `null` counts as absent. If both spellings have a value, the camelCase value is used.
pub struct Fields<'a> {
    body: &'a Map<String, Value>,
    errors: FieldErrors,
}

impl<'a> Fields<'a> {
    pub(super) fn of(body: &'a Map<String, Value>) -> Self {
        Self { body, errors: FieldErrors::new() }
    }

    /// Returns a required string. Records an error and returns an empty string if the field is absent, blank or not a
    /// string.
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

    /// Returns an optional string. Records an error if the field has a value that is not a string.
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

    /// Returns an optional list of strings. Records an error if the field has any other value.
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

    /// Returns the value of a field that contains an unsigned integer. Returns `None` without an error for any other
    /// value.
    pub(super) fn number(&self, name: &'static str) -> Option<u64> {
        self.find(name)?.as_u64()
    }

    /// Returns whether a nullable field is `null`. Returns `false` if the other spelling of the field has a value.
    pub(super) fn is_null(&self, name: &'static str) -> bool {
        self.find(name).is_none() && self.spellings(name).next().is_some()
    }

    /// Returns an optional boolean. Records an error if the field has any other value.
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
