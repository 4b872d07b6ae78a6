//! Error type that all ports share.

use crate::store::StoreError;

/// The shared state could not be reached or did not respond in time. The call may have taken effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker is unavailable: {0}")]
pub struct Unavailable(pub String);

impl From<fred::error::Error> for Unavailable {
    fn from(error: fred::error::Error) -> Self {
        Unavailable(error.to_string())
    }
}

impl From<StoreError> for Unavailable {
    fn from(error: StoreError) -> Self {
        Unavailable(error.to_string())
    }
}
