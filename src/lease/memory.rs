//! The lease of a single node: there is nobody else.

use async_trait::async_trait;

use super::Lease;
use crate::broker::Unavailable;

/// The driver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SoleLease;

#[async_trait]
impl Lease for SoleLease {
    async fn hold(&self) -> Result<bool, Unavailable> {
        Ok(true)
    }

    async fn release(&self) -> Result<(), Unavailable> {
        Ok(())
    }
}
