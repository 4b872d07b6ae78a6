//! Name resolution of HTTP clients, with an optional filter on the resolved addresses.
//!
//! **Invariant:** with a filter, a connection to a name is made only to an address that the filter has allowed in the
//! same lookup. IP addresses in URLs are not resolved: callers must check them before each request.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

/// Function that returns whether a connection to an address is allowed.
pub(crate) type AddressFilter = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Function that resolves a name to addresses.
pub(crate) type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// Error for a name that does not resolve to an allowed address.
#[derive(Debug, thiserror::Error)]
#[error("name resolves to no allowed address")]
pub(super) struct NoAddressAllowed;

/// Resolver of a client. Clones share the lookup and the filter.
#[derive(Clone)]
pub(crate) struct Resolver {
    lookup: Lookup,
    filter: Option<(AddressFilter, Duration)>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("is_filtered", &self.filter.is_some()).finish_non_exhaustive()
    }
}

impl Resolver {
    /// Creates a resolver that uses the system's name resolution without a filter.
    pub(crate) fn system() -> Self {
        Self { lookup: system_lookup(), filter: None }
    }

    /// Creates a resolver that returns only addresses that `filter` allows, and waits at most `timeout` for a lookup. A
    /// failed lookup returns the same error as a name without allowed addresses. Different errors would reveal which
    /// names exist.
    pub(crate) fn filtered(lookup: Lookup, filter: AddressFilter, timeout: Duration) -> Self {
        Self { lookup, filter: Some((filter, timeout)) }
    }

    async fn resolve(self, name: String) -> io::Result<Vec<SocketAddr>> {
        let addresses = match self.filter {
            None => (self.lookup)(name).await?,
            Some((filter, timeout)) => {
                let addresses = lookup_within(timeout, (self.lookup)(name)).await;
                let allowed: Vec<IpAddr> = addresses.into_iter().filter(|address| filter(*address)).collect();
                if allowed.is_empty() {
                    return Err(io::Error::other(NoAddressAllowed));
                }
                allowed
            }
        };
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect())
    }
}

/// Returns the lookup function of the operating system.
pub(crate) fn system_lookup() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect()) })
    })
}

/// Returns the resolved addresses. Returns an empty list if the lookup fails or takes longer than `timeout`.
async fn lookup_within(timeout: Duration, lookup: BoxFuture<'static, io::Result<Vec<IpAddr>>>) -> Vec<IpAddr> {
    match tokio::time::timeout(timeout, lookup).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => {
            tracing::debug!(%error, "failed to resolve name");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

/// Returns whether an error is [`NoAddressAllowed`] or an I/O error that contains it. An I/O error does not report the
/// contained error as its source.
pub(super) fn is_no_address_allowed(error: &(dyn std::error::Error + 'static)) -> bool {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is::<NoAddressAllowed>() || inner.is_some_and(|inner| inner.is::<NoAddressAllowed>())
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolving = self.clone().resolve(name.as_str().to_owned());
        Box::pin(async move { Ok(resolving.await?.into_iter()) })
    }
}
