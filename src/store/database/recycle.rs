//! Decides which pooled connections are closed instead of reused: those opened before the last failure that may affect
//! only existing connections.
//!
//! A pool resolves the host name of its server for each new connection, so that new connections reach the new primary
//! after a failover.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use sea_orm::sqlx;

/// How long an idle or cancelled connection may take to respond to a ping before it is closed. This allows for one
/// round trip and a slow server.
const ANSWER: Duration = Duration::from_secs(1);

/// Delay between two attempts to reach a server that does not respond.
const RECONNECT: Duration = Duration::from_millis(250);

/// Minimum interval between replacements of the readers. Without it, each failed write on a read-only server would
/// replace all of them.
const READERS_INTERVAL: Duration = Duration::from_secs(1);

/// Time after which a connection whose caller was cancelled has been returned to its pool or closed. It is longer than
/// any operation.
const CANCELLED_FOR: Duration = Duration::from_secs(15);

/// Purpose of a pool's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Use {
    Read,
    Write,
}

/// State shared by the pools of one store. Times are in milliseconds since `began`; 0 means never.
#[derive(Debug)]
pub(in crate::store) struct Recycle {
    began: Instant,
    writers: AtomicU64,
    readers: AtomicU64,
    cancelled: AtomicU64,
    /// Time at which a connection last failed to respond.
    silent: AtomicU64,
}

impl Recycle {
    pub(in crate::store) fn new() -> Self {
        Self {
            began: Instant::now(),
            writers: AtomicU64::default(),
            readers: AtomicU64::default(),
            cancelled: AtomicU64::default(),
            silent: AtomicU64::default(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Closes every connection that is open now, as soon as it is idle.
    pub(in crate::store) fn discard(&self) {
        let now = self.now();
        self.writers.fetch_max(now, Relaxed);
        let interval = READERS_INTERVAL.as_millis() as u64;
        let due = |last: u64| (last == 0 || now.saturating_sub(last) >= interval).then_some(now);
        // An error means that a concurrent call has just replaced the readers.
        let _is_recent = self.readers.fetch_update(Relaxed, Relaxed, due);
    }

    /// Returns the time of the last call of [`discard`](Self::discard).
    pub(in crate::store) fn discarded(&self) -> u64 {
        self.writers.load(Relaxed)
    }

    /// Returns a guard for one operation. Dropping it without [`RunningOperation::done`] records that the operation was
    /// cancelled.
    pub(in crate::store) fn running(&self) -> RunningOperation<'_> {
        RunningOperation { recycle: self, is_done: false }
    }

    /// Returns whether a connection was opened before the last fault of connections and must not be reused.
    pub(in crate::store) fn is_discarded(&self, of: Use, age: Duration) -> bool {
        let before = match of {
            Use::Read => self.readers.load(Relaxed),
            Use::Write => self.writers.load(Relaxed),
        };
        before > 0 && self.opened(age) <= u128::from(before)
    }

    /// Returns whether an idle connection may be used. The pool closes it otherwise.
    pub(in crate::store) async fn may_use<C: sqlx::Connection>(
        &self,
        of: Use,
        connection: &mut C,
        age: Duration,
        options: &C::Options,
    ) -> bool {
        if self.is_silent(age) {
            abandon(connection, options).await;
            return false;
        }
        self.answers(connection, options).await && !self.is_discarded(of, age)
    }

    /// Returns whether a connection may return to its pool. After a cancelled operation, a response is still to be
    /// received from the connection. A server that stalls never sends it. Without a time limit, the connection would
    /// occupy a slot of the pool.
    pub(in crate::store) async fn may_return<C: sqlx::Connection>(
        &self,
        of: Use,
        connection: &mut C,
        age: Duration,
        options: &C::Options,
    ) -> bool {
        let cancelled = self.cancelled.load(Relaxed);
        let is_discarded = self.is_discarded(of, age);
        let is_clean = cancelled == 0 || self.now().saturating_sub(cancelled) > CANCELLED_FOR.as_millis() as u64;
        if is_clean && !is_discarded {
            return true;
        }
        self.answers(connection, options).await && !is_discarded
    }

    /// Returns whether a connection responds in time. If not, the connection is replaced, and older idle connections
    /// are replaced at their next use.
    async fn answers<C: sqlx::Connection>(&self, connection: &mut C, options: &C::Options) -> bool {
        match tokio::time::timeout(ANSWER, connection.ping()).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::debug!(%error, "sql connection failed liveness check, closing connection");
                false
            }
            Err(_) => {
                tracing::debug!("sql connection unresponsive, closing connection");
                self.silent.fetch_max(self.now(), Relaxed);
                abandon(connection, options).await;
                false
            }
        }
    }

    fn is_silent(&self, age: Duration) -> bool {
        let before = self.silent.load(Relaxed);
        before > 0 && self.opened(age) <= u128::from(before)
    }

    /// Time at which a connection was opened, in milliseconds since `began`, rounded down: a connection opened in the
    /// same millisecond as a fault counts as older.
    fn opened(&self, age: Duration) -> u128 {
        self.began.elapsed().saturating_sub(age).as_millis()
    }
}

/// Drops a connection that does not respond and replaces it by a new one, which the pool then closes. Closing the old
/// connection could wait without limit: over TLS, the driver closes a connection only after data was received from the
/// peer.
async fn abandon<C: sqlx::Connection>(connection: &mut C, options: &C::Options) {
    loop {
        if let Ok(Ok(fresh)) = tokio::time::timeout(ANSWER, C::connect_with(options)).await {
            *connection = fresh;
            return;
        }
        // The slot of the pool remains occupied while the server is unreachable. No other connection could be opened in
        // that time.
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Guard returned by [`Recycle::running`].
pub(in crate::store) struct RunningOperation<'a> {
    recycle: &'a Recycle,
    is_done: bool,
}

impl RunningOperation<'_> {
    pub(in crate::store) fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for RunningOperation<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.recycle.cancelled.fetch_max(self.recycle.now(), Relaxed);
        }
    }
}
