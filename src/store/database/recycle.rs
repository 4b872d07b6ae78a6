//! Decides which pooled connections are closed instead of reused. A connection is closed if it was opened before the
//! last failure that may affect only existing connections.
//!
//! A pool resolves the host name of its server for each new connection. New connections therefore reach the new primary
//! after a failover.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use sea_orm::sqlx;

/// Timeout of a ping on a connection that was idle or whose operation was cancelled. A connection that does not respond
/// in time is closed. The timeout allows for one round trip and a slow server.
const ANSWER: Duration = Duration::from_secs(1);

/// Delay between two attempts to reach a server that does not respond.
const RECONNECT: Duration = Duration::from_millis(250);

/// Minimum interval between replacements of the read connections. Without it, each failed write on a read-only server
/// would replace all of them.
const READERS_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum time from the cancellation of an operation until its connection has been returned to the pool or closed. It
/// is longer than any operation.
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

    /// Marks every connection that is open now as discarded. A discarded connection is closed when it is released or
    /// next acquired. Read connections are discarded at most once per [`READERS_INTERVAL`].
    pub(in crate::store) fn discard(&self) {
        let now = self.now();
        self.writers.fetch_max(now, Relaxed);
        let interval = READERS_INTERVAL.as_millis() as u64;
        let due = |last: u64| (last == 0 || now.saturating_sub(last) >= interval).then_some(now);
        // An error means that the read connections were replaced less than one interval ago.
        let _is_recent = self.readers.fetch_update(Relaxed, Relaxed, due);
    }

    /// Returns the time of the last call to [`discard`](Self::discard), in milliseconds since `began`. Returns 0 if
    /// there was no such call.
    pub(in crate::store) fn discarded(&self) -> u64 {
        self.writers.load(Relaxed)
    }

    /// Returns a guard for one operation. Dropping it without [`RunningOperation::done`] records that the operation was
    /// cancelled.
    pub(in crate::store) fn running(&self) -> RunningOperation<'_> {
        RunningOperation { recycle: self, is_done: false }
    }

    /// Returns whether a connection was opened before the connections for the same use were last discarded.
    pub(in crate::store) fn is_discarded(&self, of: Use, age: Duration) -> bool {
        let before = match of {
            Use::Read => self.readers.load(Relaxed),
            Use::Write => self.writers.load(Relaxed),
        };
        before > 0 && self.opened(age) <= u128::from(before)
    }

    /// Returns whether an idle connection may be used. Otherwise, the pool closes it.
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

    /// Returns whether a connection may return to its pool. After a cancelled operation, the response may still be
    /// outstanding, so the connection is tested with a timeout. Without the timeout, a connection to a stalled server
    /// would occupy a slot of the pool indefinitely.
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

    /// Returns whether a connection responds in time. If it does not, the connection is replaced, and older idle
    /// connections are replaced at their next use.
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

    /// Returns the time at which a connection was opened, in milliseconds since `began`. The time is rounded down, so
    /// that a connection opened in the same millisecond as a fault counts as older.
    fn opened(&self, age: Duration) -> u128 {
        self.began.elapsed().saturating_sub(age).as_millis()
    }
}

/// Replaces an unresponsive connection with a new one. The pool then closes the new connection. The old connection is
/// dropped instead of closed, because closing it could wait without limit. Over TLS, the driver closes a connection
/// only after it has received data from the peer.
async fn abandon<C: sqlx::Connection>(connection: &mut C, options: &C::Options) {
    loop {
        if let Ok(Ok(fresh)) = tokio::time::timeout(ANSWER, C::connect_with(options)).await {
            *connection = fresh;
            return;
        }
        // The slot of the pool remains occupied while the server is unreachable. This is harmless, because no other
        // connection could be opened in that time.
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Guard that [`Recycle::running`] returns.
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
