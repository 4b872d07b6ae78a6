//! Leader lease of a single-node server. The node always holds the lease.

use async_trait::async_trait;

use crate::backend::Unavailable;
use crate::backend::lease::Lease;

/// Driver of [`Lease`] for a single-node server.
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
