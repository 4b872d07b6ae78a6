//! Changing the keys of a service.

use serde_json::{Map, Value};

use super::fields::{FieldErrors, Fields};

/// `POST /api/users/<id>/keys/`. The body may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeysRequest {
    /// Whether the keys until now end at once. Else they go on for a while.
    pub revoke_old: bool,
}

impl KeysRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub fn read(body: &Map<String, Value>) -> Result<Self, FieldErrors> {
        let mut fields = Fields::of(body);
        let request = Self { revoke_old: fields.flag("revokeOld").unwrap_or(false) };
        fields.finish(request)
    }
}
