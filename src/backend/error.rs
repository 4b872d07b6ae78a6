//! Error type that all ports share.

use crate::domain::{StoreCause, StoreFault};
use crate::store::StoreError;

/// The shared state could not be reached or did not respond in time. The call may have taken effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub StoreFault);

impl From<fred::error::Error> for Unavailable {
    fn from(error: fred::error::Error) -> Self {
        Unavailable(StoreFault::redis(StoreCause::of_redis(&error), error.details()))
    }
}

impl From<StoreError> for Unavailable {
    fn from(error: StoreError) -> Self {
        Unavailable(error.into())
    }
}
